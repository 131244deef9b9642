"""Reading what `/metrics` says, as far as commands need it. Pure.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from turnout import telemetry

FINE = frozenset({"ok", "cancelled"})
"""Codes of requests that did not fail: answered, or their client went away."""

_SAMPLE = re.compile(r'([A-Za-z_:][\w:]*)(?:\{((?:[^"}]|"(?:\\.|[^"\\])*")*)\})? (\S+)')
_LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')

Samples = Sequence[tuple[str, Mapping[str, str], float]]
Key = tuple[str, str, str]


def parse(exposed: str) -> list[tuple[str, dict[str, str], float]]:
    """Name, labels and value of every sample; other lines are skipped.

    >>> parse('# HELP a b\\na{x="1",y="a b"} 3\\nb 0.5')
    [('a', {'x': '1', 'y': 'a b'}, 3.0), ('b', {}, 0.5)]
    """
    found = []
    for line in exposed.splitlines():
        match = _SAMPLE.fullmatch(line)
        if match is not None:
            labels = {name: _unescaped(value) for name, value in _LABEL.findall(match[2] or "")}
            found.append((match[1], labels, float(match[3])))
    return found


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], value)


class Traffic(Struct, frozen=True, kw_only=True):
    """Requests of one variant since the server's start, or between two looks.

    Attributes:
        buckets: Upper bound in seconds -> requests up to it, in rising order.
    """

    requests: float = 0.0
    errors: float = 0.0
    buckets: Mapping[float, float] = {}

    def __sub__(self, older: "Traffic | None") -> "Traffic":
        if older is None:
            return self
        return Traffic(
            requests=max(0.0, self.requests - older.requests),
            errors=max(0.0, self.errors - older.errors),
            buckets={bound: max(0.0, n - older.buckets.get(bound, 0.0)) for bound, n in self.buckets.items()},
        )

    def quantile(self, q: float) -> float | None:
        """Seconds, interpolated within its bucket as Prometheus does; None without requests.

        >>> Traffic(buckets={1.0: 5, 2.0: 10, math.inf: 10}).quantile(0.75)
        1.5
        """
        total = max(self.buckets.values(), default=0.0)
        if total <= 0:
            return None
        below_s, below = 0.0, 0.0
        for bound, reached in self.buckets.items():
            if reached >= q * total:
                if math.isinf(bound) or reached == below:
                    return below_s
                return below_s + (bound - below_s) * (q * total - below) / (reached - below)
            below_s, below = bound, reached
        return below_s


def traffic(samples: Samples) -> dict[Key, Traffic]:
    """(endpoint, experiment, variant) -> what was counted."""
    requests: dict[Key, list[float]] = {}
    buckets: dict[tuple[str, str], dict[float, float]] = {}
    for name, labels, value in samples:
        if name == telemetry.REQUESTS:
            key = (labels["endpoint"], labels["experiment"], labels["variant"])
            counted = requests.setdefault(key, [0.0, 0.0])
            counted[0] += value
            counted[1] += value if labels["code"] not in FINE else 0.0
        elif name == f"{telemetry.REQUEST_DURATION}_bucket":
            bound = math.inf if labels["le"] == "+Inf" else float(labels["le"])
            buckets.setdefault((labels["endpoint"], labels["variant"]), {})[bound] = value
    return {
        key: Traffic(requests=all_, errors=errors, buckets=dict(sorted(buckets.get((key[0], key[2]), {}).items())))
        for key, (all_, errors) in requests.items()
    }

"""`turnout status --watch`: a table per endpoint and variant that is drawn anew every second.

Requests, errors and latencies come from the server's `/metrics`, which only grow whoever is replaced; the rate of
outcomes comes from the store, at most every few seconds and in a query that is bounded by time.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
import msgspec
from msgspec import Struct
from rich import console, table, text
from rich import live as rich_live

from turnout.cli import exits, exposition, logs, places, remote, screen
from turnout.errors import StoreError, TurnoutError
from turnout.stores import base, catalog

EVERY_S = 1.0
SPAN = 10
"""Rounds that a rate or a quantile looks back over: long enough to be steady, short enough to see a change."""

QUANTILES = (0.5, 0.95, 0.99)


class Row(Struct, frozen=True, kw_only=True):
    """One variant of one endpoint over the last seconds.

    Attributes:
        latency_s: Quantile as text -> seconds; missing without requests.
        share: Part of the endpoint's requests.
        outcomes: Outcome -> units with it, of the units the variant got in the running phase; None when not known.
    """

    endpoint: str
    experiment: str
    variant: str
    requests_per_s: float
    share: float
    errors: float
    error_ratio: float
    total: int
    latency_s: Mapping[str, float]
    outcomes: Mapping[str, float] | None = None


class Frame(Struct, frozen=True, kw_only=True):
    """What one redraw shows; one line of `--json`."""

    at: float
    revision: str
    convergence: str
    rows: list[Row]
    rollouts: Mapping[str, Any] = {}
    shadows: Mapping[str, Any] = {}
    refused: list[str] = []


Counts = Mapping[tuple[str, str, str], exposition.Traffic]


def rows(history: "deque[tuple[float, Counts]]", outcomes: Mapping[tuple[str, str], Mapping[str, float]]) -> list[Row]:
    """The table from the oldest and the newest counts that are kept."""
    (before, old), (now, new) = history[0], history[-1]
    span_s = now - before
    made = []
    per_endpoint: dict[str, float] = {}
    for key, traffic in new.items():
        since = traffic - old.get(key)
        per_endpoint[key[0]] = per_endpoint.get(key[0], 0.0) + since.requests
    for key in sorted(new):
        since = new[key] - old.get(key)
        endpoint, experiment, variant = key
        latency_s = {str(q): value for q in QUANTILES if (value := since.quantile(q)) is not None}
        made.append(
            Row(
                endpoint=endpoint,
                experiment=experiment,
                variant=variant,
                requests_per_s=since.requests / span_s if span_s else 0.0,
                share=since.requests / per_endpoint[endpoint] if per_endpoint[endpoint] else 0.0,
                errors=since.errors,
                error_ratio=since.errors / since.requests if since.requests else 0.0,
                total=int(new[key].requests),
                latency_s=latency_s,
                outcomes=outcomes.get((experiment, variant)),
            )
        )
    return made


class Outcomes:
    """Outcome rates per variant of the running phases, asked of the store now and then."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._url = url
        self._clock = clock
        self._next = 0.0
        self._known: dict[tuple[str, str], dict[str, float]] = {}

    def rates(self, endpoints: Mapping[str, Any]) -> Mapping[tuple[str, str], Mapping[str, float]]:
        """(experiment, variant) -> outcome -> share of units that had it; empty when the store cannot tell.

        A slow answer makes the next question wait ten times as long, so that looking never costs a tenth of a core.
        """
        started = self._clock()
        if self._url and started >= self._next:
            try:
                self._known = self._ask(endpoints)
            except StoreError:
                self._known = {}
            took_s = self._clock() - started
            self._next = self._clock() + max(2.0, 10 * took_s)
        return self._known

    def _ask(self, endpoints: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, float]]:
        found: dict[tuple[str, str], dict[str, float]] = {}
        store = catalog.open_store(self._url, read_only=True)
        try:
            names = [told.name for told in store.outcome_names()][:5]
            for experiment, phase in _phases(endpoints):
                for name in names:
                    query = base.UnitQuery(experiment=experiment, phase=phase, outcome=name, kind="conversion")
                    for variant, (n, y) in _summed(store.unit_sums(query)).items():
                        found.setdefault((experiment, variant), {})[name] = y / n if n else 0.0
        finally:
            store.close()
        return found


def _summed(sums: list[base.UnitSums]) -> dict[str, tuple[float, float]]:
    totals: dict[str, tuple[float, float]] = {}
    for part in sums:
        n, y = totals.get(part.variant, (0.0, 0.0))
        totals[part.variant] = (n + part.n, y + part.y)
    return totals


def _phases(endpoints: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for entry in endpoints.values():
        experiments = entry.get("experiments") or {}
        for name, told in experiments.items():
            if told.get("phase"):
                yield name, told["phase"]


def store_url(place: places.Place, given: str | None, *, given_url: str | None) -> str:
    """The store to ask for outcomes; "" when the server is elsewhere and none is named."""
    named = given or os.environ.get("TURNOUT_STORE", "")
    return named if named or given_url else logs.own_url(place)


def watch(url: str, store: str, *, as_json: bool, rounds: int | None = None) -> int:
    """Show the server at `url` until Ctrl-C, or for so many rounds."""
    frames = _frames(url, store, rounds)
    try:
        if as_json:
            for frame in frames:
                click.echo(line(frame))
            return exits.OK
        out = screen.open_console()
        if not out.is_terminal:
            for frame in frames:
                out.print(drawn(frame))
            return exits.OK
        with rich_live.Live(console=out, auto_refresh=False, screen=False) as shown:
            for frame in frames:
                shown.update(drawn(frame), refresh=True)
    except KeyboardInterrupt:
        return exits.OK
    return exits.OK


def _frames(url: str, store: str, rounds: int | None) -> Iterator[Frame]:
    history: deque[tuple[float, Counts]] = deque(maxlen=SPAN + 1)
    outcomes = Outcomes(store)
    done = 0
    while True:
        started = time.monotonic()
        frame = _look(url, history, outcomes)
        if frame is not None:
            yield frame
        done += 1
        if rounds is not None and done > rounds:
            return
        time.sleep(max(0.0, started + EVERY_S - time.monotonic()))


def _look(url: str, history: "deque[tuple[float, Counts]]", outcomes: Outcomes) -> Frame | None:
    """One frame; None on the first look, from which nothing can be told, or while the server does not answer."""
    try:
        status = remote.status(url)
        reply = remote.ask(url, "/metrics")
    except TurnoutError as error:
        history.clear()
        return Frame(at=time.time(), revision="", convergence=str(error), rows=[])
    samples = exposition.parse(reply.body.decode())
    history.append((time.monotonic(), exposition.traffic(samples)))
    if len(history) < 2:
        return None
    endpoints = status.get("endpoints") or {}
    shadows = {name: told for entry in endpoints.values() for name, told in (entry.get("shadows") or {}).items()}
    rollouts = {
        name: told
        for entry in endpoints.values()
        for name, told in (entry.get("experiments") or {}).items()
        if told.get("rollout")
    }
    return Frame(
        at=time.time(),
        revision=str(status.get("revision") or ""),
        convergence=(status.get("convergence") or {}).get("text", ""),
        rows=rows(history, outcomes.rates(endpoints)),
        rollouts=rollouts,
        shadows=shadows,
        refused=[error["message"] for error in (status.get("refused") or {}).get("errors", [])],
    )


def line(frame: Frame) -> str:
    """The frame for machines."""
    return msgspec.json.encode(frame).decode()


def drawn(frame: Frame) -> console.Group:
    """The frame for people."""
    heads = ("endpoint", "experiment", "variant", ">requests/s", ">share", ">errors", ">p50", ">p95", ">p99")
    outcome_names = sorted({name for row in frame.rows for name in (row.outcomes or {})})
    made = table.Table(title=None, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in (*heads, *(f">{name}" for name in outcome_names)):
        made.add_column(head.removeprefix(">"), justify="right" if head.startswith(">") else "left")
    for row in frame.rows:
        made.add_row(*_cells(row, outcome_names))
    parts: list[console.RenderableType] = [text.Text(frame.convergence, style="bold")]
    parts += [text.Text(f"refused: {error}", style="red") for error in frame.refused]
    parts.append(made if frame.rows else text.Text("no requests yet", style="dim"))
    for name, told in frame.rollouts.items():
        shares = ", ".join(f"{variant} {entry.get('weight', 0):g}" for variant, entry in told["variants"].items())
        parts.append(text.Text(f"rollout {name}: {_state(told['rollout'])}; {shares}"))
    for name, told in frame.shadows.items():
        counts = {**told, "dropped": sum((told.get("dropped") or {}).values())}
        told_text = ", ".join(f"{key} {value}" for key, value in counts.items() if isinstance(value, int | float))
        parts.append(text.Text(f"shadow {name}: {told_text}"))
    return console.Group(*parts)


def _state(told: Any) -> str:
    """A rollout's state in words, whatever the server tells of it."""
    if isinstance(told, Mapping):
        return ", ".join(f"{key} {value}" for key, value in told.items() if isinstance(value, str | int | float))
    return screen.shown(told)


def _cells(row: Row, outcome_names: list[str]) -> list[text.Text]:
    errors = screen.percent(row.error_ratio) if row.errors else "0 %"
    cells: list[object] = [row.endpoint, row.experiment, row.variant, f"{row.requests_per_s:.1f}"]
    cells += [screen.percent(row.share, 1), screen.styled(errors, "red" if row.errors else "")]
    cells += [screen.milliseconds(row.latency_s.get(str(q))) for q in QUANTILES]
    cells += [screen.percent((row.outcomes or {}).get(name)) for name in outcome_names]
    return [cell if isinstance(cell, text.Text) else text.Text(screen.shown(cell)) for cell in cells]

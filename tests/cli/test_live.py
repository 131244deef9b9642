"""What `turnout status --watch` makes of two looks at a server."""

import collections
import doctest
import io
import json
import math

import pytest
from rich import console

from turnout import telemetry
from turnout.cli import exposition, live, status


def exposed(requests: int, errors: int, slow: int) -> str:
    """The text a server exposes that has answered so many requests of one variant."""
    registry = telemetry.Registry()
    family = registry.counter(telemetry.REQUESTS, "Requests.", ("endpoint", "experiment", "variant", "code"))
    family.labels("reply", "structure", 'a"b\\c', "ok").inc(requests - errors)
    family.labels("reply", "structure", 'a"b\\c', "step-failed").inc(errors)
    family.labels("reply", "structure", "other", "ok").inc(requests)
    duration = registry.histogram(telemetry.REQUEST_DURATION, "Seconds.", ("endpoint", "variant"))
    for number in range(requests):
        duration.labels("reply", 'a"b\\c').observe(0.2 if number < slow else 0.002)
    return telemetry.render(registry.snapshot()).decode()


def looks(*texts: str) -> "collections.deque[tuple[float, live.Counts]]":
    return collections.deque((float(at), exposition.traffic(exposition.parse(text))) for at, text in enumerate(texts))


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(exposition).failed == 0


def test_rates_and_quantiles_are_of_the_time_between_two_looks() -> None:
    first, second = live.rows(looks(exposed(100, 10, 0), exposed(200, 30, 50)), {("structure", "other"): {"kept": 0.5}})
    assert (first.endpoint, first.experiment, first.variant) == ("reply", "structure", 'a"b\\c')
    assert first.requests_per_s == 100.0
    assert first.share == 0.5
    assert (first.errors, first.error_ratio) == (20.0, 0.2)
    assert first.total == 200
    assert first.latency_s["0.5"] <= 0.0025
    assert 0.1 < first.latency_s["0.95"] <= 0.25
    assert first.outcomes is None
    assert second.outcomes == {"kept": 0.5}
    assert second.latency_s == {}


def test_a_server_that_started_anew_shows_no_negative_rates() -> None:
    first, _ = live.rows(looks(exposed(100, 10, 0), exposed(5, 0, 0)), {})
    assert first.requests_per_s == 0.0
    assert first.errors == 0.0


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert exposition.Traffic(buckets={0.1: 0.0, math.inf: 4.0}).quantile(0.5) == 0.1
    assert exposition.Traffic().quantile(0.5) is None


def test_a_frame_is_drawn_with_rollouts_shadows_and_refusals() -> None:
    frame = live.Frame(
        at=1.0,
        revision="r",
        convergence="6 of 6 replicas on 3fa2, slowest after 0.4 s",
        rows=live.rows(looks(exposed(100, 10, 0), exposed(200, 30, 50)), {("structure", "other"): {"kept": 0.5}}),
        rollouts={"new-ranker": {"rollout": {"state": "ramping"}, "variants": {"canary": {"weight": 0.05}}}},
        shadows={"next": {"sent": 4, "failed": 1, "pipeline": "p", "dropped": {"queue": 2, "limit": 1}}},
        refused=["unknown key"],
    )
    out = console.Console(file=io.StringIO(), width=160, color_system=None)
    out.print(live.drawn(frame))
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "6 of 6 replicas on 3fa2",
        "refused: unknown key",
        "20.00 %",
        "50.00 %",
        "rollout new-ranker: state ramping; canary 0.05",
        "shadow next: sent 4, failed 1, dropped 3",
    ):
        assert part in shown


def test_machines_get_one_line_a_look() -> None:
    frame = live.Frame(at=1.0, revision="r", convergence="c", rows=[])
    told = json.loads(live.line(frame))
    assert told["convergence"] == "c"
    assert told["rows"] == []


FLEET = {
    "text": "1 of 2 replicas (2 of 4 workers) on 3fa2, slowest after 0.4 s",
    "behind": [
        {"replica": "b", "host": "far", "pid": 9, "url": "http://far", "revision": "77ab", "reason": "no model 'x'"}
    ],
    "refusals": [{"replica": "c", "host": "near", "pid": 8, "url": "http://near", "error": "unknown key"}],
}


def test_the_status_says_who_of_the_fleet_is_behind_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    out = console.Console(width=160, color_system=None, highlight=False, markup=False)
    told = {"revision": "3fa2", "url": "http://here", "convergence": FLEET, "converged": True}
    told |= {"control_plane": {"state": "running", "pid": 4, "restarts": 0, "duties": {"presence": {"error": "away"}}}}
    told |= {"overlay": {"number": 3, "at": 5.0, "author": "turnout", "reason": "step 2", "refused": None}}
    status.show(out, told)
    shown = capsys.readouterr().out
    assert "1 of 2 replicas (2 of 4 workers) on 3fa2" in shown
    assert "far pid 9 is on 77ab: no model 'x'" in shown
    assert "near pid 8 refuses: unknown key" in shown
    assert "! 1 other server of the fleet is behind" in shown
    assert "overlay 3 of" in shown
    assert "turnout step 2" in shown
    assert "presence fails: away" in shown

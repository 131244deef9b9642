"""What a server says about who serves which revision, in its own tree and in its fleet."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from turnout import telemetry
from turnout.stores import control
from turnout.supervisor import convergence, tally
from turnout.supervisor.settings import Settings

Serve = Callable[..., AbstractAsyncContextManager[Any]]
CONTROL_PLANE = (sys.executable, str(Path(__file__).with_name("small_control_plane.py")))

OWN = control.Replica(
    id="own", host="a", pid=1, revision="3fa2" * 3, since=90.0, workers=2, workers_current=2, settled_s=0.2, seen=100.0
)


def others(*replicas: control.Replica, at: float = 100.0) -> control.View:
    return control.View(replicas=replicas, at=at)


def test_a_server_alone_counts_its_workers() -> None:
    told = convergence.told(OWN, None, [{"worker": "w0.1", "since": 90.0}, {"worker": "w1"}], now=100.0)
    assert told["text"] == "1 of 1 replica (2 of 2 workers) on 3fa23fa23fa2, slowest after 0.2 s"
    assert told["since"] == {"w0.1": 90.0}
    assert told["behind"] == told["refusals"] == []


def test_all_of_a_fleet_are_counted_and_the_slowest_is_named() -> None:
    fleet = [structs.replace(OWN, id=f"r{n}", settled_s=n / 10) for n in range(5)]
    told = convergence.told(OWN, others(OWN, *fleet), (), now=100.0)
    assert told["text"] == "6 of 6 replicas on 3fa23fa23fa2, slowest after 0.4 s"
    assert told["replicas"] == {"total": 6, "current": 6}
    assert told["workers"] == {"total": 12, "current": 12}


def test_who_runs_an_older_revision_is_behind_with_its_reason() -> None:
    slow = structs.replace(OWN, id="slow", host="b", revision="77ab", since=50.0, settled_s=9.0)
    bad = structs.replace(slow, id="bad", refusal=("turnout.yaml:3: no model 'x'", "and more"))
    told = convergence.told(OWN, others(slow, bad), (), now=100.0)
    assert told["revision"] == OWN.revision
    assert told["text"] == "1 of 3 replicas (2 of 6 workers) on 3fa23fa23fa2, slowest after 0.2 s"
    assert [(one["replica"], one["revision"], one["reason"]) for one in told["behind"]] == [
        ("slow", "77ab", "it has not seen the change yet, or prepares it"),
        ("bad", "77ab", "turnout.yaml:3: no model 'x'; and more"),
    ]
    assert [refusal["error"] for refusal in told["refusals"]] == ["turnout.yaml:3: no model 'x'", "and more"]


def test_a_server_whose_fleet_has_gone_on_is_behind_itself() -> None:
    newer = structs.replace(OWN, id="newer", revision="beef", since=95.0)
    told = convergence.told(OWN, others(newer), (), now=100.0)
    assert told["revision"] == "beef"
    assert [one["replica"] for one in told["behind"]] == ["own"]


def test_a_missing_worker_is_told_with_its_trouble() -> None:
    own = structs.replace(OWN, workers_current=1, behind=("worker w1 is restarting: killed",))
    told = convergence.told(own, None, (), now=100.0)
    assert told["text"].startswith("0 of 1 replica (1 of 2 workers) on 3fa2")
    assert told["behind"][0]["reason"] == "worker w1 is restarting: killed"


def test_a_silent_server_is_gone_and_no_replica_counts_twice() -> None:
    silent = structs.replace(OWN, id="silent", seen=100.0 - control.GONE_S - 0.1)
    told = convergence.told(OWN, others(silent, structs.replace(OWN, revision="old")), (), now=100.0)
    assert told["replicas"] == {"total": 1, "current": 1}


def test_a_store_that_does_not_answer_is_not_taken_for_a_small_fleet() -> None:
    other = structs.replace(OWN, id="other")
    told = convergence.told(OWN, others(other, at=100.0), (), now=100.0 + control.GONE_S + 0.1)
    assert told["replicas"]["total"] == 1
    assert told["alone"]
    assert told["text"].endswith("; other servers are not known, the store does not answer")
    assert not convergence.told(OWN, others(other, at=100.0), (), now=105.0)["alone"]
    assert not convergence.told(OWN, None, (), now=100.0)["alone"]


def test_before_the_first_document_nothing_is_promised() -> None:
    own = structs.replace(OWN, revision="", since=0.0, workers_current=0)
    assert convergence.told(own, None, (), now=100.0)["text"] == "no revision is in force yet"


def test_the_status_tells_the_fleet_as_the_control_plane_sees_it(settings: Settings, serve: Serve) -> None:
    async def run() -> None:
        async with serve(settings, control_plane=CONTROL_PLANE) as running:
            status = await running.ready()
            other = control.Replica(
                id="other", host="far", pid=9, revision="0" * 12, since=1.0, workers=1, seen=time.time() + 60.0
            )
            view = control.View(
                replicas=(other,),
                at=time.time() + 60.0,
                duties={"presence": control.Duty(rounds=3, failures=2, error="away")},
            )
            (Path(settings.state) / "view.json").write_bytes(msgspec.json.encode(view))
            status = await running.until(lambda status: status["convergence"]["replicas"]["total"] == 2)
            assert [one["host"] for one in status["convergence"]["behind"]] == ["far"]
            assert status["control_plane"]["duties"]["presence"] == {"rounds": 3, "failures": 2, "error": "away"}
            lines = telemetry.render(await running.server.metrics()).decode().splitlines()
            assert f"{telemetry.REPLICAS} 2" in lines
            assert f"{telemetry.REPLICAS_CURRENT} 1" in lines
            assert f'{telemetry.CONTROL_FAILURES}{{duty="presence"}} 2' in lines
            assert any(line.startswith(f'{telemetry.SNAPSHOT_INFO}{{revision="{status["revision"]}"') for line in lines)

    asyncio.run(run())


def counted(value: float, *, kind: str = "counter", labels: tuple[str, ...] = ()) -> list[telemetry.FamilySnapshot]:
    names = ("l",) * len(labels)
    return [telemetry.FamilySnapshot("t", kind, "", names, "sum", (), (telemetry.Sample(labels, value),))]


def total(families: list[telemetry.FamilySnapshot]) -> float:
    return sum(sample.value for family in families for sample in family.samples)


def test_what_a_drained_worker_counted_last_counts_on() -> None:
    kept = tally.Tally()
    kept.heard("w0.1", counted(3))
    kept.ended("w0.1", counted(5))
    kept.heard("w0.2", counted(1))
    kept.ended("w0.2")
    assert total(kept.beside([])) == 6
    kept.ended("never heard")
    assert total(kept.beside([])) == 6


def test_a_worker_that_does_not_answer_counts_with_what_it_said_before() -> None:
    kept = tally.Tally()
    kept.heard("w0.1", counted(3))
    assert total(kept.beside(["w0.1"])) == 0
    assert total(kept.beside([])) == 3


def test_levels_end_with_their_process() -> None:
    kept = tally.Tally()
    kept.heard("w0.1", counted(3, kind="gauge"))
    kept.ended("w0.1", counted(4, kind="gauge"))
    assert kept.beside([]) == []


def test_label_sets_of_gone_workers_are_bounded() -> None:
    kept = tally.Tally()
    many = tuple(telemetry.Sample((str(number),), 1) for number in range(tally.SAMPLES))
    kept.ended("w0.1", [telemetry.FamilySnapshot("t", "counter", "", ("l",), "sum", (), many)])
    kept.ended("w0.2", counted(1, labels=("one more",)))
    (family,) = kept.beside([])
    assert len(family.samples) == tally.SAMPLES
    assert family.samples[-1].labels == ("one more",)

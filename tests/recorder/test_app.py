"""The recorder's loop: one per folder, patient with its store, complete at the end."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from turnout.errors import StoreError
from turnout.eventlog import segments
from turnout.events import Event, Outcome
from turnout.recorder import app
from turnout.stores import base, memory

MakeOutcomes = Callable[[int, int], list[Outcome]]
MakeFrame = Callable[[Sequence[Event]], bytes]


class Script(app.Stop):
    """Ends after so many pauses, and tells what they were; something may happen in each."""

    def __init__(
        self, settings: app.Settings, rounds: int, happening: Callable[[int], None] = lambda _at: None
    ) -> None:
        super().__init__(settings)
        self.rounds = rounds
        self.pauses: list[float] = []
        self.rests: list[float] = []
        self.happening = happening
        self.now = 0.0

    def wait(self, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        self.now += pause_s
        self.happening(len(self.pauses))
        self.asked = len(self.pauses) > self.rounds
        return self.asked or self.orphaned

    def rest(self, pause_s: float) -> None:
        self.rests.append(pause_s)
        self.now += pause_s
        self.happening(-len(self.rests))


class Fragile(memory.MemoryStore):
    """A store that is down for a while."""

    down = 0

    def append(
        self, events: Sequence[Event], checkpoint: base.Checkpoint | None, *, ingested_at: float, subject: base.Subject
    ) -> None:
        if self.down:
            self.down -= 1
            raise StoreError("the store is down.")
        super().append(events, checkpoint, ingested_at=ingested_at, subject=subject)


@pytest.fixture
def settings(tmp_path: Path) -> app.Settings:
    (tmp_path / "segments").mkdir()
    return app.Settings(state=tmp_path)


def kept(store: memory.MemoryStore) -> int:
    return sum(name.count for name in store.outcome_names())


def record(settings: app.Settings, script: Script, store: base.EventStore) -> tuple[int, app.Recorder]:
    recorder = app.Recorder(
        settings, script, open_store=lambda _url: store, clock=lambda: script.now, monotonic=lambda: script.now
    )
    return recorder.run(), recorder


def status(settings: app.Settings) -> app.Status:
    return msgspec.json.decode((settings.state / "recorder.json").read_bytes(), type=app.Status)


def test_what_lies_there_at_the_end_is_shipped(
    settings: app.Settings, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    store = memory.MemoryStore()
    writer = segments.Writer(settings.state / "segments" / "a.seg")

    def happening(at: int) -> None:
        if at == 3:
            writer.append(frame(outcomes(0, 10)))

    code, _ = record(settings, Script(settings, 2, happening), store)
    writer.close()

    assert (code, kept(store)) == (0, 10)
    assert status(settings).shipped == 10
    assert status(settings).state == "stopped"


def test_a_busy_pass_is_followed_at_once_and_an_idle_one_after_a_pause(
    settings: app.Settings, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    (settings.state / "segments" / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 3_000)))
    script = Script(settings, 3)

    record(settings, script, memory.MemoryStore())

    assert script.pauses == [0.0, 0.0, settings.poll_s, settings.poll_s]


def test_a_store_that_is_down_is_tried_again_with_growing_pauses(
    settings: app.Settings, outcomes: MakeOutcomes, frame: MakeFrame, caplog: pytest.LogCaptureFixture
) -> None:
    store = Fragile()
    store.down = 7
    (settings.state / "segments" / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 10)))
    seen: list[str] = []

    def happening(at: int) -> None:
        if at == 5:
            seen.append(status(settings).error)

    script = Script(settings, 8, happening)
    code, _ = record(settings, script, store)

    assert script.pauses[1:] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, settings.poll_s]
    assert (code, kept(store)) == (0, 10)
    assert seen == ["the store is down."]
    assert [record.message for record in caplog.records if "wait in" in record.message] != []
    assert sum("wait in" in record.message for record in caplog.records) == 1
    assert status(settings).error == ""


def test_a_store_that_cannot_be_opened_is_tried_again(settings: app.Settings) -> None:
    stores: list[base.EventStore | None] = [None, None, memory.MemoryStore()]

    def open_store(_url: str) -> base.EventStore:
        found = stores.pop(0)
        if found is None:
            raise StoreError("out of reach.")
        return found

    recorder = app.Recorder(settings, Script(settings, 4), open_store=open_store)

    assert recorder.run() == 0
    assert stores == []


def test_with_the_store_down_to_the_end_segments_stay_and_the_exit_code_says_so(
    settings: app.Settings, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    store = Fragile()
    store.down = 10**6
    path = settings.state / "segments" / "a.seg"
    path.write_bytes(segments.HEADER + frame(outcomes(0, 10)))
    script = Script(settings, 1)

    code, _ = record(settings, script, store)

    assert code == 3
    assert path.exists()
    assert sum(script.rests) <= settings.linger_s + 1


def test_an_orphan_waits_for_workers_that_still_write(
    settings: app.Settings, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    store = memory.MemoryStore()
    writer = segments.Writer(settings.state / "segments" / "a.seg")

    def happening(at: int) -> None:
        if at == 1:
            script.orphaned = True
        elif at == -3:
            writer.append(frame(outcomes(0, 10)))
        elif at == -5:
            writer.close()

    script = Script(settings, 10, happening)
    code, _ = record(settings, script, store)

    assert (code, kept(store), len(script.rests)) == (0, 10, 5)


def test_an_orphan_does_not_wait_for_ever(settings: app.Settings) -> None:
    writer = segments.Writer(settings.state / "segments" / "a.seg")
    script = Script(settings, 10)
    script.orphaned = True

    record(settings, script, memory.MemoryStore())
    writer.close()

    assert sum(script.rests) == pytest.approx(settings.linger_s, abs=0.2)


def test_there_is_one_recorder_per_folder(settings: app.Settings, outcomes: MakeOutcomes, frame: MakeFrame) -> None:
    (settings.state / "segments" / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 10)))
    lock = app.take_lock(settings.state)
    assert lock is not None
    script = Script(settings, 3)
    store = memory.MemoryStore()

    code, _ = record(settings, script, store)

    assert (code, kept(store)) == (0, 0)
    assert app.take_lock(settings.state) is None
    assert app.ship_once(settings.state) is None
    os.close(lock)
    record(settings, Script(settings, 1), store)
    assert kept(store) == 10


def test_ship_once_ships_into_the_default_store(
    settings: app.Settings, outcomes: MakeOutcomes, frame: MakeFrame
) -> None:
    (settings.state / "segments" / "a.seg").write_bytes(segments.HEADER + frame(outcomes(0, 10)))

    progress = app.ship_once(settings.state)

    assert progress is not None
    assert progress.events == 10
    assert (settings.state / "events.db").exists()
    again = app.ship_once(settings.state)
    assert again is not None
    assert again.events == 0


def test_a_signal_ends_the_pause(settings: app.Settings) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop = app.Stop(settings)
    try:
        stop.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(60.0)
        assert (stop.asked, stop.orphaned) == (True, False)
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_end_of_the_control_descriptor_ends_the_pause(settings: app.Settings) -> None:
    receive, send = os.pipe()
    stop = app.Stop(msgspec.structs.replace(settings, control=receive))
    os.write(send, b"a message for others")
    assert not stop.wait(0.001)
    os.close(send)

    assert stop.wait(60.0)
    assert stop.orphaned
    os.close(receive)


def test_another_parent_than_the_one_named_means_the_end(settings: app.Settings) -> None:
    stop = app.Stop(msgspec.structs.replace(settings, parent=1))

    assert stop.wait(60.0)
    assert stop.orphaned

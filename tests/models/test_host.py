"""A model's life in one process: loading, choosing where it computes, stuck calls, unloading."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from turnout.errors import DeadlineError, ModelError, SpecError, UnavailableError
from turnout.models import batcher, host

MakeHost = Callable[..., host.Host]
Soon = Callable[[], float]


def same(rows: list[Any]) -> list[Any]:
    return rows


def test_a_model_that_is_not_open_refuses(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    closed = make_host(lambda: scripted(same))
    with pytest.raises(UnavailableError, match="not loaded yet"):
        closed.submit(1, soon())
    assert closed.stats()["state"] == "new"
    assert not closed.ready


def test_loading_and_computing_happen_in_the_instances_thread(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    threads: list[str] = []

    def predict(rows: list[Any]) -> list[Any]:
        threads.append(threading.current_thread().name)
        return rows

    def factory() -> Any:
        threads.append(threading.current_thread().name)
        return scripted(predict, example=0)

    async def run() -> None:
        loaded = make_host(factory)
        await loaded.open()
        assert (await loaded.submit(1, soon())).value == 1
        await loaded.close(1.0)

    asyncio.run(run())
    assert set(threads) == {"turnout-rank-0"}


def test_a_model_that_does_not_load_says_why(make_host: MakeHost, scripted: Any) -> None:
    def factory() -> Any:
        raise ImportError("no such library")

    async def run() -> None:
        broken = make_host(factory)
        with pytest.raises(ModelError, match="model 'rank' did not load: ImportError: no such library"):
            await broken.open()
        assert broken.stats()["state"] == "failed"
        await broken.close(1.0)

    asyncio.run(run())


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_model_that_ends_the_program_while_it_loads_is_refused_like_any_other(
    make_host: MakeHost, raised: BaseException
) -> None:
    def factory() -> Any:
        raise raised

    async def run() -> None:
        with pytest.raises(ModelError, match=type(raised).__name__):
            await make_host(factory).open()

    asyncio.run(run())


def test_a_thread_that_dies_is_replaced_and_its_rows_are_answered(
    make_host: MakeHost, scripted: Any, soon: Soon, caplog: pytest.LogCaptureFixture
) -> None:
    class Dying(BaseException):
        """Passes every border but the last."""

    dying = [True]

    def clock() -> float:
        if dying[0] and threading.current_thread() is not threading.main_thread():
            dying[0] = False
            raise Dying
        return time.monotonic()

    async def run() -> None:
        loaded = make_host(lambda: scripted(same), timeout_s=0.1, clock=clock)
        dying[0] = False
        await loaded.open()
        dying[0] = True
        assert (await loaded.submit(1, soon())).value == 1
        assert loaded.stats()["replaced"] == 1
        await loaded.close(1.0)

    asyncio.run(run())
    assert "cannot go on" in caplog.text


def test_a_second_instance_that_does_not_load_gives_the_first_one_back(make_host: MakeHost, scripted: Any) -> None:
    made: list[Any] = []

    def factory() -> Any:
        if made:
            raise MemoryError("no room")
        made.append(scripted(same))
        return made[0]

    async def run() -> None:
        broken = make_host(factory, instances=2)
        with pytest.raises(ModelError, match="MemoryError: no room"):
            await broken.open()
        await broken.close(30.0)
        deadline = time.monotonic() + 10.0
        while made[0].loaded and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        assert not made[0].loaded

    asyncio.run(run())


def test_an_unload_that_raises_is_logged(make_host: MakeHost, scripted: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Clingy(scripted):  # type: ignore[misc]
        def unload(self) -> None:
            raise RuntimeError("not yet")

    async def run() -> None:
        loaded = make_host(lambda: Clingy(same))
        await loaded.open()
        await loaded.close(5.0)

    asyncio.run(run())
    assert "turnout-rank-0: unloading failed" in caplog.text


def test_an_unmeasured_native_model_finds_its_way_to_the_loop(
    make_host: MakeHost, native_scripted: Any, soon: Soon
) -> None:
    async def run() -> None:
        loaded = make_host(lambda: native_scripted(same))
        await loaded.open()
        assert loaded.stats()["execution"] == "thread"
        for _ in range(100):
            await loaded.submit(1, soon())
        assert loaded.stats()["execution"] == "loop"
        await loaded.close(1.0)

    asyncio.run(run())


def test_what_a_runtime_refuses_keeps_its_own_error(make_host: MakeHost, scripted: Any) -> None:
    def factory() -> Any:
        raise SpecError("not pinned", path="digest")

    async def run() -> None:
        with pytest.raises(SpecError, match="not pinned"):
            await make_host(factory).open()

    asyncio.run(run())


def test_a_model_that_fails_on_its_example_is_not_opened(make_host: MakeHost, scripted: Any) -> None:
    def predict(rows: list[Any]) -> list[Any]:
        raise ValueError("cold")

    async def run() -> None:
        with pytest.raises(ModelError, match="ValueError: cold"):
            await make_host(lambda: scripted(predict, example=1)).open()
        unwarmed = make_host(lambda: scripted(predict, example=1), warmup=False)
        await unwarmed.open()
        assert unwarmed.ready
        await unwarmed.close(1.0)

    asyncio.run(run())


def test_only_native_models_may_be_put_on_the_loop(make_host: MakeHost, scripted: Any) -> None:
    async def run() -> None:
        with pytest.raises(SpecError, match="execution: loop, which only native runtimes may have"):
            await make_host(lambda: scripted(same), execution="loop").open()

    asyncio.run(run())


def test_auto_puts_a_short_native_model_on_the_loop_and_a_python_one_in_its_thread(
    make_host: MakeHost, scripted: Any, native_scripted: Any, soon: Soon
) -> None:
    threads: list[threading.Thread] = []

    def predict(rows: list[Any]) -> list[Any]:
        threads.append(threading.current_thread())
        return rows

    async def run() -> None:
        for kind, expected in ((native_scripted, "loop"), (scripted, "thread")):
            loaded = make_host(lambda kind=kind: kind(predict, example=0))
            await loaded.open()
            threads.clear()
            await loaded.submit(1, soon())
            assert loaded.stats()["execution"] == expected
            assert (threads[0] is threading.main_thread()) == (expected == "loop")
            await loaded.close(1.0)

    asyncio.run(run())


def test_auto_moves_a_model_that_became_slow_to_its_thread_and_back(
    make_host: MakeHost, native_scripted: Any, soon: Soon
) -> None:
    slow = [False]

    def predict(rows: list[Any]) -> list[Any]:
        until = time.thread_time() + (0.002 if slow[0] else 0.0)
        while time.thread_time() < until:
            pass
        return rows

    async def run() -> None:
        loaded = make_host(lambda: native_scripted(predict, example=0))
        await loaded.open()
        assert loaded.stats()["execution"] == "loop"
        for now_slow, expected in ((True, "thread"), (False, "loop")):
            slow[0] = now_slow
            for _ in range(100):
                await loaded.submit(1, soon())
            assert loaded.stats()["execution"] == expected
        await loaded.close(1.0)

    asyncio.run(run())


def test_several_instances_compute_at_the_same_time(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    together = threading.Barrier(3, timeout=10.0)

    def predict(rows: list[Any]) -> list[Any]:
        together.wait()
        return rows

    async def run() -> None:
        loaded = make_host(lambda: scripted(predict), instances=3, batching=batcher.Batching(max_rows=1))
        await loaded.open()
        answers = await asyncio.gather(*(loaded.submit(i, soon()) for i in range(6)))
        assert [answer.value for answer in answers] == list(range(6))
        assert loaded.stats()["instances"] == 3
        await loaded.close(1.0)

    asyncio.run(run())


def test_rows_that_come_while_a_batch_runs_travel_in_the_next_one(
    make_host: MakeHost, scripted: Any, soon: Soon
) -> None:
    started, go_on = threading.Event(), threading.Event()
    seen: list[list[int]] = []

    def predict(rows: list[Any]) -> list[Any]:
        seen.append(rows)
        started.set()
        assert go_on.wait(10.0)
        return rows

    async def run() -> None:
        loaded = make_host(lambda: scripted(predict))
        await loaded.open()
        first = loaded.submit(0, soon())
        await asyncio.to_thread(started.wait, 10.0)
        others = [loaded.submit(i, soon()) for i in range(1, 6)]
        go_on.set()
        await asyncio.gather(first, *others)
        assert seen == [[0], [1, 2, 3, 4, 5]]
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_delay_gathers_rows_of_several_moments(make_host: MakeHost, native_scripted: Any, soon: Soon) -> None:
    seen: list[list[int]] = []

    def predict(rows: list[Any]) -> list[Any]:
        seen.append(rows)
        return rows

    async def run() -> None:
        loaded = make_host(
            lambda: native_scripted(predict), batching=batcher.Batching(max_rows=3, max_delay_s=5.0), execution="loop"
        )
        await loaded.open()
        futures = []
        for i in range(3):
            futures.append(loaded.submit(i, soon()))
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.gather(*futures)
        assert seen == [[0, 1, 2]]
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_delay_that_is_over_lets_a_single_row_go(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    async def run() -> None:
        loaded = make_host(lambda: scripted(same), batching=batcher.Batching(max_delay_s=0.01))
        await loaded.open()
        answer = await loaded.submit(1, soon())
        assert answer.wait_s >= 0.01
        await loaded.close(1.0)

    asyncio.run(run())


class Sticky:
    """Calls that hang until the test lets go."""

    def __init__(self) -> None:
        self.stuck = threading.Event()
        self.release = threading.Event()

    def predict(self, rows: list[Any]) -> list[Any]:
        if "hang" in rows:
            self.stuck.set()
            self.release.wait(30.0)
        return rows


def test_a_stuck_call_is_answered_and_its_instance_replaced(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    sticky = Sticky()

    async def run() -> None:
        loaded = make_host(lambda: scripted(sticky.predict), timeout_s=0.05)
        await loaded.open()
        with pytest.raises(DeadlineError, match=r"within its timeout of 0\.05 s and was given up"):
            await loaded.submit("hang", soon())
        assert (await loaded.submit("fine", soon())).value == "fine"
        assert loaded.stats()["replaced"] == 1
        assert loaded.healthy
        sticky.release.set()
        await loaded.close(1.0)

    asyncio.run(run())


def test_the_third_stuck_call_makes_the_model_unhealthy(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    sticky = Sticky()

    async def run() -> None:
        loaded = make_host(lambda: scripted(sticky.predict), timeout_s=0.02, batching=batcher.Batching(max_rows=1))
        await loaded.open()
        for _ in range(3):
            with pytest.raises(DeadlineError):
                await loaded.submit("hang", soon())
        assert not loaded.healthy
        assert not loaded.ready
        with pytest.raises(UnavailableError, match="hung more often than it is replaced"):
            loaded.submit("fine", soon())
        sticky.release.set()
        await loaded.close(1.0)

    asyncio.run(run())


def test_rows_waiting_behind_the_last_stuck_call_are_refused(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    sticky = Sticky()

    async def run() -> None:
        loaded = make_host(lambda: scripted(sticky.predict), timeout_s=0.02, batching=batcher.Batching(max_rows=1))
        await loaded.open()
        hanging = [loaded.submit("hang", soon()) for _ in range(3)]
        waiting = loaded.submit("fine", soon())
        errors = await asyncio.gather(*hanging, waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [DeadlineError] * 3 + [UnavailableError]
        sticky.release.set()
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_replacement_that_does_not_load_makes_the_model_unhealthy(
    make_host: MakeHost, scripted: Any, soon: Soon
) -> None:
    sticky = Sticky()
    made: list[int] = []

    def factory() -> Any:
        made.append(1)
        if len(made) > 1:
            raise MemoryError("no room for another copy")
        return scripted(sticky.predict)

    async def run() -> None:
        loaded = make_host(factory, timeout_s=0.02)
        await loaded.open()
        with pytest.raises(DeadlineError):
            await loaded.submit("hang", soon())
        deadline = time.monotonic() + 10.0
        while loaded.healthy and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        assert not loaded.healthy
        sticky.release.set()
        await loaded.close(1.0)

    asyncio.run(run())


def test_a_deadline_answers_long_before_the_timeout_gives_up(make_host: MakeHost, scripted: Any) -> None:
    sticky = Sticky()

    async def run() -> None:
        loaded = make_host(lambda: scripted(sticky.predict))
        await loaded.open()
        with pytest.raises(DeadlineError, match="did not answer within the deadline"):
            await loaded.submit("hang", time.monotonic() + 0.02)
        sticky.release.set()
        await loaded.close(1.0)

    asyncio.run(run())


def test_closing_lets_waiting_rows_finish_and_unloads(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    runtimes: list[Any] = []

    def factory() -> Any:
        runtimes.append(scripted(same))
        return runtimes[-1]

    async def run() -> None:
        loaded = make_host(factory, batching=batcher.Batching(max_rows=2), instances=2)
        await loaded.open()
        futures = [loaded.submit(i, soon()) for i in range(9)]
        await loaded.close(10.0)
        assert [future.result().value for future in futures] == list(range(9))
        with pytest.raises(UnavailableError, match="being unloaded"):
            loaded.submit(1, soon())
        assert [runtime.loaded for runtime in runtimes] == [False, False]
        assert loaded.stats()["state"] == "closed"

    asyncio.run(run())


def test_closing_answers_what_does_not_finish_in_time(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    sticky = Sticky()

    async def run() -> None:
        loaded = make_host(lambda: scripted(sticky.predict), batching=batcher.Batching(max_rows=1))
        await loaded.open()
        futures = [loaded.submit(row, soon()) for row in ("hang", "fine")]
        await asyncio.to_thread(sticky.stuck.wait, 10.0)
        await loaded.close(0.01)
        errors = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(error) for error in errors] == [UnavailableError, UnavailableError]
        sticky.release.set()

    asyncio.run(run())


def test_status_tells_what_the_model_did(make_host: MakeHost, scripted: Any, soon: Soon) -> None:
    async def run() -> None:
        loaded = make_host(lambda: scripted(same, example=0))
        await loaded.open()
        await asyncio.gather(*(loaded.submit(i, soon()) for i in range(10)))
        stats = loaded.stats()
        await loaded.close(1.0)
        assert (stats["state"], stats["version"], stats["execution"]) == ("ready", "0123456789ab", "thread")
        assert (stats["batches"], stats["rows"], stats["mean_batch_rows"]) == (1, 10, 10.0)
        assert stats["batch_s"] > 0.0

    asyncio.run(run())


@pytest.mark.parametrize("execution", ["loop", "thread"])
def test_answers_never_cross_under_random_cancellation_and_failure(
    make_host: MakeHost, native_scripted: Any, execution: str, soon: Soon
) -> None:
    def predict(rows: list[Any]) -> list[Any]:
        if any(row % 17 == 0 for row in rows):
            raise ValueError("17")
        return [row * 10 for row in rows]

    async def one(loaded: host.Host, i: int) -> None:
        future = loaded.submit(i, soon())
        for _ in range(i % 5):
            await asyncio.sleep(0)
        if i % 7 == 0:
            future.cancel()
        (answer,) = await asyncio.gather(future, return_exceptions=True)
        if isinstance(answer, ModelError):
            assert i % 17 == 0
        elif not isinstance(answer, BaseException):
            assert answer.value == i * 10
        else:
            assert isinstance(answer, asyncio.CancelledError)
            assert i % 7 == 0

    async def run() -> None:
        loaded = make_host(
            lambda: native_scripted(predict),
            execution=execution,
            instances=3,
            batching=batcher.Batching(max_rows=8, max_queue_rows=5000),
        )
        await loaded.open()
        await asyncio.gather(*(one(loaded, i) for i in range(3000)))
        await loaded.close(10.0)

    asyncio.run(run())

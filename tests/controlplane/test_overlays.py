"""How an overlay comes from the store to the supervisor."""

from collections.abc import Callable
from typing import Any

from turnout.controlplane import duties, overlays
from turnout.stores import control, control_memory
from turnout.transport import control as channel

Play = Callable[..., None]


def propose(scene: Any, content: str, after: int) -> control.Overlay:
    made: control.Overlay = scene.store.propose(content, after=after, author="turnout", reason="step", at=5.0)
    return made


def numbers(scene: Any) -> list[int]:
    return [said.number for said in scene.supervisor.overlays]


def test_that_there_is_no_overlay_is_said_once_and_each_new_one_once(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        duty = overlays.Overlays(scene.context)
        await duty.run()
        await duty.run()
        assert numbers(scene) == [0]
        propose(scene, "a", 0)
        propose(scene, "b", 1)
        await duty.run()
        await duty.run()
        assert scene.supervisor.overlays[1:] == [
            channel.OverlayText(number=2, content="b", author="turnout", reason="step", at=5.0)
        ]

    play(scenario)


def test_the_first_overlay_of_a_database_made_anew_is_brought_too(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        duty = overlays.Overlays(scene.context)
        propose(scene, "a", 0)
        await duty.run()
        scene.store = control_memory.MemoryControlStore()
        await scene.context.control.close()
        anew = duties.Context(scene.context.settings, open_control=lambda _: scene.store, clock=lambda: scene.now)
        scene.context.control = anew.control
        scene.store.propose("b", after=0, author="mia", reason="", at=50.0)
        await duty.run()
        assert [said.content for said in scene.supervisor.overlays] == ["a", "b"]

    play(scenario)


def test_a_refused_overlay_is_reported_once_and_not_offered_again_until_something_changed(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        duty = overlays.Overlays(scene.context)
        scene.supervisor.refuse = [channel.Problem(message="no such rollout", path="rollouts.x")]
        propose(scene, "a", 0)
        await duty.run()
        await duty.run()
        assert numbers(scene) == [1]
        (look,) = scene.store.looks(overlays.REFUSALS, "1")
        assert look.kind == "refused"
        assert "rollouts.x: no such rollout" in look.payload

        duty.reconsider()
        await duty.run()
        assert numbers(scene) == [1, 1]
        assert len(scene.store.looks(overlays.REFUSALS, "1")) == 1
        propose(scene, "b", 1)
        await duty.run()
        assert numbers(scene) == [1, 1, 2]

    play(scenario)


def test_an_overlay_during_which_a_worker_was_lost_is_offered_again(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        duty = overlays.Overlays(scene.context)
        scene.supervisor.refuse, scene.supervisor.lost = [channel.Problem(message="it died")], True
        propose(scene, "a", 0)
        await duty.run()
        scene.supervisor.refuse = []
        await duty.run()
        await duty.run()
        assert numbers(scene) == [1, 1]
        assert scene.store.looks(overlays.REFUSALS, "1") == []

    play(scenario)

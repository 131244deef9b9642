"""Where a model computes: on the event loop, or in its instances' threads. Made by `host`, told of every batch.

A model whose batch takes less than a thread hop computes on the loop, all others in their instance's thread. `auto`
chooses by the measured time of a batch and keeps measuring. Only native runtimes may compute on the loop, because
a blocked loop fires no timer: who computes elsewhere can be given up when stuck.
"""

import math
from typing import Literal

from turnout.errors import SpecError
from turnout.models import batcher

LOOP_S = 500e-6
"""Batches shorter than this compute on the loop under `auto`.

Source: on a busy 2-core machine a model of 150 microseconds a batch answered 1.6 times as many requests on the
loop as in its thread, for the interpreter lock's sake; half a millisecond is what a neighbour's request may wait.
"""

BACK_RATIO = 0.7
"""To come back to the loop, a model must take this share of `LOOP_S`, so that it does not go to and fro."""

CAP_RATIO = 4
"""One batch counts at most this many times `LOOP_S`: one pause of the machine must not move a model."""

Execution = Literal["auto", "loop", "thread"]


class Placement:
    """The choice for one model.

    Args:
        execution: As in the document; `auto` leaves it to the measured times.

    Attributes:
        on_loop: Whether batches compute on the event loop from now on. Written on the loop, read by all threads.
    """

    def __init__(self, execution: Execution) -> None:
        self.on_loop = False
        self._execution = execution
        self._native = False
        self._batch_s = math.inf

    def check(self, alias: str, *, native: bool) -> None:
        """The model's runtime is known.

        Raises:
            SpecError: It is not native, and the document asks for the loop.
        """
        self._native = native
        if self._execution == "loop" and not native:
            raise SpecError(
                f"model {alias!r} asks for execution: loop, which only native runtimes may have: "
                "a call that hangs there would stop every request.",
                hint="Write execution: auto or thread.",
            )

    def measured(self, batch_s: float) -> None:
        """A warm model takes so long for one row: what all further measurements begin from."""
        self._batch_s = batch_s

    def choose(self) -> None:
        """Choose by what is known before the first call."""
        self.on_loop = self._execution == "loop" or (self._execution == "auto" and self._short())

    def spent(self, batch_s: float) -> None:
        """A batch took so long; see whether the model belongs elsewhere."""
        if self._execution != "auto" or not self._native:
            return
        before_s, capped_s = (min(each, CAP_RATIO * LOOP_S) for each in (self._batch_s, batch_s))
        self._batch_s = before_s + batcher.SMOOTHING * (capped_s - before_s)
        self.on_loop = self._short()

    def _short(self) -> bool:
        return self._native and self._batch_s < (LOOP_S if self.on_loop else BACK_RATIO * LOOP_S)

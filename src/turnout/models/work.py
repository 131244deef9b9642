"""One batch of rows: whose they are, computing them, and finding the bad ones.

Made by `batcher`, computed by `host` on any thread. Calls the model and nothing else.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

Predict: TypeAlias = Callable[[list[Any]], list[Any]]
Clock: TypeAlias = Callable[[], float]

CAUSE_CHARACTERS = 300
"""What a model says when it raises is passed on up to this length."""


class Answer(Struct, gc=False):
    """The answer to one call.

    Attributes:
        value: What the model gave for the row; for many rows the list of it.
        wait_s: Time from the call to the start of its batch (the longest, over several batches).
        compute_s: Time of its batch (the longest).
        batch_rows: Rows in its batch (the largest).
    """

    value: Any
    wait_s: float
    compute_s: float
    batch_rows: int


class Ticket(Struct, eq=False):
    """One call waiting for answers: a single row, or several when `values` is a list."""

    future: Any  # asyncio.Future[Answer]: a class that msgspec need not know
    rows: Sequence[Any]
    deadline: float
    queued_s: float
    values: list[Any] | None = None
    taken: int = 0
    turn: int = 0
    missing: int = 0
    wait_s: float = 0.0
    compute_s: float = 0.0
    batch_rows: int = 0


class Failure:
    """Stands in a batch's values where a row has no answer: the exception, or None for a row nobody waits for."""

    __slots__ = ("cause",)

    def __init__(self, cause: BaseException | None) -> None:
        self.cause = cause


class Batch:
    """Rows that are computed together; the answer at place i belongs to row i of `owners` and `places`."""

    __slots__ = (
        "compute_s",
        "cpu_s",
        "failed",
        "owners",
        "places",
        "reason",
        "rows",
        "started_s",
        "values",
        "waited_s",
    )

    def __init__(self) -> None:
        self.owners: list[Ticket] = []
        self.places: list[int] = []
        self.rows: list[Any] = []
        self.reason = ""
        self.waited_s = 0.0
        self.started_s = 0.0
        self.compute_s = 0.0
        self.values: list[Any] = []
        self.failed = False


def compute(batch: Batch, predict: Predict, clock: Clock) -> None:
    """Run the batch; when it fails, halve it until the bad rows stand alone.

    Never raises for what the model does. A row is computed at most 1 + log2(rows) times; a row
    whose caller is gone or late is not computed again.
    """
    batch.started_s = started = clock()
    try:
        batch.values = _predicted(predict, batch.rows)
    except BaseException as error:  # noqa: BLE001 - a border: user code may raise anything, KeyboardInterrupt too
        batch.failed = True
        batch.values = _halved(batch, predict, clock, error)
    batch.compute_s = clock() - started


def _predicted(predict: Predict, rows: list[Any]) -> list[Any]:
    values = predict(rows)
    if len(values) != len(rows):
        raise ValueError(f"answered {len(values)} rows for {len(rows)}; expected one answer a row, in order")
    return values


def _halved(batch: Batch, predict: Predict, clock: Clock, error: BaseException) -> list[Any]:
    values: list[Any] = [Failure(None)] * len(batch.rows)
    bad: list[tuple[list[int], BaseException]] = [(list(range(len(batch.rows))), error)]
    while bad:
        places, cause = bad.pop()
        if len(places) == 1:
            values[places[0]] = Failure(cause)
            continue
        middle = len(places) // 2
        for half in (places[:middle], places[middle:]):
            now = clock()
            live = [i for i in half if batch.owners[i].deadline > now and not batch.owners[i].future.done()]
            if not live:
                continue
            try:
                found = _predicted(predict, [batch.rows[i] for i in live])
            except BaseException as raised:  # noqa: BLE001 - as above
                bad.append((live, raised))
            else:
                for i, value in zip(live, found, strict=True):
                    values[i] = value
    return values


def said(cause: BaseException) -> str:
    """What an exception says, in one line that may be shown to a caller."""
    text = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    return text if len(text) <= CAUSE_CHARACTERS else text[:CAUSE_CHARACTERS] + "..."

"""Revisions that came into force and wait until the control plane has written them into the store's history. Pure.

Kept by the tree.
"""

from collections import deque

from turnout.stores.control import RevisionRecord

TEXT_BYTES = 16 * 2**20
"""Document text that may wait; beyond it the oldest are dropped and counted."""

TOLD = 20
"""Chapters in one answer."""

TOLD_BYTES = 8 * 2**20


class Chronicle:
    """The chapters that wait.

    >>> chronicle = Chronicle()
    >>> chronicle.add(RevisionRecord(revision="a", at=1.0))
    >>> chronicle.add(RevisionRecord(revision="b", at=2.0))
    >>> [(number, record.revision) for number, record in chronicle.after(0)]
    [(1, 'a'), (2, 'b')]
    >>> [number for number, _ in chronicle.after(1)]
    [2]

    Attributes:
        dropped: Chapters that found no room while the store was away.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[tuple[int, RevisionRecord, int]] = deque()
        self._number = 0
        self._bytes = 0

    def add(self, record: RevisionRecord) -> None:
        """A revision has come into force."""
        self._number += 1
        size = sum(map(len, record.document.values()))
        self._waiting.append((self._number, record, size))
        self._bytes += size
        while self._bytes > TEXT_BYTES and len(self._waiting) > 1:
            self._forget()
            self.dropped += 1

    def after(self, number: int) -> list[tuple[int, RevisionRecord]]:
        """The chapters behind that number, at most `TOLD`; what lies before it is written down, and forgotten here."""
        while self._waiting and self._waiting[0][0] <= number:
            self._forget()
        told: list[tuple[int, RevisionRecord]] = []
        room = TOLD_BYTES
        for index, record, size in self._waiting:
            room -= size
            if len(told) == TOLD or (told and room < 0):
                break
            told.append((index, record))
        return told

    def _forget(self) -> None:
        _, _, size = self._waiting.popleft()
        self._bytes -= size

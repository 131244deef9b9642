"""Where the recorder puts what it cannot read or the store will never take: kept, counted, never silently lost."""

import logging
import os
from pathlib import Path

logger = logging.getLogger("turnout.recorder")


class Quarantine:
    """A folder for damaged stretches of segments and refused records.

    Args:
        directory: Usually `segments/broken`; created when first needed.
        limit_bytes: Above this size nothing more is kept, only counted.
    """

    def __init__(self, directory: Path, limit_bytes: int = 256 * 2**20) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self.pieces = 0
        self.bytes = 0

    def keep(self, segment: str, offset: int, data: bytes, why: str) -> None:
        """Put bytes of a segment aside. The same place put aside twice is one file.

        Raises:
            OSError: They cannot be written; the caller tries again later.
        """
        place = self._directory / f"{segment}@{offset}"
        self._directory.mkdir(parents=True, exist_ok=True)
        kept = sum(entry.stat().st_size for entry in os.scandir(self._directory))
        if kept + len(data) <= self._limit_bytes:
            place.write_bytes(data)
        self.pieces += 1
        self.bytes += len(data)
        logger.error("segment %s, byte %d: %s; %d bytes put aside in %s", segment, offset, why, len(data), place)

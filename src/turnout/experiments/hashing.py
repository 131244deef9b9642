"""The one hash of algorithm v1: words of SHA-256 over seed, 0x00 and unit.

Called by layers and holdouts; `assignment` does the same inline, where every tenth of a
microsecond counts. Frozen with algorithm v1.
"""

import hashlib
import struct
from typing import Final

MILLION: Final = 1_000_000

_first_word = struct.Struct(">Q24x").unpack


class Seeded:
    """H with its seed taken in once. The seed holds no 0x00, so that seed and unit stay apart."""

    __slots__ = ("_prefix", "seed")

    def __init__(self, seed: str) -> None:
        assert "\0" not in seed, f"seed {seed!r} holds 0x00"
        self.seed = seed
        self._prefix = hashlib.sha256(seed.encode() + b"\0")

    def word(self, unit: str) -> int:
        """The first eight bytes of H(seed 0x00 unit), big-endian: 0..2^64 - 1.

        Raises:
            UnicodeEncodeError: The unit holds a lone surrogate, which UTF-8 cannot carry.
        """
        digest = self._prefix.copy()
        digest.update(unit.encode())
        word: int = _first_word(digest.digest())[0]
        return word

"""Writes vectors.json: assignments computed a second, plain way, straight from the definition of algorithm v1.

Shares no line with the package. Run once, by hand; the file is frozen:

    python tests/experiments/generate_vectors.py > tests/experiments/vectors.json
"""

import hashlib
import json
import math
import random
import sys

ALPHABETS = (
    "0123456789abcdef",
    "abcXYZ-_.@",
    "äöüßÉ",
    "日本語한국어",
    "🚂🔀",
    " \t\n\"\\/'",
    "\x00\x01\x7f",
    "e\u0301\u200d\ufeff",
)
SPLITS: tuple[tuple[str, dict[str, float]], ...] = (
    ("structure", {"retrieval": 50, "generation": 50}),
    ("structure", {"retrieval": 90, "generation": 10}),
    ("s2", {"a": 60, "b": 30, "c": 10}),
    ("config", {"control": 1, "treatment": 1}),
    ("x", {"a": 0.001, "b": 99.999}),
    ("Größe", {"ä": 1, "a": 2, "日": 3, "off": 0}),
    ("layer:reply", {f"v{i:02}": i + 1 for i in range(12)}),
)


def word(digest: bytes, index: int) -> int:
    return int.from_bytes(digest[8 * index : 8 * index + 8], byteorder="big")


def vector(seed: str, weights: dict[str, float], unit: str | int) -> dict[str, object]:
    text = str(unit).encode("utf-8")
    scores = {}
    for name, weight in weights.items():
        if weight > 0:
            w = word(hashlib.sha256(seed.encode("utf-8") + b"\x00" + text + b"\x00" + name.encode("utf-8")).digest(), 0)
            scores[name] = math.log((w + 0.5) / 2**64) / weight
    best = max(scores.values())
    d = hashlib.sha256(seed.encode("utf-8") + b"\x00" + text).digest()
    return {
        "seed": seed,
        "weights": weights,
        "unit": unit,
        "variant": min((n for n in scores if scores[n] == best), key=lambda n: n.encode("utf-8")),
        "ramp_point_ppm": word(d, 0) * 1_000_000 >> 64,
        "sub_bucket": word(d, 1) * 100 >> 64,
    }


def units(rng: random.Random) -> list[str | int]:
    fixed: list[str | int] = [
        "user-1",
        "user-2",
        42,
        "42",
        "Zoë",
        "Zoe\u0308",
        " user-1",
        "user-1 ",
        "USER-1",
        "0",
        0,
        -1,
    ]
    fixed += [2**63, 2**64, "x" * 55, "x" * 64, "x" * 200, "null", "None", "true", "1e3", "\x00", "a\x00b"]
    drawn: list[str | int] = []
    while len(drawn) < 1000 // len(SPLITS) + 1 - len(fixed):
        alphabet = rng.choice(ALPHABETS)
        drawn.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))))
    return fixed + drawn


def main() -> None:
    rng = random.Random(20260101)
    vectors = [vector(seed, weights, unit) for seed, weights in SPLITS for unit in units(rng)][:1000]
    lines = ",\n".join(json.dumps(v, ensure_ascii=True, sort_keys=True) for v in vectors)
    sys.stdout.write(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

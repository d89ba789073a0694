"""Seeds: every random draw of a run follows from the run's seed and what the draw is for."""

from __future__ import annotations

import hashlib


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 31-bit seed (ITK takes no more) for one purpose, e.g. `seed_for(3141, "cddpm", "t2", 0, "train")`.

    Different purposes give independent seeds; the same purpose gives the same seed on every machine.
    """
    text = "\0".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

"""How the C library deals with the large tensors of a network on a CPU."""

from __future__ import annotations

import ctypes

# mallopt(3) of the GNU C library
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Keep what the process frees for its next tensors, instead of giving it back to the system each time.

    By default, every tensor of more than 32 MB is mapped anew, and so may be what a training step frees at its end.
    Each of its pages is then cleared by the kernel when it is first touched: up to a third of a training step at batch
    32 of 96 x 96 pixels, half of an inference of 50 slices (docs/performance.md).  No number changes.

    Returns:
        Whether the C library could be told; one other than GNU's cannot, and everything goes on as before.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    nothing_mapped = mallopt(_MMAP_MAX, 0)
    never_trimmed = mallopt(_TRIM_THRESHOLD, -1)
    return bool(nothing_mapped and never_trimmed)

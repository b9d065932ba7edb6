"""What the C library keeps of memory that was freed, so that the next tensors need no new pages."""

from __future__ import annotations

import ctypes

# Parameters of mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_ON_HEAP = 32 * 2**20  # the most that glibc takes
_KEPT_ON_TOP = 128 * 2**20  # logits of a block, in their dtype and in float32, and their logarithms


def keep_freed_memory() -> None:
    """Let the heap keep 128 MiB at its end instead of giving them back with every block of logits.

    A page that was given back is cleared by the kernel when it is needed again: a fifth of the time of a score on a
    CPU. Does nothing where the C library has no `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
        mallopt(_TRIM_THRESHOLD, _KEPT_ON_TOP)


def return_freed_memory() -> None:
    """Give back what the heap keeps, also of pages between others, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

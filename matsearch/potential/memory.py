"""Memory of the process between two steps."""

from __future__ import annotations

import ctypes
from functools import cache

# Of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


@cache
def keep_memory() -> None:
    """Have the C library keep freed memory for the next step.

    A step on a CPU asks for some 80 MB in pieces of a megabyte and frees them. glibc hands such pieces back to the
    kernel at once and gets new, empty pages for the next: that took between a twentieth and a quarter of a step. The
    process keeps its largest size instead. Does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_ARENA_MAX, 1)  # the heaps of other threads are unmapped whatever the thresholds

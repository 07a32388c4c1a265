"""Memory that is used again and again, as by forward passes."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Keep large blocks of memory for the next use instead of giving each back to the system.

    A forward pass allocates and frees the same blocks again and again. The C library of Linux
    returns large ones at once, and the next use of each page costs a fault: a third of the time.
    Call it before any thread begins: a heap that a thread already has stays, and is given back.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # glibc
        trim_threshold, mmap_threshold, arena_max = -1, -3, -8
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
        # The heaps of threads are given back when empty, whatever is asked for: let all use one.
        mallopt(arena_max, 1)

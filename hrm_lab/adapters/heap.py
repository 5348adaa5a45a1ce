"""Memory that the C library holds back after tensors of many sizes were freed (glibc; elsewhere nothing happens).

Packs and batches differ in size, and glibc keeps the pieces: a process that is never trimmed grows by half within forty
steps of training, and within ten batches of answers from 1.4 to 3.4 GB. Given back after every pack, or whenever the
top of the heap is free, the same pages are faulted in again: a fifth of the time. So: once a step, once a batch.

Nor does it come back what torch keeps of every product of narrow tensors whose shape it has not met before: two caches
of 1,024 compiled kernels each, half a megabyte a shape, and hardly a pack has the shapes of another. They are told to
keep fewer, more than one pack needs, before the first product is made, which is when they read their size.
"""

import ctypes
import os

for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(cache, "128")

LIBC = ctypes.CDLL(None)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def hold():
    """Freed pages stay with the process until `give_back`."""
    if hasattr(LIBC, "mallopt"):
        LIBC.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        LIBC.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most it takes


def give_back():
    """All pages without a tensor on them go back to the system."""
    getattr(LIBC, "malloc_trim", lambda _: 0)(0)

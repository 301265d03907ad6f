"""What the C library does with memory that numpy arrays give back, and Python with objects that may be in cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

_LARGE_BYTES: Final = 16 << 20
_RARELY: Final = (50_000, 20, 20)
"""Thresholds of `gc.set_threshold`: objects made beyond those given back, and collections of younger ones before older."""


def keep_freed_memory() -> None:
    """Have memory that arrays give back kept for the next ones.

    glibc returns blocks above 128 KiB to the system as soon as they are freed, and the next array of that size faults
    all its pages in again, which costs more than what is done with them. It raises that limit to the size of the largest
    block that was freed (mallopt(3), M_MMAP_THRESHOLD): one that nobody wrote to will do. Elsewhere this does nothing.
    """
    np.empty(_LARGE_BYTES, np.uint8)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles of objects rarely meanwhile: a simulation makes many objects and hardly a cycle.

    By default Python looks each 700 objects, which was a third of the time of a run whose every KV block is known.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)

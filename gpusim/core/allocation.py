"""What the C library does with memory that numpy arrays give back."""

from __future__ import annotations

from typing import Final

import numpy as np

_LARGE_BYTES: Final = 16 << 20


def keep_freed_memory() -> None:
    """Have memory that arrays give back kept for the next ones.

    glibc returns blocks above 128 KiB to the system as soon as they are freed, and the next array of that size faults
    all its pages in again, which costs more than what is done with them. It raises that limit to the size of the largest
    block that was freed (mallopt(3), M_MMAP_THRESHOLD): one that nobody wrote to will do. Elsewhere this does nothing.
    """
    np.empty(_LARGE_BYTES, np.uint8)

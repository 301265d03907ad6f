"""The free KV blocks of an engine, first in, first out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np

from gpusim.core.arrays import IntArray

_SMALLEST_RING: Final = 256
"""Entries; it grows to twice its size, so that a place in it is the last bits of a position."""


class FreeBlocks:
    """A queue of free blocks: the one released longest ago is taken first, after those that were never taken.

    Only blocks that were released are written down, so a large pool costs nothing.
    """

    def __init__(self, num_blocks: int) -> None:
        self._num_blocks = num_blocks
        # Positions in the queue only grow: block p stands at position p until it is first taken, and the n-th
        # released one at num_blocks + n.
        self._head = 0
        self._tail = num_blocks
        self._taken: IntArray = np.empty(0, dtype=np.int64)
        self._released: IntArray = np.empty(_SMALLEST_RING, dtype=np.int64)

    def count(self, holes: Sequence[int] = ()) -> int:
        """Count the blocks that are free, where those at positions *holes*, ascending, were pulled out."""
        return self._tail - self._head - (len(holes) - bisect_left(holes, self._head))

    def take(self, count: int, holes: Sequence[int] = ()) -> IntArray:
        """Take *count* blocks from the front, but for those at positions *holes*, ascending, which are not there."""
        among = self._among(count, holes)
        positions = np.arange(self._head, self._head + count + len(among))
        if among:
            positions = np.delete(positions, np.array(among) - self._head)
        self._taken = positions
        if count:
            self._head = int(positions[-1]) + 1
        assert self._head <= self._tail, "the caller checks that there are enough"
        if self._head <= self._num_blocks:
            return positions
        taken: IntArray = np.where(positions < self._num_blocks, positions, self._released[self._slots(positions)])
        return taken

    def skip(self, holes: Sequence[int]) -> None:
        """Move on from *holes* at the front, which may be forgotten then."""
        place = bisect_left(holes, self._head)
        while place < len(holes) and holes[place] == self._head:
            self._head += 1
            place += 1

    def untake(self, count: int) -> None:
        """Put the last *count* blocks of the last `take` back to the front; nothing was released in between."""
        if count:
            self._head = int(self._taken[-count])

    def release(self, blocks: IntArray) -> None:
        """Put *blocks* at the end."""
        first = max(self._head, self._num_blocks)
        while self._tail + len(blocks) - first > len(self._released):
            kept = np.arange(first, self._tail)
            rows = self._released[self._slots(kept)]
            self._released = np.empty(2 * len(self._released), dtype=np.int64)
            self._released[self._slots(kept)] = rows
        positions = np.arange(self._tail, self._tail + len(blocks))
        self._released[self._slots(positions)] = blocks
        self._tail += len(blocks)

    def close(self, holes: Sequence[int]) -> None:
        """Move the blocks behind *holes* up, so that there are none."""
        first = max(self._head, self._num_blocks)
        rows = self._released[self._slots(np.setdiff1d(np.arange(first, self._tail), holes, assume_unique=True))]
        self._tail = first + len(rows)
        self._released[self._slots(np.arange(first, self._tail))] = rows

    def _among(self, count: int, holes: Sequence[int]) -> Sequence[int]:
        """Return those of *holes* that stand before the last of the next *count* blocks."""
        first = last = bisect_left(holes, self._head)
        while True:
            end = bisect_left(holes, self._head + count + last - first)
            if end == last:
                return holes[first:last]
            last = end

    def _slots(self, positions: IntArray) -> IntArray:
        slots: IntArray = (positions - self._num_blocks) & (len(self._released) - 1)
        return slots

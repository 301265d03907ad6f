"""Where blocks whose content is known stand in the queue of free blocks.

No queue is kept here: blocks are released to positions that only grow and taken from the first ones, so a free block was
taken for something else as soon as the head of the queue has passed it. The head follows from how many are free.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator

from gpusim.serving.known_blocks import NOWHERE, CachedBlock


class KnownFree:
    """The known ones among the free blocks of one engine, and the holes where some were pulled out of the queue.

    Args:
        num_blocks: Of the pool, all free.
    """

    def __init__(self, num_blocks: int) -> None:
        self.holes: list[int] = []
        """Ascending positions from which blocks were pulled; those far behind are left out."""
        self.released: deque[tuple[int, list[CachedBlock]]] = deque()
        """First position and blocks that were released together, ascending."""
        self.tail = num_blocks
        """Position of the block that is released next."""
        self.num_pulled = 0
        self._num_passed = 0

    def head(self, free_blocks: int) -> int:
        """Return the position of the block that is taken next."""
        head = self.tail - self.num_pulled - free_blocks + self._num_passed
        for hole in self.holes:
            if hole > head:
                break
            head += 1
        return head

    def pull(self, blocks: list[CachedBlock]) -> list[int]:
        """Take free *blocks* out of the queue; return where they stood."""
        positions = [block.position for block in blocks]
        self._add_holes(sorted(positions))
        for block in blocks:
            block.position = NOWHERE
        self.num_pulled += len(blocks)
        return positions

    def put_back(self, blocks: list[CachedBlock], positions: list[int]) -> None:
        """Undo the last `pull`, but for `num_pulled`."""
        for block, position in zip(blocks, positions, strict=True):
            block.position = position
            del self.holes[bisect_left(self.holes, position)]

    def pass_by(self, free_blocks: int) -> Iterator[CachedBlock]:
        """Leave out what stands before the head; yield the blocks that are gone for good."""
        head = self.head(free_blocks)
        passed = bisect_left(self.holes, head)
        del self.holes[:passed]
        self._num_passed += passed
        while self.released and self.released[0][0] < head:
            first, blocks = self.released.popleft()
            for position, block in enumerate(blocks[: head - first], first):
                if block.position == position and not block.users:
                    yield block
            if first + len(blocks) > head:
                self.released.appendleft((head, blocks[head - first :]))

    def close_holes(self) -> None:
        """Move the blocks behind holes up, so that there are none; right after `pass_by`."""
        holes, batches, self.released = self.holes, self.released, deque()
        for first, blocks in batches:
            left = [block for position, block in enumerate(blocks, first) if block.position == position]
            if left:
                begin = left[0].position - bisect_left(holes, left[0].position)
                self.released.append((begin, left))
                for position, block in enumerate(left, begin):
                    block.position = position
        self.tail -= len(holes)
        self.num_pulled -= len(holes)
        holes.clear()

    def _add_holes(self, positions: list[int]) -> None:
        """Add ascending *positions* to the holes; most often they stand together, between two others."""
        if not positions:
            return
        place = bisect_left(self.holes, positions[0])
        if place == len(self.holes) or self.holes[place] > positions[-1]:
            self.holes[place:place] = positions
        else:
            for position in positions:
                insort(self.holes, position)

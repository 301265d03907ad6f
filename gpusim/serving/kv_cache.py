"""The paged KV cache of an engine: blocks of tokens, taken and released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gpusim.core.clock import IntArray
from gpusim.serving.request import Request

_SMALLEST_RING: Final = 256


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
        self._released: IntArray = np.empty(_SMALLEST_RING, dtype=np.int64)

    @property
    def count(self) -> int:
        """Blocks that are free."""
        return self._tail - self._head

    def take(self, count: int) -> IntArray:
        """Take *count* blocks from the front."""
        assert count <= self.count, "the caller checks that there are enough"
        positions = np.arange(self._head, self._head + count)
        self._head += count
        taken: IntArray = np.where(positions < self._num_blocks, positions, self._released[self._slots(positions)])
        return taken

    def untake(self, count: int) -> None:
        """Put the *count* blocks taken last back to the front, as if never taken; nothing was released in between."""
        self._head -= count

    def release(self, blocks: Sequence[int]) -> None:
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

    def _slots(self, positions: IntArray) -> IntArray:
        slots: IntArray = (positions - self._num_blocks) % len(self._released)
        return slots


class KvCache:
    """Block tables of all running requests over one pool of blocks.

    Args:
        num_blocks: In the pool; on every rank the same.
        block_size: Tokens in a block.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.free = FreeBlocks(num_blocks)
        self.peak_used = 0
        """The most blocks ever held."""

    @property
    def used(self) -> int:
        """Blocks held by requests."""
        return self.num_blocks - self.free.count

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that *num_tokens* tokens fill."""
        return -(-num_tokens // self.block_size)

    def reserve(self, request: Request, num_tokens: int) -> bool:
        """Give *request* the blocks for its first *num_tokens* tokens; False, and nothing changed, if there are too few."""
        missing = self.blocks_for(num_tokens) - len(request.blocks)
        if missing > self.free.count:
            return False
        if missing > 0:
            request.blocks.extend(self.free.take(missing).tolist())
            self.note_peak()
        return True

    def note_peak(self) -> None:
        """Update `peak_used`; after `extend` once it is known which of its blocks were needed."""
        self.peak_used = max(self.peak_used, self.used)

    def release(self, request: Request) -> None:
        """Take all blocks back from *request*, its last one first (as vLLM: the tail of a prompt is reused least)."""
        self.free.release(request.blocks[::-1])
        del request.blocks[:]

    def steps_until_shortage(self, requests: Sequence[Request], steps: int) -> int:
        """Return how many of *steps* decode steps the free blocks allow all *requests*."""
        crossings = self._crossings(requests, steps)
        if len(crossings) <= self.free.count:
            return steps
        return int(crossings[self.free.count, 0])

    def extend(self, requests: Sequence[Request], steps: int) -> list[int]:
        """Give decoding *requests* the blocks of the next *steps* tokens each, in the order in which they need them.

        Returns:
            How many blocks each of them got; for `trim`.
        """
        crossings = self._crossings(requests, steps)
        taken = [0] * len(requests)
        for (_, position), block in zip(crossings.tolist(), self.free.take(len(crossings)).tolist(), strict=True):
            requests[position].blocks.append(block)
            taken[position] += 1
        return taken

    def trim(self, requests: Sequence[Request], taken: Sequence[int], steps: int) -> None:
        """Undo, right after it, the part of `extend` beyond the next *steps* tokens of each of *requests*."""
        total = 0
        for request, most in zip(requests, taken, strict=True):
            surplus = min(most, len(request.blocks) - self.blocks_for(request.computed + steps))
            if surplus > 0:
                del request.blocks[-surplus:]
                total += surplus
        self.free.untake(total)

    def _crossings(self, requests: Sequence[Request], steps: int) -> IntArray:
        """(crossings, 2) Step and position of the request that then needs a block, in the order of steps."""
        computed = np.array([request.computed for request in requests], dtype=np.int64)
        held = np.array([len(request.blocks) for request in requests], dtype=np.int64)
        last = -(-(computed + steps) // self.block_size)
        counts = np.maximum(last - held, 0)
        position = np.repeat(np.arange(len(requests)), counts)
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        # A token is the first of its block where the tokens before it fill whole blocks.
        step = (held[position] + nth) * self.block_size - computed[position]
        order = np.lexsort((position, step))
        crossings: IntArray = np.stack((step[order], position[order]), axis=1)
        return crossings

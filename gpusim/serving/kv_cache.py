"""The paged KV cache of an engine: blocks of tokens, taken and released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.clock import IntArray
from gpusim.serving.outlook import Outlook
from gpusim.serving.request import Request
from gpusim.serving.reserve import NOTHING, Reserve

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

    def _slots(self, positions: IntArray) -> IntArray:
        slots: IntArray = (positions - self._num_blocks) % len(self._released)
        return slots


@dataclass(frozen=True, slots=True)
class Tenures:
    """Stretches of an outlook in which requests decode, in its rounds; arrays (tenures,)."""

    slot: IntArray
    order: IntArray
    cached: IntArray
    """Tokens in the cache at the start of the first round of the stretch."""
    begin: IntArray
    """First round, counted from the start of the outlook."""
    end: IntArray
    """The round behind the last."""

    @classmethod
    def of(cls, outlook: Outlook) -> Tenures:
        """Return every stretch of *outlook*."""
        first = outlook.first_round
        requests = [*outlook.decoding, *(request for _, request in outlook.begun)]
        columns = np.array(
            [(r.slot, r.order, r.target - r.first_decode, r.first_decode, r.last_round) for r in requests],
            dtype=np.int64,
        ).reshape(-1, 5)
        slot, order, offset, begin, last = columns.T
        begin = np.maximum(begin - first, 0)
        end = np.minimum(last + 1 - first, outlook.num_steps - len(outlook.pauses))
        return cls(slot, order, offset + first + begin, begin, end)


class KvCache:
    """Block tables of all running requests over one pool of blocks.

    Args:
        num_blocks: In the pool; on every rank the same.
        block_size: Tokens in a block.
        reserve: What a request gets when it is admitted.
    """

    def __init__(self, num_blocks: int, block_size: int, *, reserve: Reserve = NOTHING) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.reserve = reserve
        self.free = FreeBlocks(num_blocks)
        self.tables: IntArray = np.zeros((1, 1), dtype=np.int64)
        """(slots, blocks) Blocks of the request in each slot, in the order of its tokens."""
        self.peak_used = 0
        """The most blocks ever held."""
        self._taken_in: IntArray = np.zeros(0, dtype=np.int64)
        """Steps of the outlook, one a block, in which blocks were taken."""

    @property
    def used(self) -> int:
        """Blocks held by requests."""
        return self.num_blocks - self.free.count

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that *num_tokens* tokens fill."""
        return -(-num_tokens // self.block_size)

    def blocks_held(self, request: Request, cached: int) -> int:
        """Blocks that a running request holds with *cached* tokens in the cache."""
        return self.blocks_for(max(cached, self.reserve.tokens(request)))

    def blocks_of(self, request: Request, num_tokens: int) -> IntArray:
        """Return the blocks of the first *num_tokens* tokens of a running request."""
        blocks: IntArray = self.tables[request.slot, : self.blocks_for(num_tokens)]
        return blocks

    def take(self, outlook: Outlook, tenures: Tenures) -> None:
        """Give the requests of *outlook* the blocks of all its steps, in the order in which they need them.

        Within a step those admitted first come first. Until `keep` says how many steps were played, nothing is final.
        """
        step, order, slot, first, count = self._wanted(outlook, tenures)
        # One key for both, so that one sort will do; a decode's block comes alone, a chunk's blocks together.
        sequence = np.argsort(step * (1 + order.max(initial=0)) + order, kind="stable")
        step, slot, first, count = step[sequence], slot[sequence], first[sequence], count[sequence]
        rows = np.repeat(np.arange(len(count)), count)
        place = first[rows] + np.arange(len(rows)) - (np.cumsum(count) - count)[rows]
        self._hold(int(slot.max(initial=0)), int(place.max(initial=0)))
        self.tables[slot[rows], place] = self.free.take(len(rows))
        self._taken_in = step[rows]

    def keep(self, steps: int, released: list[tuple[int, Request]]) -> None:
        """Note that *steps* steps of the outlook were played: give back the blocks of the others, release what is over.

        Args:
            steps: At least one.
            released: Requests that are over, in their order, each with its last step in the outlook.
        """
        kept = int(np.searchsorted(self._taken_in, steps))
        self.free.untake(len(self._taken_in) - kept)
        self._note_peak(self._taken_in[:kept], steps, released)
        self.release([(request, request.most_cached_tokens) for _, request in released])

    def release(self, released: list[tuple[Request, int]]) -> None:
        """Release the blocks of requests with the tokens they had in the cache, each last block first."""
        held = [(request.slot, self.blocks_held(request, cached)) for request, cached in released]
        if held:
            self.free.release(np.concatenate([self.tables[slot, :number][::-1] for slot, number in held]))

    def _note_peak(self, taken_in: IntArray, steps: int, released: list[tuple[int, Request]]) -> None:
        held = np.bincount(taken_in, minlength=steps + 1)
        for last, request in released:
            held[last + 1] -= self.blocks_held(request, request.most_cached_tokens)
        before = self.used - len(taken_in)
        self.peak_used = max(self.peak_used, before + int(held[:steps].cumsum().max()))

    def _wanted(self, outlook: Outlook, tenures: Tenures) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Return who needs blocks: step, order of admission, slot, place of the first block in its table, how many."""
        size, rows = self.block_size, []
        if self.reserve.kind != "none":
            rows = [(step, r.order, r.slot, 0, self.blocks_held(r, 0)) for step, r in outlook.admitted]
        if self.reserve.is_complete:
            return tuple(np.array(rows, dtype=np.int64).reshape(-1, 5).T)  # type: ignore[return-value]
        for step, request, computed, tokens in outlook.chunks:
            first = self.blocks_held(request, computed)
            rows.append(
                (step, request.order, request.slot, first, self.blocks_held(request, computed + tokens) - first)
            )
        chunks = np.array(rows, dtype=np.int64).reshape(-1, 5)
        held = -(-tenures.cached // size)
        wanted = -(-(tenures.cached + tenures.end - tenures.begin) // size) - held
        of = np.repeat(np.arange(len(wanted)), wanted)
        place = held[of] + np.arange(len(of)) - (np.cumsum(wanted) - wanted)[of]
        step_of = outlook.steps_of(place * size - tenures.cached[of] + tenures.begin[of])
        decodes = np.stack((step_of, tenures.order[of], tenures.slot[of], place, np.ones_like(of)), axis=1)
        return tuple(np.concatenate((chunks, decodes)).T)

    def _hold(self, slot: int, place: int) -> None:
        """Make room in the tables, which grow to twice their size."""
        slots, width = self.tables.shape
        if slot < slots and place < width:
            return
        grown = np.zeros((max(slots, 2 * slot + 1), max(width, 2 * place + 1)), dtype=np.int64)
        grown[:slots, :width] = self.tables
        self.tables = grown

"""The paged KV cache of an engine: blocks of tokens, taken and released."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.serving.free_blocks import FreeBlocks
from gpusim.serving.known_blocks import Filled, Released, Shared
from gpusim.serving.outlook import Outlook
from gpusim.serving.prefix_cache import PrefixCache
from gpusim.serving.request import Request
from gpusim.serving.reserve import NOTHING, Reserve
from gpusim.serving.roster import Roster


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
        prefix: Blocks that are known by what they hold; None: no request gets those of another.
    """

    def __init__(
        self, num_blocks: int, block_size: int, *, reserve: Reserve = NOTHING, prefix: PrefixCache | None = None
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.reserve = reserve
        self.prefix = prefix
        self.free = FreeBlocks(num_blocks)
        self.tables: IntArray = np.zeros((1, 1), dtype=np.int64)
        """(slots, blocks) Blocks of the request in each slot, in the order of its tokens."""
        self.most_holes = max(1024, num_blocks)
        """In the queue of free blocks, before those behind them are moved up."""
        self.peak_used = 0
        """The most blocks ever held."""
        self._taken_in: IntArray = np.zeros(0, dtype=np.int64)
        """Steps of the outlook, one a block, in which blocks were taken."""
        self._first_step = self._num_steps = 0

    def settle(self, roster: Roster) -> None:
        """Note that there is no way back from *roster*, whose steps are kept; see `Roster.settle`."""
        roster.settle()
        if self.prefix is not None and len(self.prefix.holes) > self.most_holes:
            self.free.close(self.prefix.holes)
            self.prefix.close_holes()
            roster.mark = self.prefix.mark()

    @property
    def used(self) -> int:
        """Blocks held by requests."""
        return self.num_blocks - self.num_free

    @property
    def num_free(self) -> int:
        """Blocks held by no request."""
        return self.free.count(self._holes)

    @property
    def _holes(self) -> list[int]:
        return [] if self.prefix is None else self.prefix.holes

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
        self.tables[slot[rows], place] = self.free.take(len(rows), self._holes)
        self._taken_in = step[rows]
        self._first_step, self._num_steps = outlook.first_step, outlook.num_steps
        self.share()

    def share(self) -> None:
        """Give requests the blocks they share, and those that became known their numbers."""
        if self.prefix is None:
            return
        for event in self.prefix.events:
            if isinstance(event, Shared):
                numbers = [block.block for block in event.blocks]
                self.tables[event.request.slot, : len(numbers)] = numbers
            elif isinstance(event, Filled):
                row = self.tables[event.request.slot]
                numbers = row[event.first : event.first + len(event.blocks)].tolist()
                for block, number in zip(event.blocks, numbers, strict=True):
                    block.block = number

    def keep(self, steps: int, released: list[tuple[int, int, Request]]) -> IntArray:
        """Note that *steps* steps of the outlook were played: give back the blocks of the others, release what is over.

        Args:
            steps: At least one.
            released: Requests that are over, in their order, each with the first step of the outlook in which it
                computes nothing, and the one from which on it is gone.

        Returns:
            Blocks held in each of the steps by requests that are not over (steps,).
        """
        kept = int(np.searchsorted(self._taken_in, steps))
        self.free.untake(len(self._taken_in) - kept)
        if steps < self._num_steps:
            self.share()  # some blocks became known a second time
        held = self._held(self._taken_in[:kept], steps, released)
        self.free.skip(self._holes)
        self.release([(request, request.most_cached_tokens) for _, _, request in released])
        return held

    def release(self, released: list[tuple[Request, int]]) -> None:
        """Release the blocks of requests with the tokens they had in the cache, each last block first."""
        if not released:
            return
        events = [] if self.prefix is None else self.prefix.events
        kept = {event.request: event.kept for event in events if isinstance(event, Released) and event.kept}
        blocks = [self.tables[request.slot, : self.blocks_held(request, cached)] for request, cached in released]
        for number, (request, _) in enumerate(released):
            if request in kept:
                blocks[number] = np.delete(blocks[number], kept[request])
        self.free.release(np.concatenate([numbers[::-1] for numbers in blocks]))

    def _held(self, taken_in: IntArray, steps: int, released: list[tuple[int, int, Request]]) -> IntArray:
        """See `keep`; the peak counts those who are over until they are gone."""
        held = np.bincount(taken_in, minlength=steps + 1)
        shared = 0
        events = [] if self.prefix is None else self.prefix.events
        freed = {event.request: event.num_freed for event in events if isinstance(event, Released)}
        for event in events:
            if isinstance(event, Shared):
                held[event.step - self._first_step] += event.num_pulled
                shared += event.num_pulled
        leaving = np.zeros_like(held)
        for over, since, request in released:
            blocks = freed.get(request, self.blocks_held(request, request.most_cached_tokens))
            held[over] -= blocks
            leaving[over:since] += blocks
        before = self.used - len(taken_in) - shared
        in_use: IntArray = before + held[:steps].cumsum()
        self.peak_used = max(self.peak_used, int((in_use + leaving[:steps]).max()))
        return in_use

    def _wanted(self, outlook: Outlook, tenures: Tenures) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Return who needs blocks: step, order of admission, slot, place of the first block in its table, how many."""
        size, rows = self.block_size, []
        if self.reserve.kind != "none":
            rows = [(step, r.order, r.slot, 0, self.blocks_held(r, 0)) for step, r in outlook.admitted]
        if self.reserve.is_complete:
            return tuple(np.array(rows, dtype=np.int64).reshape(-1, 5).T)  # type: ignore[return-value]
        rows += [(0, r.order, r.slot, 0, self.blocks_for(cached)) for r, cached in outlook.swapped_in]
        rows += [(0, r.order, r.slot, first, count) for r, first, count in outlook.restored]
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

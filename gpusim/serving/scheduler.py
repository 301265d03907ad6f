"""Schedulers decide what the next step computes. They never wait.

`ContinuousScheduler` is vLLM v1: running sequences first, each its missing tokens within the step's budget, then
waiting ones in order of arrival; where blocks run out, the running request that came last is preempted, and
recomputes later or, as in vLLM v0, comes back from host memory before anybody else is admitted. `StaticScheduler` fills
a batch, prefills all of it, decodes all of it, and only then takes the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from gpusim.serving.request import Request
from gpusim.serving.roster import Batch, Roster
from gpusim.serving.swap import may_swap_in, swap_in
from gpusim.spec.serving import ServingSpec


class Scheduler(Protocol):
    """Decides what an engine's next step computes."""

    reserves_all: bool
    """Whether a request gets the blocks for all of its tokens when it is admitted."""

    def next_batch(self, roster: Roster) -> Batch:
        """Return the next batch; admitted requests move from waiting to running, preempted ones back.

        The batch is the same for `Batch.steps` steps, unless a request arrives that `admits`.
        """
        ...

    def must_wait(self, roster: Roster) -> bool:
        """Tell whether the next batch cannot be fixed while some who are over hold their seats and blocks."""
        ...

    def admits(self, roster: Roster) -> bool:
        """Tell whether a request that arrives now could change the batch of the next step."""
        ...

    def runs_short(self, roster: Roster, blocks: int) -> bool:
        """Tell whether the next batch might need more than that many *blocks* for its first step, or swap some in."""
        ...


class ContinuousScheduler:
    """First come, first served, with chunked prefill and preemption by recomputation or swapping.

    Args:
        spec: Of the engine.
    """

    reserves_all = False

    def __init__(self, spec: ServingSpec) -> None:
        self.max_num_seqs = spec.max_num_seqs
        self.budget = spec.max_num_batched_tokens

    def next_batch(self, roster: Roster) -> Batch:
        """See `Scheduler.next_batch`."""
        begun: Sequence[Request] = roster.begin_decoding() if roster.ready else ()
        preempted: list[tuple[Request, int]] = []
        needed = roster.blocks_needed(1)
        if roster.prefilling:
            needed += sum(self._chunk_blocks(roster, *entry) for entry in roster.prefilling.items())
        if needed > roster.free_blocks:
            needed = self._make_room(preempted, roster)
            lost = {request for request, _ in preempted}
            begun = [request for request in begun if request not in lost]
        swapped_in: list[tuple[Request, int]] = []
        if roster.swapped and not preempted:
            swapped_in, blocks = swap_in(roster, self.budget, self.max_num_seqs, roster.free_blocks - needed)
            begun = [*begun, *roster.begin_decoding()]
            needed += blocks
        batch = Batch(roster.num_decodes, roster.decode_context, begun, preempted, swapped_in)
        if roster.prefilling or (roster.waiting and not preempted and not roster.swapped):
            self._prefill(batch, roster, roster.free_blocks - needed)
        batch.is_hungry = not preempted and self.admits(roster)
        # After a preemption or a swap the next step may admit again, so that batch holds for one step only.
        if batch.num_decodes and not (batch.chunks or preempted or swapped_in):
            # Seats of those who are over are free for the step after this one.
            is_held_up = roster.leaving and (roster.waiting or roster.num_seated >= self.max_num_seqs)
            batch.steps = 1 if is_held_up else steps_unchanged(roster)
        return batch

    def must_wait(self, roster: Roster) -> bool:
        """See `Scheduler.must_wait`: nobody is preempted while blocks are about to be released."""
        needed = roster.blocks_needed(1) + sum(request.target % roster.block_size == 0 for request in roster.ready)
        needed += sum(self._chunk_blocks(roster, *entry) for entry in roster.prefilling.items())
        return needed > roster.free_blocks

    def admits(self, roster: Roster) -> bool:
        """See `Scheduler.admits`."""
        return roster.num_seated < self.max_num_seqs and not roster.waiting and not roster.swapped

    def runs_short(self, roster: Roster, blocks: int) -> bool:
        """See `Scheduler.runs_short`."""
        if roster.swapped and may_swap_in(roster, self.max_num_seqs):
            return True
        if roster.store is not None and any(request.content for request in roster.waiting):
            return True
        chunks = roster.blocks_for(self.budget) + self.max_num_seqs
        needed = roster.num_decodes + len(roster.ready) + chunks
        if roster.prefix is not None and needed <= blocks:
            # Those who wait may also begin with blocks that are free.
            coming = islice(roster.waiting, max(0, self.max_num_seqs - roster.num_seated))
            needed += sum(roster.blocks_for(request.target) for request in coming)
        return blocks < needed

    def _chunk_blocks(self, roster: Roster, request: Request, computed: int) -> int:
        """Blocks that a prefilling request, the last one that runs, needs for its next chunk."""
        tokens = min(request.target - computed, max(0, self.budget - roster.num_decodes))
        return roster.blocks_for(computed + tokens) - roster.blocks_for(computed)

    def _make_room(self, preempted: list[tuple[Request, int]], roster: Roster) -> int:
        """Give blocks to running requests in their order, preempting from the end; return how many they take."""
        taken = position = 0
        while position < len(roster.running):
            request = roster.running[position]
            need = int(roster.needs_block(request))
            if request in roster.prefilling:
                need = self._chunk_blocks(roster, request, roster.prefilling[request])
            while taken + need > roster.free_blocks:
                victim = roster.running[-1]
                preempted.append((victim, roster.preempt(victim)))
                if victim is request:
                    return taken
            taken += need
            position += 1
        return taken

    def _prefill(self, batch: Batch, roster: Roster, free_blocks: int) -> None:
        """Add chunks of those who prefill, then of those who wait, within the budget."""
        budget = self.budget - roster.num_decodes
        batch.chunks = chunks = []
        for request, computed in roster.prefilling.items():
            tokens = min(request.target - computed, budget)
            if tokens > 0:
                chunks.append((request, computed, tokens))
                budget -= tokens
                roster.note_chunk(request, computed + tokens)
        if roster.waiting and not batch.preempted and not roster.swapped:
            batch.admitted = self._admit(batch, chunks, roster, budget, free_blocks)

    def _admit(
        self, batch: Batch, chunks: list[tuple[Request, int, int]], roster: Roster, budget: int, free_blocks: int
    ) -> list[Request]:
        admitted = []
        while roster.waiting and budget > 0 and roster.num_seated < self.max_num_seqs:
            request = roster.waiting[0]
            shared = roster.find(request, free_blocks)
            restored = roster.restorable(request, len(shared))
            computed = roster.block_size * (len(shared) + restored)
            tokens = min(request.target - computed, budget)
            # Blocks to begin with that are free are free no more; the others are in use and cost nothing.
            free_blocks -= roster.blocks_for(computed + tokens) - sum(block.users > 0 for block in shared)
            if free_blocks < roster.kept_blocks:
                break
            roster.admit(request, shared, restored)
            if restored:
                batch.restored = [*batch.restored, (request, len(shared), restored)]
            roster.note_chunk(request, computed + tokens)
            admitted.append(request)
            chunks.append((request, computed, tokens))
            budget -= tokens
        return admitted


class StaticScheduler:
    """One batch after another; blocks for the longest a request can get are reserved at the start.

    Args:
        spec: Of the engine.
    """

    reserves_all = True

    def __init__(self, spec: ServingSpec) -> None:
        self.max_num_seqs = spec.max_num_seqs
        self.budget = spec.max_num_batched_tokens

    def next_batch(self, roster: Roster) -> Batch:
        """See `Scheduler.next_batch`."""
        admitted = [] if roster.running else self._fill(roster)
        is_hungry = bool(admitted) and not roster.waiting and len(roster.running) < self.max_num_seqs
        chunks, budget = [], self.budget
        for request, computed in roster.prefilling.items():
            tokens = min(request.target - computed, budget)
            if tokens > 0:
                chunks.append((request, computed, tokens))
                budget -= tokens
        if chunks:
            return Batch(0, 0, chunks=chunks, admitted=admitted, is_hungry=is_hungry)
        begun = roster.begin_decoding()
        return Batch(roster.num_decodes, roster.decode_context, begun, steps=steps_unchanged(roster))

    def must_wait(self, roster: Roster) -> bool:
        """See `Scheduler.must_wait`: a batch is over when all of it is."""
        return not roster.running

    def admits(self, roster: Roster) -> bool:
        """See `Scheduler.admits`: a running batch takes nobody in."""
        return not roster.running

    def runs_short(self, roster: Roster, blocks: int) -> bool:
        """See `Scheduler.runs_short`: a new batch may take as many as there are."""
        del blocks
        return not roster.running

    def _fill(self, roster: Roster) -> list[Request]:
        admitted: list[Request] = []
        while roster.waiting and len(roster.running) < self.max_num_seqs:
            request = roster.waiting[0]
            if roster.blocks_for(request.most_cached_tokens) > roster.free_blocks:
                break
            roster.admit(request)
            admitted.append(request)
        return admitted


def steps_unchanged(roster: Roster) -> int:
    """Return for how many steps decodes go on alone: until the first has all its tokens, or blocks run out."""
    until_done = roster.ends[0][0] - roster.step + 1
    if until_done == 1:
        return 1
    return max(1, roster.steps_until_shortage(until_done, roster.free_blocks))


def make_scheduler(spec: ServingSpec) -> Scheduler:
    """Return the scheduler that *spec* names."""
    return StaticScheduler(spec) if spec.scheduler == "static" else ContinuousScheduler(spec)

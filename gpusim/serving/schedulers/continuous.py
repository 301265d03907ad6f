"""vLLM v1 and Sarathi-Serve: running sequences first, then waiting ones, prompts in chunks beside decodes."""

from __future__ import annotations

from collections.abc import Sequence

from gpusim.serving.batch import Batch
from gpusim.serving.request import Request
from gpusim.serving.reserve import Reserve
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers.base import Admission, Spare, make_room, steps_unchanged
from gpusim.serving.swap import may_swap_in, swap_in


class ContinuousScheduler(Admission):
    """vLLM v1: a step gives every running request its missing tokens within a budget, and what is left to those who wait.

    Where blocks run out, a running request is preempted, and recomputes later.

    Args:
        spec: Of the engine.
        num_blocks: KV blocks that there are.
    """

    spare = 0
    """Blocks that must be free beside those it takes for a decode that takes none."""

    def next_batch(self, roster: Roster) -> Batch:
        """See `Scheduler.next_batch`."""
        begun: Sequence[Request] = roster.begin_decoding() if roster.ready else ()
        preempted: list[tuple[Request, int]] = []
        needed = roster.decodes.blocks_needed(1)
        if roster.prefilling:
            needed += sum(self._chunk_blocks(roster, *entry) for entry in roster.prefilling.items())
        turns: dict[Request, int] = {}
        if needed + self.spare > roster.free_blocks:
            needed = make_room(preempted, roster, lambda request: self._demand(roster, request, turns))
            lost = {request for request, _ in preempted}
            begun = [request for request in begun if request not in lost]
        swapped_in: list[tuple[Request, int]] = []
        if roster.swapped and not preempted:
            swapped_in, blocks = swap_in(roster, self.budget, self.max_num_seqs, roster.free_blocks - needed)
            begun = [*begun, *roster.begin_decoding()]
            needed += blocks
        batch = Batch(roster.decodes.number, roster.decodes.context, begun, preempted, swapped_in)
        budget = self.budget - roster.decodes.number
        if roster.prefilling:
            budget = self._go_on(batch, roster, budget, turns)
        if not preempted:
            if not roster.swapped:
                self.admit(batch, roster, budget, roster.free_blocks - needed)
            # After a preemption or a swap the next step may admit again, so that batch holds for one step only.
            if batch.num_decodes and not batch.chunks and not swapped_in:
                # Seats of those who are over are free for the step after this one.
                is_held_up = roster.leaving and (roster.waiting or roster.num_seated >= self.max_num_seqs)
                batch.steps = 1 if is_held_up else steps_unchanged(roster, self.spare)
        return batch

    def must_wait(self, roster: Roster) -> bool:
        """See `Scheduler.must_wait`: nobody is preempted while blocks are about to be released."""
        needed = roster.decodes.blocks_needed(1) + sum(
            request.target % roster.block_size == 0 for request in roster.ready
        )
        needed += sum(self._chunk_blocks(roster, *entry) for entry in roster.prefilling.items())
        return needed + self.spare > roster.free_blocks

    def runs_short(self, roster: Roster, blocks: int) -> bool:
        """See `Scheduler.runs_short`."""
        if roster.swapped and may_swap_in(roster, self.max_num_seqs):
            return True
        needed = roster.decodes.number + len(roster.ready) + self.spare
        if roster.prefilling:
            needed += roster.blocks_for(self.budget) + 1
        if not roster.waiting:
            return blocks < needed
        needed += self.most_admitted_blocks(roster)
        return blocks < needed or roster.may_ask_host(self.max_num_seqs, roster.free_blocks - needed)

    def _demand(self, roster: Roster, request: Request, turns: dict[Request, int]) -> tuple[int, int]:
        """Return what a request needs as its turn comes; *turns* gets the tokens that are left for its prompt then."""
        if request in roster.prefilling:
            turns[request] = self.budget - roster.decodes.number
            blocks = self._chunk_blocks(roster, request, roster.prefilling[request])
            return blocks, blocks
        blocks = int(roster.needs_block(request))
        return max(blocks, self.spare), blocks

    def _chunk_blocks(self, roster: Roster, request: Request, computed: int) -> int:
        """Blocks that a prefilling request, the last one that runs, needs for its next chunk."""
        tokens = min(request.target - computed, max(0, self.budget - roster.decodes.number))
        return roster.blocks_held(request, computed + tokens) - roster.blocks_held(request, computed)

    def _go_on(self, batch: Batch, roster: Roster, budget: int, turns: dict[Request, int]) -> int:
        """Add the next chunks of those who prefill; return what is left of the budget."""
        chunks = []
        for request, computed in roster.prefilling.items():
            tokens = min(request.target - computed, turns.get(request, budget), budget)
            if tokens > 0:
                chunks.append((request, computed, tokens))
                budget -= tokens
                roster.note_chunk(request, computed + tokens)
        batch.chunks = chunks
        return budget


class SarathiScheduler(Spare, ContinuousScheduler):
    """Sarathi-Serve: the same order, but a prompt gets all its blocks when it is admitted, above a watermark.

    Args:
        spec: Of the engine; its budget is the chunk size.
        num_blocks: KV blocks that there are.
    """

    reserve = Reserve("prompt")
    spare = 1

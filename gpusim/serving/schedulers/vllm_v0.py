"""vLLM before version 1: whole prompts first, in steps of their own."""

from __future__ import annotations

from gpusim.serving.batch import Batch
from gpusim.serving.request import Request
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers.base import Spare, make_room, steps_unchanged


class VllmV0Scheduler(Spare):
    """vLLM 0.6 without chunked prefill: whoever can be admitted is, in a step of prompts alone while decodes pause.

    Only where nobody can is there a decode step. Where blocks run out for it, a running request is preempted, and
    recomputes later.

    Args:
        spec: Of the engine.
        num_blocks: KV blocks that there are.
    """

    splits_prompts = False

    def next_batch(self, roster: Roster) -> Batch:
        """See `Scheduler.next_batch`."""
        batch = Batch(0, 0)
        self.admit(batch, roster, self.budget, roster.free_blocks)
        return batch if batch.chunks else self._decode(batch, roster)

    def _decode(self, batch: Batch, roster: Roster) -> Batch:
        """Make *batch* one of all decodes."""
        begun, preempted = roster.begin_decoding(), list[tuple[Request, int]]()
        if roster.decodes.blocks_needed(1) + self.spare > roster.free_blocks:
            make_room(preempted, roster, lambda request: (self.spare, int(roster.needs_block(request))))
        lost = {request for request, _ in preempted}
        batch.begun = [request for request in begun if request not in lost]
        batch.preempted = preempted
        batch.num_decodes, batch.decode_context = roster.decodes.number, roster.decodes.context
        if not preempted:
            batch.steps = steps_unchanged(roster, self.spare)
        return batch

    def runs_short(self, roster: Roster, blocks: int) -> bool:
        """See `Scheduler.runs_short`."""
        decodes = roster.decodes.number + len(roster.ready) + self.spare
        return blocks < max(decodes, self.most_admitted_blocks(roster))

    def refuse(self, request: Request) -> str | None:
        """See `Scheduler.refuse`: a preempted request computes all it has in one step."""
        if request.most_cached_tokens > self.budget:
            return (
                f"prompt and output are longer than max_num_batched_tokens = {self.budget}, and vllm-v0 splits nothing"
            )
        return super().refuse(request)

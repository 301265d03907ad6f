"""Static batching: a batch is filled, all of it prefilled, all of it decoded, and only then comes the next."""

from __future__ import annotations

from gpusim.serving.batch import Batch
from gpusim.serving.policy import KEYS
from gpusim.serving.request import Request
from gpusim.serving.reserve import Reserve
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers.base import steps_unchanged
from gpusim.spec.serving import ServingSpec


class StaticScheduler:
    """One batch after another; blocks for all that its requests can get are reserved at the start.

    Where it pads, every prompt is computed as long as the longest of its batch, and all decode until the last is done.

    Args:
        spec: Of the engine.
    """

    reserve = Reserve("all")

    def __init__(self, spec: ServingSpec) -> None:
        self.max_num_seqs = spec.max_num_seqs
        self.budget = spec.max_num_batched_tokens
        self.key = KEYS[spec.scheduling_policy]
        self.pads = spec.pad

    def next_batch(self, roster: Roster) -> Batch:
        """See `Scheduler.next_batch`."""
        is_new = not roster.running
        admitted = self._fill(roster) if is_new else []
        is_hungry = bool(admitted) and not roster.waiting and len(roster.running) < self.max_num_seqs
        chunks, budget = [], self.budget
        for request, computed in roster.prefilling.items():
            tokens = min(request.target - computed, budget)
            if tokens > 0:
                chunks.append((request, computed, tokens))
                budget -= tokens
        if chunks:
            is_picky = is_new and self.key is not None
            return Batch(0, 0, chunks=chunks, admitted=admitted, is_hungry=is_hungry, is_picky=is_picky)
        begun = roster.begin_decoding()
        batch = Batch(roster.decodes.number, roster.decodes.context, begun, steps=steps_unchanged(roster))
        if self.pads:
            _count_idle(batch, roster)
        return batch

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

    def refuse(self, request: Request) -> str | None:
        """See `Scheduler.refuse`."""
        del request
        return None

    def _fill(self, roster: Roster) -> list[Request]:
        """Admit as many as there are seats and blocks for."""
        batch, blocks, prompt, output = list[Request](), 0, 0, 0
        for request in roster.waiting:
            prompt, output = max(prompt, request.prompt_tokens), max(output, request.output_tokens)
            if self.pads:
                blocks = (len(batch) + 1) * roster.blocks_for(prompt + output - 1)
            else:
                blocks += roster.blocks_for(request.most_cached_tokens)
            if len(batch) == self.max_num_seqs or blocks > roster.free_blocks:
                break
            batch.append(request)
        if self.pads:
            _pad(batch)
        for request in batch:
            roster.admit(request)
        return batch


def _pad(batch: list[Request]) -> None:
    """Make all requests of *batch* as long as the longest prompt and the longest output."""
    prompt = max(request.prompt_tokens for request in batch)
    output = max(request.output_tokens for request in batch)
    for request in batch:
        request.padding, request.overtime = prompt - request.prompt_tokens, output - request.output_tokens


def _count_idle(batch: Batch, roster: Roster) -> None:
    """Note how many decodes are of no use to anybody; the batch holds until there is one more."""
    lasts = [request.last_round - request.overtime for request in roster.running]
    batch.num_idle = sum(last < roster.decodes.round for last in lasts)
    batch.steps = min(
        [batch.steps, *(last - roster.decodes.round + 1 for last in lasts if last >= roster.decodes.round)]
    )

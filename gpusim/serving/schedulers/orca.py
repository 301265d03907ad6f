"""Orca: batches change from step to step, prompts are computed whole, and memory is reserved for the longest request."""

from __future__ import annotations

import sys

from gpusim.serving.batch import Batch
from gpusim.serving.reserve import Reserve
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers.base import Admission, steps_unchanged
from gpusim.spec.serving import ServingSpec


class OrcaScheduler(Admission):
    """Iteration-level scheduling: as many requests as have a seat and room for the longest there may be.

    Args:
        spec: Of the engine.
        num_blocks: KV blocks that there are.
        max_model_len: Tokens of the longest request.
    """

    splits_prompts = False

    def __init__(self, spec: ServingSpec, num_blocks: int, max_model_len: int) -> None:
        super().__init__(spec, num_blocks)
        self.reserve = Reserve("longest", max_model_len)
        self.budget = sys.maxsize

    def next_batch(self, roster: Roster) -> Batch:
        """See `Scheduler.next_batch`."""
        begun = roster.begin_decoding()
        batch = Batch(roster.decodes.number, roster.decodes.context, begun)
        self.admit(batch, roster, self.budget, roster.free_blocks)
        if not batch.chunks:
            batch.steps = steps_unchanged(roster)
        return batch

    def runs_short(self, roster: Roster, blocks: int) -> bool:
        """See `Scheduler.runs_short`."""
        return blocks < self.most_admitted_blocks(roster)

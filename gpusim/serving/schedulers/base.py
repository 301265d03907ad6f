"""What all schedulers are, and what those that admit request by request have in common. They never wait."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Protocol

from gpusim.serving.batch import Batch
from gpusim.serving.policy import KEYS, Key
from gpusim.serving.request import Request
from gpusim.serving.reserve import NOTHING, Reserve
from gpusim.serving.roster import Roster
from gpusim.spec.serving import ServingSpec


class Scheduler(Protocol):
    """Decides what an engine's next step computes."""

    reserve: Reserve
    """What a request gets when it is admitted."""
    key: Key | None
    """Orders those who wait, and those who give way; see `gpusim.serving.policy`."""

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
        """Tell whether the next batch might need more than that many *blocks* for its first step."""
        ...

    def refuse(self, request: Request) -> str | None:
        """Say why a request can never run under these rules; None if it can."""
        ...


class Admission:
    """Those who wait are admitted one after the other, until seats, tokens or blocks are used up for the first of them.

    Args:
        spec: Of the engine.
        num_blocks: KV blocks that there are.
    """

    reserve = NOTHING
    splits_prompts = True
    """Whether a prompt that is longer than what is left of the budget is computed in part."""

    def __init__(self, spec: ServingSpec, num_blocks: int) -> None:
        self.max_num_seqs = spec.max_num_seqs
        self.budget = spec.max_num_batched_tokens
        self.key = KEYS[spec.scheduling_policy]
        self.block_size = spec.block_size
        self.num_blocks = num_blocks

    def admits(self, roster: Roster) -> bool:
        """See `Scheduler.admits`: in order of arrival one more comes after all who wait, else perhaps first."""
        if roster.num_seated >= self.max_num_seqs or roster.swapped:
            return False
        return self.key is not None or not roster.waiting

    def must_wait(self, roster: Roster) -> bool:
        """See `Scheduler.must_wait`: these decide when a step is over."""
        del roster
        return True

    def refuse(self, request: Request) -> str | None:
        """See `Scheduler.refuse`."""
        del request
        return None

    def admit(self, batch: Batch, roster: Roster, budget: int, free_blocks: int) -> None:
        """Admit to *batch* who may within *budget* tokens and *free_blocks*, and note how that depends on who waits."""
        batch.is_picky = self.key is not None and budget > 0 and roster.num_seated < self.max_num_seqs
        if roster.waiting:
            self._admit(batch, roster, budget, free_blocks)
        batch.is_hungry = not roster.waiting and roster.num_seated < self.max_num_seqs

    def _admit(self, batch: Batch, roster: Roster, budget: int, free_blocks: int) -> None:
        admitted, chunks = [], list(batch.chunks)
        while roster.waiting and budget > 0 and roster.num_seated < self.max_num_seqs:
            request = roster.waiting[0]
            shared = roster.find(request, free_blocks)
            restored = roster.restorable(request, len(shared))
            computed = roster.block_size * (len(shared) + restored)  # tokens whose KV is there already
            tokens = min(request.target - computed, budget)
            if computed + tokens < request.target and not self.splits_prompts:
                break
            # Blocks to begin with that are free are free no more; the others are in use and cost nothing.
            free_blocks -= roster.blocks_held(request, computed + tokens) - sum(block.users > 0 for block in shared)
            if free_blocks < roster.kept_blocks:
                break
            roster.admit(request, shared, restored)
            if restored:
                batch.restored = [*batch.restored, (request, len(shared), restored)]
            roster.note_chunk(request, computed + tokens)
            admitted.append(request)
            chunks.append((request, computed, tokens))
            budget -= tokens
        batch.admitted, batch.chunks = admitted, chunks

    def most_admitted_blocks(self, roster: Roster) -> int:
        """Return how many blocks `admit` takes at most in the next step, those included that are about to be released."""
        coming = islice(roster.waiting, max(0, self.max_num_seqs - len(roster.running)))
        if roster.prefix is not None:
            # They may also begin with blocks that are free.
            return sum(roster.blocks_for(request.target) for request in coming)
        leaving = sum(roster.blocks_held(request, request.most_cached_tokens) for request in roster.leaving)
        budget, free, taken = self.budget, roster.free_blocks + leaving, 0
        for request in coming:
            tokens = min(request.target, budget)
            blocks = roster.blocks_held(request, tokens)
            if not tokens or free - blocks < roster.kept_blocks:
                break
            budget, free, taken = budget - tokens, free - blocks, taken + blocks
        return taken


class Spare(Admission):
    """A decode needs a free block to go on, also where its token fits into the last one it has.

    Args:
        spec: Of the engine.
        num_blocks: KV blocks that there are.
    """

    spare = 1
    """Blocks that must be free for a decode that takes none."""

    def refuse(self, request: Request) -> str | None:
        """See `Scheduler.refuse`: it must be able to go on alone."""
        most = self.num_blocks - self.spare
        if -(-request.most_cached_tokens // self.block_size) > most:
            return f"needs more KV blocks than the {most} with which a request can go on alone"
        return None


def make_room(
    preempted: list[tuple[Request, int]], roster: Roster, demand: Callable[[Request], tuple[int, int]]
) -> int:
    """Give blocks to running requests in their order, preempting where there are too few; return how many they take.

    Args:
        preempted: Gets who is, with the tokens that were in the cache.
        roster: Of the engine.
        demand: How many blocks must be free for a request to go on, and how many of them it takes.
    """
    takes: list[int] = []
    taken = 0
    while len(takes) < len(roster.running):
        request = roster.running[len(takes)]
        least, take = demand(request)
        while taken + least > roster.free_blocks:
            victim = roster.first_to_go()
            place = roster.running.index(victim)
            preempted.append((victim, roster.preempt(victim)))
            if victim is request:
                break
            if place < len(takes):
                taken -= takes.pop(place)
        else:
            takes.append(take)
            taken += take
    return taken


def steps_unchanged(roster: Roster, spare: int = 0) -> int:
    """Return for how many steps decodes go on alone: until one has all its tokens, or blocks run out but for *spare* ones."""
    until_done = roster.decodes.ends[0][0] - roster.decodes.round + 1
    if until_done == 1:
        return 1
    return max(1, roster.decodes.steps_until_shortage(until_done, roster.free_blocks - spare))

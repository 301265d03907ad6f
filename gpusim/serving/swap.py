"""Swapping in: who comes back from host memory, by the rules of vLLM v0.

Swapped requests come before all that wait, first come, first served. One comes back when its blocks, those that its next
tokens need, and the watermark are free. It goes on where it was: nothing is computed again.
"""

from __future__ import annotations

from gpusim.serving.request import Request
from gpusim.serving.roster import Roster


def may_swap_in(roster: Roster, max_num_seqs: int) -> bool:
    """Tell whether the next decision might bring somebody back; if not, it does not."""
    cached = next(iter(roster.swapped.values()))
    return roster.num_seated < max_num_seqs and roster.blocks_for(cached + 1) <= roster.free_blocks


def swap_in(roster: Roster, budget: int, max_num_seqs: int, free_blocks: int) -> tuple[list[tuple[Request, int]], int]:
    """Bring requests back for the next step.

    Args:
        roster: Where somebody is swapped; those who are ready decode already.
        budget: Tokens of a step, those of running requests included.
        max_num_seqs: Most requests that run.
        free_blocks: Blocks that running requests leave free in the next step.

    Returns:
        Who came back, with the tokens in the cache, and the blocks that their next tokens need beside.
    """
    left = budget - roster.decodes.number - sum(r.target - computed for r, computed in roster.prefilling.items())
    swapped_in: list[tuple[Request, int]] = []
    needed = 0
    while roster.swapped and left > 0 and roster.num_seated < max_num_seqs:
        request, cached = next(iter(roster.swapped.items()))
        tokens = max(1, min(request.target - cached, left))
        blocks = roster.blocks_for(cached + tokens)
        if free_blocks - blocks < roster.kept_blocks:
            break
        swapped_in.append(roster.swap_in())
        free_blocks -= blocks
        needed += blocks - roster.blocks_for(cached)
        left -= tokens
    return swapped_in, needed

"""A batch: what a step computes, as a scheduler decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpusim.serving.request import Request


@dataclass(slots=True)
class Batch:
    """What a step computes, and for how many steps that holds; all decoding requests take part, or none."""

    num_decodes: int
    """Sequences that decode; 0 while there are some: they pause."""
    decode_context: int
    """Tokens of context of all decoding requests in the first step, each including the token it computes."""
    begun: Sequence[Request] = ()
    """Requests that decode for the first time."""
    preempted: Sequence[tuple[Request, int]] = ()
    """Requests that lost their blocks to make this batch possible, with the tokens they had in the cache."""
    swapped_in: Sequence[tuple[Request, int]] = ()
    """Requests whose blocks come back from host memory before it, with the tokens in them."""
    restored: Sequence[tuple[Request, int, int]] = ()
    """Admitted requests that begin with blocks from host memory: place of the first, and how many."""
    chunks: Sequence[tuple[Request, int, int]] = ()
    """Prefilling requests with the tokens they have computed, and compute now."""
    admitted: Sequence[Request] = ()
    steps: int = 1
    is_hungry: bool = False
    """Whether another request would have been admitted, had there been one."""
    is_picky: bool = False
    """Whether it is right only with exactly those waiting who do, as one who comes late may go first."""
    num_idle: int = 0
    """Decodes whose token nobody wants: padding."""

    def sums(self) -> tuple[int, int, float, int, int]:
        """Return sequences, their context, pairs of chunks, tokens and sampled sequences, as `Forecast.step` takes them."""
        tokens = sampled = self.num_decodes
        context, pairs = self.decode_context, 0.0
        for request, computed, new in self.chunks:
            end = computed + new
            tokens += new
            context += end
            pairs += new * (end - (new - 1) / 2)
            sampled += end == request.target
        return self.num_decodes + len(self.chunks), context, pairs, tokens, sampled

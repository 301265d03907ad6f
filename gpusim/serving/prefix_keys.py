"""What a KV block holds, as a number: two full blocks have the same key if they hold the same tokens after the same ones.

As in vLLM, a block's key is a hash of all tokens up to its end. Tokens are known as spans of endless sequences
(`gpusim.workload.stream.Content`), so the key is that of the spans before the one in which the block ends, that span's
sequence, and the block's place.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from gpusim.serving.request import Request

_OWN: Final = 1
"""Stands in the keys of tokens that belong to no stated sequence."""


def block_keys(request: Request, block_size: int) -> list[int]:
    """Return the keys of all blocks that the stated content of *request* fills."""
    keys: list[int] = []
    for (start, before), (end, _), (sequence, _) in zip(*_bounds(request), request.content, strict=True):
        blocks = range(start // block_size, end // block_size)
        keys += [hash((before, sequence, place)) for place in blocks]
    return keys


def own_keys(request: Request, first: int, end: int) -> list[int]:
    """Return the keys of the blocks from *first* up to *end*, which hold tokens that no other request has."""
    before = _bounds(request)[1][-1][1] if request.content else 0
    return [hash((before, _OWN, request.index, place)) for place in range(first, end)]


def _bounds(request: Request) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the (tokens, key) of what stands before each span, and before what follows it."""
    bounds = [(0, 0)]
    for sequence, tokens in request.content:
        done, before = bounds[-1]
        bounds.append((done + tokens, hash((before, sequence, tokens))))
    pairs = list(pairwise(bounds))
    return [first for first, _ in pairs], [second for _, second in pairs]

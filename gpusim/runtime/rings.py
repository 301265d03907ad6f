"""Rings through a group of GPUs, as NCCL lays them: along the widest links, and several if links are left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

MAX_SEARCHED_RANKS = 8
"""Above this many ranks the ring follows their order instead of being searched."""

Width = Callable[[str, str], float]
"""Bandwidth from one GPU to another by links of their own, in bytes/s; 0 if they share none."""


def rings(ranks: Sequence[str], width: Width) -> list[tuple[float, tuple[str, ...]]]:
    """Return rings with the share of the traffic each carries.

    Where GPUs have links of their own to some peers (a cube mesh), one ring uses only two links of each GPU; further
    rings use what is left. Where they reach each other through switches one ring fills their ports.

    Args:
        ranks: GPUs, at least two.
        width: Bandwidth of direct links between two of them.
    """
    left = {(a, b): width(a, b) for a in ranks for b in ranks if a != b}
    found: list[tuple[float, tuple[str, ...]]] = []
    while len(ranks) <= MAX_SEARCHED_RANKS and (best := widest_ring(ranks, left)) is not None:
        found.append(best)
        for pair in _arrows(best[1]):
            left[pair] -= best[0]
    if not found:
        return [(1.0, tuple(ranks))]
    total = sum(share for share, _ in found)
    return [(share / total, ring) for share, ring in found]


def widest_ring(ranks: Sequence[str], width: dict[tuple[str, str], float]) -> tuple[float, tuple[str, ...]] | None:
    """Return the ring through all *ranks* whose narrowest arrow is widest, and its width; None if all have a gap.

    Among equals the first in the order of *ranks* wins.
    """
    best: tuple[float, tuple[str, ...]] | None = None
    limit = max(width.values())
    for narrowest, ring in _walks(ranks, width, (ranks[0],), limit):
        if best is None or narrowest > best[0]:
            best = (narrowest, ring)
            if narrowest >= limit:
                break
    return best


def _walks(
    ranks: Sequence[str], width: dict[tuple[str, str], float], walk: tuple[str, ...], narrowest: float
) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Yield every closed walk that extends *walk* along links that exist."""
    if len(walk) == len(ranks):
        closing = min(narrowest, width[walk[-1], walk[0]])
        if closing > 0:
            yield closing, walk
        return
    for rank in ranks:
        if rank not in walk and width[walk[-1], rank] > 0:
            yield from _walks(ranks, width, (*walk, rank), min(narrowest, width[walk[-1], rank]))


def _arrows(ring: Sequence[str]) -> list[tuple[str, str]]:
    return [(a, ring[(i + 1) % len(ring)]) for i, a in enumerate(ring)]


def ring_traffic(found: list[tuple[float, tuple[str, ...]]], bytes_per_arrow: float) -> list[tuple[str, str, float]]:
    """Return (source, target, bytes) of all arrows when each ring carries its share."""
    return [(a, b, share * bytes_per_arrow) for share, ring in found for a, b in _arrows(ring)]


def over_network(nodes: Sequence[Sequence[str]]) -> list[tuple[float, tuple[str, ...]]]:
    """Return rings through several machines, each leaving a machine by another GPU, so that all NICs are used.

    Args:
        nodes: The ranks of each machine.
    """
    count = min(len(node) for node in nodes)
    turned = [tuple(rank for node in nodes for rank in (*node[turn:], *node[:turn])) for turn in range(count)]
    return [(1 / count, ring) for ring in turned]

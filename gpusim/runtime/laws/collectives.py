"""All-reduce, all-gather, reduce-scatter: which algorithm, its fixed time, and the traffic it puts on the links.

    NCCL ring   lat = t_base + t_hop · f · n,  f = 2 (n - 1) / n for all-reduce, (n - 1) / n for the others
                t = lat + min(f b / (ll_fraction · e · link), t_simple + f b / (e · link))
    engine      t = t0 + t_peer (n - 1) + copies · 2 b / HBM
                    + min((n - 1) b / (e1 · link), t_barrier + 2 (n - 1) / n · b / (e2 · link))
    ideal ring  t = f · n · hop latency + f b / link

``b / link`` is not a division: the traffic of the algorithm is laid on the routes of the topology, and the fullest
edge decides. On a switch, or where every pair has its own link, that is the formula above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from gpusim.model.work import Size
from gpusim.spec.laws import EngineAllReduceLawSpec, LawsSpec, NcclLawSpec

Pattern: TypeAlias = Literal["ring", "all_pairs"]
Operation: TypeAlias = Literal["all_reduce", "all_gather", "reduce_scatter"]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to do a collective."""

    name: str
    fixed_s: Size
    """In seconds; like `bytes_per_pair` one number, or one for each of many sizes."""
    pattern: Pattern
    bytes_per_pair: Size
    """Sent along each arrow of the pattern."""
    efficiency: float
    """Achieved / peak of the fullest link."""


def ring_bytes(operation: Operation, num_ranks: int, size_bytes: Size) -> Size:
    """Bytes every rank of a ring sends to its neighbour."""
    return _ring_factor(operation, num_ranks) * size_bytes


def _ring_factor(operation: Operation, num_ranks: int) -> float:
    return (2 if operation == "all_reduce" else 1) * (num_ranks - 1) / num_ranks


def ideal_algorithms(operation: Operation, num_ranks: int, size_bytes: Size, hop_s: float) -> list[Algorithm]:
    """Alpha-beta: a ring at peak bandwidth, each step paying the latency of its route."""
    steps = _ring_factor(operation, num_ranks) * num_ranks
    sent = ring_bytes(operation, num_ranks, size_bytes)
    return [Algorithm("ring", steps * hop_s, "ring", sent, 1.0)]


def calibrated_algorithms(
    operation: Operation, num_ranks: int, size_bytes: Size, laws: LawsSpec, *, direct: bool, hbm_bandwidth: float
) -> list[Algorithm]:
    """Return what the software would choose from.

    Args:
        operation: What to do.
        num_ranks: At least two.
        size_bytes: The full buffer on each rank; many sizes must lie on one side of `own_limit`.
        laws: The device's parameters.
        direct: Every pair of ranks is connected by scale-up links, which an engine's own all-reduce needs.
        hbm_bandwidth: Peak of the ranks' memory.
    """
    own = laws.engine_all_reduce
    if own is not None and np.all(size_bytes <= own_limit(operation, laws, direct=direct)):
        return _engine(own, num_ranks, size_bytes, hbm_bandwidth)
    return _nccl(laws.nccl, operation, num_ranks, size_bytes)


def own_limit(operation: Operation, laws: LawsSpec, *, direct: bool) -> float:
    """Return the largest buffer for which an engine takes its own all-reduce, in bytes; negative if it never does."""
    own = laws.engine_all_reduce
    return own.max_bytes if own is not None and direct and operation == "all_reduce" else -1.0


def _nccl(law: NcclLawSpec, operation: Operation, num_ranks: int, size_bytes: Size) -> list[Algorithm]:
    latency = law.t_base + law.t_hop * _ring_factor(operation, num_ranks) * num_ranks
    sent = ring_bytes(operation, num_ranks, size_bytes)
    return [
        Algorithm("nccl_ll", latency, "ring", sent, law.ll_fraction * law.link_efficiency),
        Algorithm("nccl_simple", latency + law.t_simple, "ring", sent, law.link_efficiency),
    ]


def _engine(law: EngineAllReduceLawSpec, num_ranks: int, size_bytes: Size, hbm_bandwidth: float) -> list[Algorithm]:
    start = law.t0 + law.t_peer * (num_ranks - 1) + law.copies * 2 * size_bytes / hbm_bandwidth
    two_shot = 2 * size_bytes / num_ranks
    return [
        Algorithm("one_shot", start, "all_pairs", size_bytes, law.one_shot_efficiency),
        Algorithm("two_shot", start + law.t_barrier, "all_pairs", two_shot, law.two_shot_efficiency),
    ]

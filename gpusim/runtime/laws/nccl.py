"""NCCL's collectives.

With `n` ranks, `b` bytes and `S` steps of a ring, 2 (n - 1) for all-reduce and n - 1 for the others:

    low latency    t0 + t_hop S + t_spread log c            + (S + copy_share) b / n / (ll_efficiency link)
    128 bytes      t0 + t_spread + t_ll128 + t_hop_ll128 S         + (S + copy_share) b / n / (0.92 link_efficiency link)
    simple         t0 + t_spread + t_simple + t_hop_simple S + (S + copy_share) b / n / (link_efficiency link)
    in the switch  t0 + t_spread + (b / B + 2) (t_loop + (1 + 1 / n) B / (switch_efficiency link))
    pairs          t0 + t_peer (n - 2) + one channel's time + max((n - 1) q / (all_efficiency link), q / (pair_efficiency link))

c: channels in use, from 0 (one) to 1 (24) on a logarithmic scale. B: bytes a loop moves. q = b / n: what a rank sends each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.runtime.laws.collectives import Algorithm, Connection, Operation, Pattern, ring_steps
from gpusim.runtime.laws.nccl_tuning import Protocol, nvls_loop, taken
from gpusim.spec.collective_law import NcclLawSpec
from gpusim.units import KiB, us

LL128_HOP: Final = 1.9 * us
CHANNELS: Final = 24
"""Rings that share a message on NVLink; each is a thread block."""
_LEAST_TRAFFIC: Final = 16 * KiB
"""Bytes a channel must have before another is used; the low-latency protocol counts each byte four times."""
_LL128_PAYLOAD: Final = 0.92
"""120 of 128 bytes, and a little less: the figures of NCCL's own table."""
_PIPELINE: Final = 2.0
"""Loops in the switch that are not hidden: adding up the first, handing out the last."""
_LL_PAIR_LIMIT: Final = 16 * KiB
"""Up to this many bytes a pair uses the low-latency protocol, which sends as many flags as data."""
_LEAST_PART: Final = 64 * KiB
"""Of what goes to one peer that a channel takes before a second one helps."""


def nccl_algorithms(
    law: NcclLawSpec, operation: Operation, size_bytes: FloatArray, ways: Connection
) -> list[Algorithm]:
    """Return what NCCL would do with each of many sizes, (rows,)."""
    if operation == "send_recv":
        return _pairs(law, ways, size_bytes, "pair")
    if operation == "all_to_all":
        return _pairs(law, ways, size_bytes / ways.num_ranks, "all_pairs")
    usable = taken(operation, size_bytes, ways, law.tuning, law.ring.link_efficiency)
    found = {protocol: _of(law, protocol, operation, size_bytes, ways) for protocol in usable}
    return [replace(found[protocol], usable=here) for protocol, here in usable.items()]


def _of(
    law: NcclLawSpec, protocol: Protocol, operation: Operation, size_bytes: FloatArray, ways: Connection
) -> Algorithm:
    if protocol == "nvls":
        return _in_switch(law, operation, size_bytes, ways)
    ring, n = law.ring, ways.num_ranks
    steps, between = ring_steps(operation, n), ring_steps(operation, ways.num_nodes)
    latency: FloatArray | float
    if protocol == "ll":
        latency = ring.t_hop * steps + ring.t_spread * _spread(operation, size_bytes)
        efficiency = _ll_efficiency(law, ways)
    elif protocol == "ll128":
        latency = ring.t_spread + ring.t_ll128 + (LL128_HOP if ring.t_hop_ll128 is None else ring.t_hop_ll128) * steps
        efficiency = _LL128_PAYLOAD * ring.link_efficiency
    else:
        latency = ring.t_spread + ring.t_simple + ring.t_hop_simple * steps
        efficiency = ring.link_efficiency
    start = ring.t0 + between * law.t_network
    piece = size_bytes / n
    copied = ring.copy_share * piece
    return Algorithm(f"nccl_{protocol}", start + latency, "ring", steps * piece, efficiency, copied)


def _spread(operation: Operation, size_bytes: FloatArray) -> FloatArray:
    """Return how many of the channels a low-latency ring uses: 0 for one, 1 for all."""
    counted = 4 * size_bytes * (2 if operation == "all_reduce" else 1)
    result: FloatArray = np.log(np.clip(counted / _LEAST_TRAFFIC, 1, CHANNELS)) / np.log(CHANNELS)
    return result


def _ll_efficiency(law: NcclLawSpec, ways: Connection) -> float:
    return law.ring.ll_efficiency * (law.ring.ll_host_factor if ways.over_hosts else 1.0)


def _in_switch(law: NcclLawSpec, operation: Operation, size_bytes: FloatArray, ways: Connection) -> Algorithm:
    """Every rank reads its part added up and sends it to all at once: 1 + 1 / n of the buffer out of each port, and in."""
    ring = law.ring
    loop = nvls_loop(size_bytes, ways.num_ranks, law.tuning)
    times = size_bytes / loop + _PIPELINE
    sent = 1 + 1 / ways.num_ranks if operation == "all_reduce" else 1.0
    return Algorithm(
        "nccl_nvls",
        ring.t0 + ring.t_spread + times * ring.t_loop,
        "ring",
        sent * size_bytes,
        ring.switch_efficiency,
        exposed_bytes=_PIPELINE * sent * loop,
    )


def _pairs(law: NcclLawSpec, ways: Connection, pair_bytes: FloatArray, pattern: Pattern) -> list[Algorithm]:
    """Return sends and receives of *pair_bytes*, all at once."""
    pairs = law.pairs
    is_all = pattern == "all_pairs"
    start = pairs.t0 + (ways.num_nodes > 1) * law.t_network
    if is_all:
        start += pairs.t_peer * (ways.num_ranks - 2)
    is_small = pair_bytes <= _LL_PAIR_LIMIT
    flagged = start + 2 * pair_bytes / pairs.channel_bandwidth
    plain = start + np.minimum(pair_bytes, _LEAST_PART) / pairs.channel_bandwidth
    whole = pairs.all_efficiency if is_all else law.ring.link_efficiency
    one = pairs.pair_efficiency if is_all else None
    return [
        Algorithm("nccl_pairs_ll", flagged, pattern, pair_bytes, _ll_efficiency(law, ways), usable=is_small),
        Algorithm("nccl_pairs", plain, pattern, pair_bytes, whole, pair_efficiency=one, usable=~is_small),
    ]

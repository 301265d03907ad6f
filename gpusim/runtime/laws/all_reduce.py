"""An engine's own all-reduce over peer memory.

With `n` ranks and `b` bytes:

    one shot    start + max((n - 1) b / (one_shot_efficiency link), b / (pair_efficiency link))
    two shots   start + t_barrier + 2 (n - 1) / n b / (two_shot_efficiency link)
    multicast   start + t_symmetric + copies + (1 + 1 / n) b / (multicast_efficiency link)
    symmetric   start + t_symmetric + t_two_shot + copies + 2 (n - 1) / n b / (two_shot_efficiency link)

start = t0 + t_peer (n - 1) + t_spread, the last in full from 16 KiB on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.runtime.laws.collectives import Algorithm, Connection, Operation, Usable
from gpusim.spec.collective_law import EngineAllReduceLawSpec, SymmetricMemoryLawSpec
from gpusim.units import KiB

_SPREAD: Final = (1 * KiB, 16 * KiB)
"""Where a buffer goes from one thread block to all."""


def own_algorithms(
    law: EngineAllReduceLawSpec | None, operation: Operation, size_bytes: FloatArray, ways: Connection
) -> list[Algorithm]:
    """Return the engine's own ways for those of many sizes (rows,) that it does not leave to NCCL."""
    n = ways.num_ranks
    reachable = ways.num_nodes == 1 and (ways.is_direct or n == 2)
    if law is None or operation != "all_reduce" or not reachable:
        return []
    is_own = size_bytes < law.max_bytes.get(n, 0.0)
    spread = np.log(np.clip(size_bytes, *_SPREAD) / _SPREAD[0]) / np.log(_SPREAD[1] / _SPREAD[0])
    start = law.t0 + law.t_peer * (n - 1) + law.t_spread * spread
    found = _shots(law, n, size_bytes, start, is_own)
    if law.symmetric is not None and ways.is_switched:
        here = ~is_own & (size_bytes <= law.symmetric.max_bytes.get(n, 0.0))
        copies_s = law.symmetric.copies * 2 * size_bytes / ways.hbm_bandwidth
        found.append(replace(_symmetric(law.symmetric, n, size_bytes, start + copies_s), usable=here))
    return found


def _shots(
    law: EngineAllReduceLawSpec, n: int, size_bytes: FloatArray, start: FloatArray, is_own: Usable
) -> list[Algorithm]:
    """Return one shot and, of three ranks or more, two: whichever the engine's rule says, or else the faster."""
    switch = law.two_shot_from.get(n) if law.two_shot_from else None
    is_large = size_bytes >= switch if switch is not None else None
    one = Algorithm(
        "one_shot",
        start,
        "all_pairs",
        size_bytes,
        law.one_shot_efficiency,
        pair_efficiency=law.pair_efficiency,
        usable=is_own if is_large is None else is_own & ~is_large,
    )
    if n == 2 or (law.two_shot_from and switch is None):
        return [one]
    usable = is_own if is_large is None else is_own & is_large
    sent = 2 * size_bytes / n
    return [
        one,
        Algorithm("two_shot", start + law.t_barrier, "all_pairs", sent, law.two_shot_efficiency, usable=usable),
    ]


def _symmetric(law: SymmetricMemoryLawSpec, n: int, size_bytes: FloatArray, start: FloatArray) -> Algorithm:
    """Return what works on a buffer all ranks share, into which data is copied, and out of which."""
    start = start + law.t0
    if n in law.multicast_ranks:
        return Algorithm("multicast", start, "ring", (1 + 1 / n) * size_bytes, law.multicast_efficiency)
    return Algorithm("symmetric", start + law.t_two_shot, "all_pairs", 2 * size_bytes / n, law.two_shot_efficiency)

"""When requests arrive: constant, Poisson, gamma, closed, all at once, in stages.

Times are cumulated one gap at a time from the start, so a longer stream repeats a shorter one bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, repeat

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.core.random import BLOCK, Streams
from gpusim.spec.arrivals import (
    ArrivalsSpec,
    AtOnceArrivals,
    ClosedArrivals,
    ConstantArrivals,
    GammaArrivals,
    StagedArrivals,
)
from gpusim.workload.stages import staged_blocks

GAPS = "workload.gaps"
"""Random stream of the gaps between arrivals."""


def arrival_blocks(spec: ArrivalsSpec, streams: Streams) -> Iterator[list[float] | None]:
    """Yield the arrival times of requests 0, 1, 2 ... in seconds, `BLOCK` at a time, without end but for stages.

    Constant arrivals start at 0, random ones after their first gap. In a closed loop a block is None: a client sends
    its next request when its last one has finished, which only the engine knows.
    """
    match spec:
        case AtOnceArrivals():
            return repeat([0.0] * BLOCK)
        case ClosedArrivals():
            return repeat(None)
        case ConstantArrivals():
            return ((np.arange(first, first + BLOCK) / spec.rate).tolist() for first in count(0, BLOCK))
        case StagedArrivals():
            return staged_blocks(spec, streams, GAPS)
        case GammaArrivals():
            return _cumulated(gamma_gaps(spec.rate, spec.burstiness, streams))
        case _:
            return _cumulated(gamma_gaps(spec.rate, 1.0, streams))


def _cumulated(blocks: Iterator[FloatArray]) -> Iterator[list[float]]:
    last = 0.0
    for gaps in blocks:
        gaps[0] += last
        times: list[float] = np.cumsum(gaps).tolist()
        last = times[-1]
        yield times


def gamma_gaps(rate_per_s: float, burstiness: float, streams: Streams) -> Iterator[FloatArray]:
    """Yield gaps in seconds, a block at a time: gamma with shape *burstiness* and mean 1 / *rate_per_s*.

    Shape 1 is the exponential distribution, so Poisson arrivals are the special case it names.
    """
    scale_s = 1 / (rate_per_s * burstiness)

    def draw(generator: np.random.Generator, size: int) -> FloatArray:
        return generator.gamma(burstiness, scale_s, size)

    return streams.blocks(GAPS, draw)

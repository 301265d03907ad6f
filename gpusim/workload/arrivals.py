"""When requests arrive: constant, Poisson, gamma, closed, all at once.

Times are cumulated one gap at a time from the start, so a longer stream repeats a shorter one bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, count, repeat

import numpy as np

from gpusim.core.clock import FloatArray
from gpusim.core.random import Streams
from gpusim.spec.workload import ArrivalsSpec, AtOnceArrivals, ClosedArrivals, ConstantArrivals, GammaArrivals

GAPS = "workload.gaps"
"""Random stream of the gaps between arrivals."""


def arrival_times(spec: ArrivalsSpec, streams: Streams) -> Iterator[float | None]:
    """Yield the arrival time of request 0, 1, 2 ... in seconds, without end.

    Constant arrivals start at 0, random ones after their first gap. In a closed loop the time is None: a client sends
    its next request when its last one has finished, which only the engine knows.
    """
    match spec:
        case AtOnceArrivals():
            return repeat(0.0)
        case ClosedArrivals():
            return repeat(None)
        case ConstantArrivals():
            return (index / spec.rate for index in count())
        case GammaArrivals():
            return accumulate(gamma_gaps(spec.rate, spec.burstiness, streams))
        case _:
            return accumulate(gamma_gaps(spec.rate, 1.0, streams))


def gamma_gaps(rate_per_s: float, burstiness: float, streams: Streams) -> Iterator[float]:
    """Yield gaps in seconds: gamma with shape *burstiness* and mean 1 / *rate_per_s*.

    Shape 1 is the exponential distribution, so Poisson arrivals are the special case it names.
    """
    scale_s = 1 / (rate_per_s * burstiness)

    def draw(generator: np.random.Generator, size: int) -> FloatArray:
        return generator.gamma(burstiness, scale_s, size)

    return streams.values(GAPS, draw)

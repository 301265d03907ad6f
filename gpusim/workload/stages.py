"""Arrivals of a rate that changes from stage to stage, and within one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, chain, count, islice

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.core.random import BLOCK, Streams
from gpusim.spec.arrivals import Stage, StagedArrivals


def staged_blocks(spec: StagedArrivals, streams: Streams, gaps: str) -> Iterator[list[float]]:
    """Yield the arrival times of all stages in seconds, `BLOCK` at a time, the last block shorter.

    Each stage begins anew, from random numbers of its own, so another stage before it moves its arrivals as a whole. With x
    summing gaps of mean 1, an arrival is where the integral of the rate over the stage is x: with exponential gaps exactly a
    Poisson process of that rate.

    Args:
        spec: The stages.
        streams: The random streams of the workload.
        gaps: Name of the streams of gaps, to which the number of the stage is added.
    """
    starts_s = accumulate((stage.duration for stage in spec.stages), initial=0.0)
    stages = zip(spec.stages, starts_s, count(), strict=False)
    parts = (start_s + part for stage, start_s, number in stages for part in _stage(stage, streams, f"{gaps}.{number}"))
    times = chain.from_iterable(part.tolist() for part in parts)
    while block := list(islice(times, BLOCK)):
        yield block


def _stage(stage: Stage, streams: Streams, gaps: str) -> Iterator[FloatArray]:
    """Yield the arrivals of one stage, in seconds from its start."""
    end_rate = stage.rate if stage.to is None else stage.to
    expected = stage.duration * (stage.rate + end_rate) / 2
    for passed in _passed(stage, streams, gaps):
        inside = passed[: int(np.searchsorted(passed, expected))]
        if len(inside):
            yield _when(inside, stage.rate, (end_rate - stage.rate) / stage.duration)
        if len(inside) < len(passed):
            return


def _passed(stage: Stage, streams: Streams, gaps: str) -> Iterator[FloatArray]:
    """Yield the number of requests that are expected before each one, a block at a time, without end."""
    if stage.kind == "constant":
        return (np.arange(first, first + BLOCK, dtype=np.float64) for first in count(0, BLOCK))
    shape = stage.burstiness
    return _cumulated(streams.blocks(gaps, lambda generator, size: generator.gamma(shape, 1 / shape, size)))


def _cumulated(blocks: Iterator[FloatArray]) -> Iterator[FloatArray]:
    last = 0.0
    for gaps in blocks:
        gaps[0] += last
        sums: FloatArray = np.cumsum(gaps)
        last = float(sums[-1])
        yield sums


def _when(passed: FloatArray, rate: float, slope: float) -> FloatArray:
    """Return t with ``rate t + slope t² / 2 = passed``, the smaller root, without loss of digits for small slopes."""
    root = rate + np.sqrt(np.maximum(rate * rate + 2 * slope * passed, 0.0))
    times: FloatArray = np.divide(2 * passed, root, out=np.zeros_like(passed), where=root > 0)
    return times

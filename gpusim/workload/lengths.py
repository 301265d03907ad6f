"""How long prompts and outputs are, in whole tokens, and how long clients think, in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.core.random import Streams
from gpusim.spec.lengths import (
    ExponentialTime,
    FixedLength,
    FixedTime,
    LengthSpec,
    LognormalLength,
    QuantileLength,
    TimeSpec,
    UniformLength,
)

NORMAL_P99: Final = 2.3263478740408408
"""99th percentile of the standard normal distribution."""

Draw = Callable[[np.random.Generator, int], FloatArray]


def length_blocks(spec: LengthSpec, stream: str, streams: Streams) -> Iterator[list[int]]:
    """Yield the lengths in tokens of requests 0, 1, 2 ... a block at a time, without end, at least 1 each.

    Args:
        spec: The distribution.
        stream: Name of the random stream; prompts and outputs have their own, so neither moves the other.
        streams: The random streams of the workload.
    """
    return (tokens.astype(np.int64).tolist() for tokens in streams.blocks(stream, _draw(spec)))


def time_blocks(spec: TimeSpec, stream: str, streams: Streams) -> Iterator[list[float]]:
    """Yield think times in seconds a block at a time, without end; see `length_blocks`."""
    return (times.tolist() for times in streams.blocks(stream, _draw_time(spec)))


def _draw_time(spec: TimeSpec) -> Draw:
    match spec:
        case FixedTime():
            return lambda _, size: np.full(size, spec.value)
        case ExponentialTime():
            return lambda generator, size: generator.exponential(spec.mean, size)
        case _:
            sigma = math.log(spec.p99 / spec.median) / NORMAL_P99
            return lambda generator, size: spec.median * np.exp(sigma * generator.standard_normal(size))


def _draw(spec: LengthSpec) -> Draw:
    match spec:
        case FixedLength():
            return lambda _, size: np.full(size, float(spec.value))
        case UniformLength():
            return lambda generator, size: generator.integers(spec.low, spec.high + 1, size).astype(np.float64)
        case LognormalLength():
            return _lognormal(spec)
        case QuantileLength():
            return _quantiles(spec)


def _lognormal(spec: LognormalLength) -> Draw:
    """Return ``median exp(sigma z)``, rounded, cut to [1, max]; sigma puts the 99th percentile where it is stated."""
    sigma = math.log(spec.p99 / spec.median) / NORMAL_P99
    longest = math.inf if spec.max is None else float(spec.max)

    def draw(generator: np.random.Generator, size: int) -> FloatArray:
        tokens: FloatArray = np.rint(spec.median * np.exp(sigma * generator.standard_normal(size)))
        return tokens.clip(1.0, longest)

    return draw


def _quantiles(spec: QuantileLength) -> Draw:
    """Return the inverse of the piecewise-linear distribution function at uniform levels, rounded."""
    levels = np.array(sorted(spec.quantiles))
    tokens = np.array([spec.quantiles[level] for level in sorted(spec.quantiles)])

    def draw(generator: np.random.Generator, size: int) -> FloatArray:
        rounded: FloatArray = np.rint(np.interp(generator.random(size), levels, tokens))
        return rounded

    return draw

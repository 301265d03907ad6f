"""Exact statistics of weighted observations, without expanding the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.core.clock import TICKS_PER_S

Values: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
"""Integer ticks, or float seconds."""
WeightArray: TypeAlias = "np.ndarray[Any, np.dtype[np.integer[Any]]]"

_BLOCK: Final = 1 << 16
"""Observations taken at a time where temporaries would be as large as the sample."""
NUM_BATCHES: Final = 20
_STUDENT_T: Final = 2.093024054408263
"""0.975 quantile of Student's t with NUM_BATCHES - 1 = 19 degrees of freedom (tabulated)."""
MIN_FOR_MEAN: Final = 10
MIN_FOR_P99: Final = 100
"""Observations each batch must have; below 100 a batch's p99 would be its maximum."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Observations in order of time, each made *weights* times.

    Args:
        values: Integer ticks, or float seconds (num_observations,).
        weights: Positive integers (num_observations,); None if each counts once.
    """

    values: Values
    weights: WeightArray | None = None

    @property
    def count(self) -> int:
        """Sum of the weights."""
        return len(self.values) if self.weights is None else int(self.weights.sum())

    def part(self, where: slice) -> Sample:
        """Return the observations at the positions *where*."""
        return Sample(self.values[where], None if self.weights is None else self.weights[where])


def as_seconds(value: float) -> float:
    """Convert one observation: an integer is ticks (correctly rounded), a float is seconds already."""
    return value / TICKS_PER_S if isinstance(value, int) else value


def mean_s(sample: Sample) -> float:
    """Return the weighted mean in seconds; of ticks, the exact mean, rounded once."""
    if sample.values.dtype.kind == "f":
        total = sample.values.sum() if sample.weights is None else sample.values @ sample.weights
        return float(total) / sample.count
    return total_ticks(sample) / (sample.count * TICKS_PER_S)


def total_ticks(sample: Sample) -> int:
    """Sum value times weight in two halves that do not overflow: exact up to 2⁸⁷ ticks and 2³⁹ counts."""
    return sum(_block_ticks(sample.part(slice(at, at + _BLOCK))) for at in range(0, len(sample.values), _BLOCK))


def _block_ticks(block: Sample) -> int:
    high, low = block.values >> 24, block.values & 0xFFFFFF
    if block.weights is None:
        return (int(high.sum()) << 24) + int(low.sum())
    return (int(high @ block.weights) << 24) + int(low @ block.weights)


def quantiles_s(sample: Sample, parts: Sequence[int], *, per: int = 1000) -> list[float]:
    """Return the quantiles at *parts* / *per* in seconds.

    The quantile at p is the smallest value whose cumulative weight is at least p times the total (the inverted
    distribution function): always a value that occurred, never interpolated.
    """
    count = sample.count
    needed = [max(1, -(-count * p // per)) for p in parts]
    if sample.weights is None:
        values = np.sort(sample.values)
        return [as_seconds(values[n - 1].item()) for n in needed]
    order = np.argsort(sample.values)
    cumulative = _cumulative(sample.weights[order])
    return [as_seconds(sample.values[order[position]].item()) for position in np.searchsorted(cumulative, needed)]


def _cumulative(weights: WeightArray) -> IntArray:
    total = weights.astype(np.int64)
    return np.cumsum(total, out=total)


def p99_s(sample: Sample) -> float:
    """Return the 99th percentile in seconds."""
    return quantiles_s(sample, (990,))[0]


def batches(sample: Sample) -> list[Sample]:
    """Cut *sample* in order of time into `NUM_BATCHES` of equal weight, as nearly as whole observations allow."""
    count = sample.count
    if sample.weights is None:
        cuts = [count * b // NUM_BATCHES for b in range(NUM_BATCHES + 1)]
    else:
        after = _cumulative(sample.weights)
        bounds = [-(-count * b // NUM_BATCHES) for b in range(1, NUM_BATCHES)]
        # A batch begins with the first observation that has its bound, or more, before it.
        inner = np.minimum(np.searchsorted(after, bounds) + 1, len(after))
        cuts = [0, *inner.tolist(), len(after)]
    return [sample.part(slice(low, high)) for low, high in pairwise(cuts)]


def interval_s(
    parts: Sequence[Sample], estimate_s: float, statistic: Callable[[Sample], float], min_observations: int
) -> tuple[float, float] | None:
    """Return a 95 % confidence interval round *estimate_s* from the spread of *statistic* over batches.

    Batches long against the correlation time are nearly independent; their spread round the estimate of the whole,
    divided by the root of their number, is its error, with Student's t for 20 batches.

    Args:
        parts: The sample as `batches` cuts it.
        estimate_s: *statistic* of the whole sample.
        statistic: Mean or quantile, in seconds.
        min_observations: None is returned if a batch has fewer observations, whatever their weights: tokens of one
            step are not independent.

    Reference: Asmussen and Glynn, 2007, "Stochastic Simulation", III.5 (batch means, sectioning).
    """
    if min(len(part.values) for part in parts) < min_observations:
        return None
    squares = math.fsum((statistic(part) - estimate_s) ** 2 for part in parts)
    half = _STUDENT_T * math.sqrt(squares / (len(parts) * (len(parts) - 1)))
    return estimate_s - half, estimate_s + half

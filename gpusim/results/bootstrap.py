"""Block bootstrap: how far a statistic of correlated observations would scatter if they were made again.

Blocks of successive observations are drawn with replacement and laid end to end. Within a block the observations keep
what ties them to their neighbours, so the spread of a statistic over such samples is that of correlated data. The
blocks are circular: one that passes the end goes on at the beginning, so every observation is drawn equally often.

References:
    Politis and Romano, 1992, "A circular block-resampling procedure for stationary data".
    Politis and White, 2004, "Automatic block-length selection for the dependent bootstrap"; corrected by Patton,
    Politis and White, 2009.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray

MIN_BLOCKS: Final = 10
"""Fewer blocks than this say nothing of a spread."""
_SIGNIFICANT: Final = 2.0
"""Standard errors (times the root of log10 n) that an autocorrelation must exceed to count (Politis and White)."""


def block_length(series: FloatArray) -> float:
    """Return the length of blocks that suits a stationary *series* (n,), by the rule of Politis and White.

    It weighs the bias of short blocks, which cut correlations, against the scatter of few long ones, for the variance
    of the mean. Between 1 and 3 √n, and at most n / 3.
    """
    n = len(series)
    longest = math.ceil(min(3 * math.sqrt(n), n / 3))
    if n < MIN_BLOCKS or not np.ptp(series):
        return 1.0
    neighbours = max(5, math.floor(math.sqrt(math.log10(n))))
    covariances = _autocovariances(series, min(n - 1, math.ceil(math.sqrt(n)) + neighbours))
    bandwidth = min(2 * _last_correlated(covariances, n, neighbours), len(covariances) - 1)
    lags = np.arange(1, bandwidth + 1)
    # A flat-top window: lags up to half the bandwidth count fully, then less and less.
    weighted = np.minimum(1.0, 2 * (1 - lags / bandwidth)) * covariances[1 : bandwidth + 1]
    slope = 2 * float(lags @ weighted)
    long_run = covariances[0] + 2 * float(weighted.sum())
    if long_run <= 0:
        return 1.0
    return float(np.clip((1.5 * (slope / long_run) ** 2 * n) ** (1 / 3), 1.0, longest))


def _autocovariances(series: FloatArray, last_lag: int) -> FloatArray:
    centred = series - series.mean()
    n = len(series)
    return np.array([centred[: n - lag] @ centred[lag:] / n for lag in range(last_lag + 1)])


def _last_correlated(covariances: FloatArray, n: int, neighbours: int) -> int:
    """Return the lag after which *neighbours* successive autocorrelations are no larger than chance makes them."""
    limit = _SIGNIFICANT * math.sqrt(math.log10(n) / n)
    large = np.flatnonzero(np.abs(covariances[1:] / covariances[0]) >= limit) + 1
    last = 0
    for lag in large.tolist():
        if lag > last + neighbours:
            break
        last = lag
    return max(last, 1)


def draw_counts(num_observations: int, length: int, num_samples: int, random: np.random.Generator) -> IntArray:
    """Say how often each observation is in each sample (num_samples, num_observations); each sample has as many as there are.

    Args:
        num_observations: In order of time.
        length: Observations in a block; the last block of a sample is cut to fit.
        num_samples: Samples to draw.
        random: Where the beginnings of blocks come from.
    """
    n = num_observations
    num_blocks = -(-n // length)
    begins = random.integers(0, n, (num_samples, num_blocks))
    lengths = np.full(num_blocks, length)
    lengths[-1] = n - (num_blocks - 1) * length
    # +1 where a block begins and -1 behind its end, on a line of two rounds laid over each other.
    changes = np.zeros((num_samples, 2 * n + 1), np.int64)
    rows = np.arange(num_samples)[:, None]
    np.add.at(changes, (rows, begins), 1)
    np.subtract.at(changes, (rows, begins + lengths), 1)
    covered = np.cumsum(changes, axis=1)
    counts: IntArray = covered[:, :n] + covered[:, n : 2 * n]
    return counts


def weighted_quantiles(values: FloatArray, counts: IntArray, per_mille: Sequence[int]) -> FloatArray:
    """Return the quantiles of *values* (n,) in every sample, (num_samples, len(per_mille)); NaN in an empty sample.

    As `statistics.quantiles_s` has them: the smallest value whose cumulative count is at least p times the total.

    Args:
        values: Of the observations.
        counts: How often each is in each sample (num_samples, n).
        per_mille: The quantiles, in thousandths.
    """
    found = np.full((len(counts), len(per_mille)), np.nan)
    if not len(values):
        return found
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    for row, count in enumerate(counts):
        cumulative = np.cumsum(count[order])
        if total := int(cumulative[-1]):
            needed = [max(1, -(-total * p // 1000)) for p in per_mille]
            found[row] = ascending[np.searchsorted(cumulative, needed)]
    return found


@dataclass(frozen=True, slots=True)
class Replicates:
    """A statistic as it was observed, and of the same observations otherwise counted.

    Args:
        estimate: As observed.
        samples: Of each bootstrap sample (num_samples,).
        without: With each block left out in turn (num_blocks,).
    """

    estimate: float
    samples: FloatArray
    without: FloatArray

    @property
    def is_finite(self) -> bool:
        """Whether it has a value in every sample, as a mean over requests that some sample lacks has not."""
        return bool(np.isfinite(self.samples).all() and np.isfinite(self.without).all())

    @property
    def smallest(self) -> float:
        """The smallest of all its values."""
        return float(min(self.estimate, self.samples.min(initial=np.inf), self.without.min(initial=np.inf)))

    def log(self) -> Replicates:
        """Return its logarithm."""
        return Replicates(math.log(self.estimate), np.log(self.samples), np.log(self.without))

    def minus(self, other: Replicates) -> Replicates:
        """Return how much larger it is than *other*, which has the same samples."""
        return Replicates(self.estimate - other.estimate, self.samples - other.samples, self.without - other.without)

    @property
    def variance(self) -> float:
        """Mean square distance of the samples from the estimate."""
        return float(np.mean((self.samples - self.estimate) ** 2))

    @property
    def degrees(self) -> float:
        """Degrees of freedom of that variance: one less than there are blocks, and fewer if few of them decide.

        Each block has an influence, which leaving it out shows. Were the influences u normal, Σ u² would have as many
        degrees as there are blocks; a single one that outweighs all others leaves two. By Satterthwaite's rule they are
        2 (Σ u²)² over the variance of Σ u², here as it is estimated from their fourth powers.

        Reference: Satterthwaite, 1946, "An approximate distribution of estimates of variance components".
        """
        number = len(self.without)
        squares = (self.without - self.estimate) ** 2
        scatter = float(np.sum((squares - squares.mean()) ** 2))
        most = max(number - 1.0, 1.0)
        return min(most, max(2 * float(squares.sum()) ** 2 / scatter, 1.0)) if scatter else most


def spread(parts: Sequence[Replicates]) -> tuple[float, float]:
    """Return the standard error of a sum of independent *parts*, and its degrees of freedom (Welch, 1947)."""
    variances = [part.variance for part in parts]
    total = sum(variances)
    weighted = sum(variance**2 / part.degrees for variance, part in zip(variances, parts, strict=True))
    return math.sqrt(total), total**2 / weighted if weighted else min(part.degrees for part in parts)


def quantile_degrees(beyond: float) -> float:
    """Return the degrees of freedom of the bootstrap's variance of a quantile with *beyond* observations beyond it.

    It rests on how densely the few observations round the quantile lie: √(π k) degrees, however many there are in all.
    Of correlated observations those of one block count as one, as all that a single long queue made late.

    Reference: Hall and Martin, 1988, "Exact convergence rate of bootstrap quantile variance estimator".
    """
    return math.sqrt(math.pi * beyond)


def leave_out_counts(num_observations: int, length: int) -> IntArray:
    """Return counts (num_blocks, num_observations): of 1, but 0 in one block of about *length* in turn."""
    num_blocks = max(num_observations // length, 1)
    block = np.arange(num_observations) * num_blocks // num_observations
    counts: IntArray = (block != np.arange(num_blocks)[:, None]).astype(np.int64)
    return counts

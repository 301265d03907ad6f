"""Weighted statistics against expanded ones."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.results import statistics
from gpusim.results.statistics import NUM_BATCHES, Sample

weighted = st.lists(st.tuples(st.integers(0, 10**18), st.integers(1, 50)), min_size=1, max_size=60)


def sample_of(pairs) -> Sample:
    values, weights = zip(*pairs, strict=True)
    return Sample(np.array(values), np.array(weights))


@given(pairs=weighted, per_mille=st.integers(1, 1000))
def test_quantiles_are_those_of_the_expanded_list(pairs, per_mille):
    """The quantile is the smallest value that at least p of all observations do not exceed."""
    expanded = sorted(value for value, weight in pairs for _ in range(weight))
    enough = [v for i, v in enumerate(expanded) if Fraction(i + 1, len(expanded)) >= Fraction(per_mille, 1000)]
    assert statistics.quantiles_s(sample_of(pairs), [per_mille]) == [enough[0] / 10**12]
    assert statistics.quantiles_s(Sample(np.array(expanded)), [per_mille]) == [enough[0] / 10**12]


@given(pairs=weighted)
def test_the_mean_is_exact(pairs):
    """No sum overflows or is rounded before the last division, with values of 11 days."""
    exact = Fraction(sum(v * w for v, w in pairs), sum(w for _, w in pairs) * 10**12)
    assert statistics.mean_s(sample_of(pairs)) == float(exact)


def test_a_sum_beyond_64_bits():
    """A million waits of 10⁵ s, 10²³ ticks, add up exactly."""
    assert statistics.total_ticks(Sample(np.full(10**6, 10**17 + 1))) == 10**23 + 10**6


@given(pairs=weighted)
def test_batches_partition_the_sample(pairs):
    """Batches keep order and weight, and none is off its share by more than one observation at each side."""
    sample = sample_of(pairs)
    parts = statistics.batches(sample)
    assert np.concatenate([part.values for part in parts]).tolist() == sample.values.tolist()
    assert len(parts) == NUM_BATCHES
    assert all(abs(p.count - sample.count / NUM_BATCHES) <= max(sample.weights) + 1 for p in parts)


def test_the_interval_matches_student_by_hand():
    """With batch means 0 .. 19 the half-width is t(0.975, 19) times their standard error."""
    values = np.repeat(np.arange(20.0), 10)
    low, high = statistics.interval_s(statistics.batches(Sample(values)), 9.5, statistics.mean_s, 10)
    assert (high - low) / 2 == pytest.approx(2.093024 * math.sqrt(35.0 / 20), rel=1e-6)
    assert (low + high) / 2 == pytest.approx(9.5)


def test_too_few_observations_have_no_interval():
    """Below 10 per batch there is no interval, however heavy the observations."""
    sample = Sample(np.arange(199), np.full(199, 1000))
    assert statistics.interval_s(statistics.batches(sample), 1.0, statistics.mean_s, 10) is None


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_interval_covers_the_truth(seed):
    """Of 200 samples of exponential values, 95 % intervals hold the true mean in 88 to 100 %, and the p99 as well."""
    rng = np.random.default_rng(seed)
    covered = np.zeros(2)
    for _ in range(200):
        sample = Sample(rng.exponential(1.0, 2000))
        parts = statistics.batches(sample)
        for i, (statistic, truth) in enumerate(((statistics.mean_s, 1.0), (statistics.p99_s, math.log(100)))):
            low, high = statistics.interval_s(parts, statistic(sample), statistic, 10)
            covered[i] += low <= truth <= high
    assert (covered >= 176).all()

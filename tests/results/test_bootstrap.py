"""The block bootstrap: known spreads, of independent and of correlated observations."""

import math

import numpy as np
import pytest

from gpusim.results.bootstrap import (
    Replicates,
    block_length,
    draw_counts,
    leave_out_counts,
    quantile_degrees,
    spread,
    weighted_quantiles,
)
from gpusim.results.statistics import Sample, quantiles_s

RANDOM = np.random.default_rng(5)


def autoregressive(n, phi, random):
    """Return n values of x' = phi x + noise, of variance 1 / (1 - phi²)."""
    values = np.empty(n)
    value = random.normal() / math.sqrt(1 - phi**2)
    for i, noise in enumerate(random.normal(size=n)):
        value = phi * value + noise
        values[i] = value
    return values


def error_of_mean(values, length, random, num_samples=300):
    """Return the bootstrap's standard error of the mean."""
    counts = draw_counts(len(values), length, num_samples, random)
    return float((counts @ values / len(values)).std())


def test_samples_are_as_long_as_the_data():
    """Whatever the length of blocks, a sample has as many observations as there are, each drawn as often in the mean."""
    for length in (1, 7, 50):
        counts = draw_counts(50, length, 2000, RANDOM)
        assert (counts.sum(axis=1) == 50).all()
        assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)


def test_blocks_are_whole():
    """With blocks of all observations every sample is the data themselves."""
    assert (draw_counts(30, 30, 20, RANDOM) == 1).all()


def test_mean_of_independent_values():
    """Of independent normal values the mean scatters by sd / √n."""
    values = RANDOM.normal(size=1000)
    assert error_of_mean(values, 1, RANDOM, 2000) == pytest.approx(values.std() / math.sqrt(1000), rel=0.06)


def test_correlated_values_scatter_more():
    """Of an AR(1) the mean scatters by σ / ((1 - φ) √n): blocks see it, single draws see a third."""
    phi, n = 0.8, 2000
    truth = 1 / (1 - phi) / math.sqrt(n)
    series = [autoregressive(n, phi, RANDOM) for _ in range(8)]
    lengths = [math.ceil(block_length(values)) for values in series]
    blocks = np.mean([error_of_mean(v, length, RANDOM) for v, length in zip(series, lengths, strict=True)])
    single = np.mean([error_of_mean(v, 1, RANDOM) for v in series])
    assert blocks == pytest.approx(truth, rel=0.2)
    assert single == pytest.approx(truth / 3, rel=0.2)


def test_blocks_are_longer_the_longer_correlations_last():
    """Independent values need blocks of about one; the length grows with the correlation and has a limit."""
    lengths = [block_length(autoregressive(2000, phi, np.random.default_rng(1))) for phi in (0.0, 0.5, 0.9)]
    assert lengths == sorted(lengths)
    assert lengths[0] < 8
    assert lengths[2] > 20
    assert block_length(np.arange(900.0)) <= 3 * 30
    assert block_length(np.ones(100)) == 1


def test_block_length_of_an_ar1_is_that_of_the_formula():
    """Of an AR(1), Σ |k| R(k) / Σ R(k) is 2 φ / (1 - φ²), and the length (3/2 of its square, times n)^(1/3)."""
    phi, n = 0.5, 20_000
    expected = (1.5 * (2 * phi / (1 - phi**2)) ** 2 * n) ** (1 / 3)
    found = np.median([block_length(autoregressive(n, phi, RANDOM)) for _ in range(5)])
    assert found == pytest.approx(expected, rel=0.2)


def test_quantiles_are_those_of_the_counts():
    """A quantile of a sample is what the statistics of results make of values as often as they were drawn."""
    values = RANDOM.integers(0, 40, 60).astype(float)
    counts = draw_counts(60, 4, 5, RANDOM)
    found = weighted_quantiles(values, counts, (500, 990))
    for row, count in zip(found, counts, strict=True):
        drawn = count > 0
        assert row.tolist() == quantiles_s(Sample(values[drawn], count[drawn]), (500, 990))


def test_left_out_blocks_cover_all():
    """Each observation is left out once."""
    counts = leave_out_counts(103, 10)
    assert counts.shape == (10, 103)
    assert (counts.sum(axis=0) == 9).all()


def test_degrees_of_freedom():
    """Equal influences leave one degree less than blocks; one that outweighs all others leaves two."""
    even = Replicates(0.0, np.array([-1.0, 1.0]), np.tile([1.0, -1.0], 20))
    lone = Replicates(0.0, np.array([-1.0, 1.0]), np.array([1.0] + [0.0] * 39))
    assert even.degrees == 39
    assert lone.degrees == pytest.approx(2, rel=0.05)
    assert spread([even]) == (1.0, 39)
    assert spread([even, even]) == (pytest.approx(math.sqrt(2)), pytest.approx(78))
    assert quantile_degrees(100) == pytest.approx(17.7, rel=0.01)

"""How long prompts and outputs are: each distribution against what its spec states."""

import math
from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gpusim.core.random import Streams
from gpusim.spec.lengths import FixedLength, LognormalLength, QuantileLength, UniformLength
from gpusim.workload.lengths import length_blocks

N = 40_000


def draw(spec, count=N, *, seed=0, stream="prompts"):
    return list(islice(chain.from_iterable(length_blocks(spec, stream, Streams(seed))), count))


def lognormal(median=1020, p99=4100, maximum=None):
    return LognormalLength(kind="lognormal", median=median, p99=p99, max=maximum)


def quantiles(table):
    return QuantileLength(kind="quantiles", quantiles=table)


def assert_share_at_most(values, tokens, level):
    """The share of *values* up to *tokens* is *level* within four standard errors of a binomial."""
    share = np.mean(np.array(values) <= tokens)
    assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / len(values)))


def test_fixed_is_fixed():
    """Every length is the stated one, as an int."""
    assert draw(FixedLength(kind="fixed", value=128), 3) == [128, 128, 128]


def test_uniform_takes_every_length_equally_often():
    """Both ends occur, nothing beyond them, each as often as the others within four standard errors."""
    counts = np.bincount(draw(UniformLength(kind="uniform", low=3, high=12)), minlength=13)
    assert counts[:3].sum() == 0
    assert counts[3:] / N == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / N))


def test_lognormal_has_the_stated_median_and_99th_percentile():
    """Half the lengths are up to the median, 99 % up to p99; half a token is rounded away."""
    values = draw(lognormal(), 8 * N)
    assert_share_at_most(values, 1020.5, 0.5)
    assert_share_at_most(values, 4100.5, 0.99)


def test_lognormal_is_cut_to_its_maximum_and_to_one():
    """What would be longer is max, what would be shorter than a token is one token; the rest is untouched."""
    free, cut = np.array(draw(lognormal(2, 50))), np.array(draw(lognormal(2, 50, maximum=20)))
    assert cut.tolist() == free.clip(max=20).tolist()
    assert free.min() == 1
    assert free.max() > 20


def test_lognormal_without_spread_is_fixed():
    """p99 = median leaves one length."""
    assert set(draw(lognormal(7, 7), 100)) == {7}


def test_quantile_draws_reproduce_their_table():
    """The distance to the piecewise-linear distribution is within the Kolmogorov-Smirnov bound of 0.1 %."""
    table = {0: 100, 0.5: 1000, 0.9: 5000, 1: 20_000}
    values = np.array(draw(quantiles(table)))
    tokens = np.unique(values)
    measured = np.searchsorted(np.sort(values), tokens, side="right") / N
    stated = np.interp(tokens + 0.5, list(table.values()), list(table))
    assert np.abs(measured - stated).max() < 1.95 / math.sqrt(N)


@settings(max_examples=25)
@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=6))
def test_quantile_draws_stay_inside_their_table(tokens):
    """No length is below the first quantile or above the last one, but for rounding."""
    spec = quantiles(dict(zip(np.linspace(0, 1, len(tokens)).tolist(), sorted(tokens), strict=True)))
    values = draw(spec, 2000)
    assert round(min(tokens)) <= min(values) <= max(values) <= round(max(tokens))


@pytest.mark.parametrize(
    "spec", [lognormal(), quantiles({0: 1, 1: 5000}), UniformLength(kind="uniform", low=1, high=99)]
)
def test_draws_depend_on_seed_and_position_only(spec):
    """A longer stream repeats the shorter one; another seed or stream name gives another sequence."""
    assert draw(spec, 2000)[:1500] == draw(spec, 1500)
    assert draw(spec, 1500) != draw(spec, 1500, seed=1)
    assert draw(spec, 1500) != draw(spec, 1500, stream="outputs")


@pytest.mark.parametrize("kind", [FixedLength, UniformLength, LognormalLength])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e12])
def test_no_stated_length_is_zero_negative_nan_or_endless(kind, value):
    """Every parameter of every distribution is from 1 to 10⁹ tokens."""
    fields = {"value": value, "low": value, "high": value, "median": value, "p99": value}
    known = {"kind": kind.model_fields["kind"].annotation.__args__[0]}
    with pytest.raises(ValidationError):
        kind.model_validate(known | {name: fields[name] for name in kind.model_fields if name in fields})


@pytest.mark.parametrize(
    ("table", "fragment"),
    [
        ({}, "must reach from 0"),
        ({0: 1}, "must reach from 0"),
        ({0.1: 1, 1: 2}, "must reach from 0"),
        ({0: 1, 1.5: 2}, "must reach from 0"),
        ({0: 1, 100: 2}, "must reach from 0"),
        ({-0.5: 1, 0: 2, 1: 3}, "must reach from 0"),
        ({0: 5, 0.5: 4, 1: 6}, "must not decrease: 4 tokens at 0.5 follow 5"),
        ({0: 0, 1: 6}, "lengths are from 1 to 1000000000 tokens, not 0 to 6"),
        ({0: -3, 1: 6}, "lengths are from 1"),
        ({0: 1, 1: 1e12}, "lengths are from 1"),
        ({0: 1, math.nan: 2, 1: 3}, "finite"),
        ({0: 1, 0.5: math.nan, 1: 3}, "finite"),
    ],
)
def test_a_table_that_is_no_distribution_is_refused(table, fragment):
    """The message says what a quantile table must be, and what this one is."""
    with pytest.raises(ValidationError, match="quantiles") as error:
        quantiles(table)
    assert fragment in str(error.value)


def test_reversed_ranges_are_refused():
    """A range upside down, and a p99 below the median, name both numbers."""
    with pytest.raises(ValidationError, match="high = 2 is below low = 3"):
        UniformLength(kind="uniform", low=3, high=2)
    with pytest.raises(ValidationError, match="p99 = 5 is below median = 9"):
        lognormal(9, 5)

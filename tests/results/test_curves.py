"""Percentile curves."""

import numpy as np
import pytest

from gpusim.results.curves import curve
from gpusim.results.statistics import Sample


@pytest.mark.parametrize("number", [1, 2, 5, 1000])
def test_curve_runs_from_the_smallest_to_the_largest(number):
    """Both ends of a curve are observations, however few there are, and it never falls."""
    values = np.arange(1.0, number + 1)
    tails, found = zip(*curve(Sample(values)), strict=True)
    assert (found[0], found[-1]) == (1.0, number)
    assert (np.diff(found) >= 0).all()
    assert (tails[0], tails[-1]) == (1.0, pytest.approx(2 * number))


def test_curve_is_that_of_the_distribution():
    """At 1 / (1 - p) stands the quantile at p: of equal steps, p times the largest."""
    number = 20_000
    for tail, value in curve(Sample(np.arange(1.0, number + 1))):
        assert value == pytest.approx(number * (1 - 1 / tail), abs=1.01)


def test_no_observation_has_no_curve():
    """Nothing is drawn of nothing."""
    assert curve(Sample(np.array([]))) == []

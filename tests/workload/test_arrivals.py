"""When requests arrive: closed forms, moments, and what the times depend on."""

import math
from itertools import accumulate, chain, islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.random import BLOCK, Streams
from gpusim.spec.arrivals import AtOnceArrivals, ClosedArrivals, ConstantArrivals, GammaArrivals, PoissonArrivals
from gpusim.workload.arrivals import arrival_blocks, gamma_gaps

N = 40_000


def times(spec, count, *, seed=0):
    blocks = arrival_blocks(spec, Streams(seed))
    return list(islice(chain.from_iterable(block or [None] * BLOCK for block in blocks), count))


def gaps_of(burstiness, *, seed):
    return list(islice(chain.from_iterable(gamma_gaps(5.5, burstiness, Streams(seed))), N))


def poisson(rate=5.5):
    return PoissonArrivals(kind="poisson", rate=rate)


def gamma(burstiness, rate=5.5):
    return GammaArrivals(kind="gamma", rate=rate, burstiness=burstiness)


@given(st.floats(1e-3, 1e6), st.integers(0, 2000))
def test_constant_arrivals_are_the_closed_form(rate, index):
    """Request i arrives at i / rate exactly, the first at 0."""
    assert times(ConstantArrivals(kind="constant", rate=rate), index + 1)[index] == index / rate


def test_at_once_and_closed():
    """All at 0, and never before the client says so."""
    assert times(AtOnceArrivals(kind="at_once"), 3) == [0.0, 0.0, 0.0]
    assert times(ClosedArrivals(kind="closed", concurrency=2), 3) == [None, None, None]


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_have_the_stated_mean_and_variation(burstiness):
    """Mean 1 / rate and CV 1 / sqrt(burstiness), each within four standard errors.

    Standard errors by the delta method for a gamma distribution: cv / sqrt(n) of the mean, relative, and
    sqrt((1 + cv²) / (2 n)) of the CV, relative.
    """
    gaps = np.array(gaps_of(burstiness, seed=1))
    cv = 1 / math.sqrt(burstiness)
    assert gaps.mean() * 5.5 == pytest.approx(1, rel=4 * cv / math.sqrt(N))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=4 * math.sqrt((1 + cv**2) / (2 * N)))


def test_poisson_gaps_are_exponential():
    """The distance to 1 - exp(-rate t) is within the Kolmogorov-Smirnov bound of 0.1 %."""
    gaps = np.sort(np.diff(times(poisson(), N)))
    distance = np.abs(1 - np.exp(-5.5 * gaps) - (np.arange(gaps.size) + 0.5) / gaps.size).max()
    assert distance < 1.95 / math.sqrt(N)


def test_poisson_is_gamma_of_burstiness_one():
    """The special case is the general one, bit for bit."""
    assert times(poisson(), 3000) == times(gamma(1.0), 3000)


@pytest.mark.parametrize("spec", [poisson(), gamma(0.00578)])
def test_random_arrivals_start_after_a_gap_and_never_go_back(spec):
    """The first arrival is not at 0, and times are in order even where the gaps vanish."""
    arrivals = times(spec, 3000)
    assert arrivals[0] > 0
    assert all(earlier <= later for earlier, later in pairwise(arrivals))


@settings(max_examples=20)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_longer_stream_repeats_the_shorter_one(count, more):
    """How many arrivals are asked for changes none of them."""
    assert times(poisson(), count + more)[:count] == times(poisson(), count)


def test_cumulated_times_do_not_drift():
    """The sum of 40,000 gaps, added one by one, block or not, is the exactly rounded sum within 1e-12."""
    gaps = gaps_of(1.0, seed=0)
    assert times(poisson(), N) == list(accumulate(gaps))
    assert times(poisson(), N)[-1] == pytest.approx(math.fsum(gaps), rel=1e-12)


def test_doubling_the_rate_halves_every_time():
    """The same draws are scaled: exactly, since 2 is a power of two."""
    assert times(poisson(11.0), 3000) == [t / 2 for t in times(poisson(5.5), 3000)]


def test_another_seed_gives_other_times():
    """No arrival is shared between two seeds."""
    assert not set(times(poisson(), 3000)) & set(times(poisson(), 3000, seed=1))

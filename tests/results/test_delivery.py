"""Delivery with jitter: closed forms of its gaps, order of tokens, and draws keyed by seed, engine and step."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import ticks
from gpusim.results.delivery import Delivery
from gpusim.results.step_log import StepLog
from run_builders import add_run

STEP = ticks(10e-3)
MEAN_S = 0.5e-3
MEAN = ticks(MEAN_S)


def ends_of(step_ticks, steps, start=0):
    return start + step_ticks * np.arange(1, steps + 1)


def noted(ends, *, seed=0, engine="engine", mean_s=MEAN_S):
    delivery = Delivery(seed, engine, mean_s)
    delivery.note(ends)
    return delivery


def test_gaps_of_equal_steps_have_a_laplace_distribution():
    """The difference of two exponential delays: variance 2 m², quantiles m ln(2 (1 - p)) beyond the step; errors of 4 σ."""
    steps = 400_000
    beyond = np.diff(noted(ends_of(STEP, steps)).times) - STEP
    assert beyond.mean() == pytest.approx(0, abs=20 * MEAN / steps), "what is late is made up for"
    # Kurtosis 6, and neighbours share a delay.
    assert beyond.var() == pytest.approx(2 * MEAN**2, rel=4 * np.sqrt(8 / steps))
    for level in (0.5, 0.8, 0.9, 0.98, 0.998):
        density = (1 - level) / MEAN
        error = 4 * np.sqrt(2 * level * (1 - level) / steps) / density
        assert np.quantile(beyond, level) == pytest.approx(-MEAN * np.log(2 * (1 - level)), abs=error)


def test_delays_are_exponential_with_the_mean_taken_off():
    """No token comes before its step's end less the mean, which the API's time holds; in the mean all come as without."""
    steps = 400_000
    ends = ends_of(STEP, steps)
    later = noted(ends).times - ends
    assert later.min() >= -MEAN
    assert later.mean() == pytest.approx(0, abs=4 * MEAN / np.sqrt(steps))
    assert later.std() == pytest.approx(MEAN, rel=4 * np.sqrt(8 / steps))


@pytest.mark.parametrize("step_ticks", [1, ticks(1e-6), MEAN])
def test_tokens_come_in_order_however_short_steps_are(step_ticks):
    """A token waits for the one before it."""
    ends = ends_of(step_ticks, 5000)
    times = noted(ends).times
    assert (np.diff(times) >= 0).all()
    assert (times >= ends - MEAN).all()


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(1, 2999), max_size=8), step_ticks=st.sampled_from([MEAN // 10, STEP]))
def test_however_steps_are_cut_delivery_is_the_same(cuts, step_ticks):
    """Draws go by the number of the step, and order holds over every cut."""
    ends = ends_of(step_ticks, 3000)
    whole, parts = noted(ends), Delivery(0, "engine", MEAN_S)
    bounds = [0, *sorted(set(cuts)), 3000]
    for low, high in pairwise(bounds):
        parts.note(ends[low:high])
        assert [parts.later(end) for end in ends[low:high]] == [whole.later(end) for end in ends[low:high]]
    assert parts.times.tolist() == whole.times.tolist()


def test_draws_differ_by_seed_and_engine_and_scale_with_the_mean():
    """Else they are the same, however late the run."""
    ends = ends_of(STEP, 3000)
    plain = noted(ends).times - ends
    assert (noted(ends_of(STEP, 3000, start=10**18)).times - ends_of(STEP, 3000, start=10**18) == plain).all()
    for other in (noted(ends, seed=1), noted(ends, engine="other")):
        assert abs(np.corrcoef(other.times - ends, plain)[0, 1]) < 0.1
    assert noted(ends, mean_s=2 * MEAN_S).times - ends == pytest.approx(2 * plain, abs=2)


def test_a_log_tells_when_its_steps_are_delivered():
    """Without a delivery when they end; with one as it says, whether it was there from the start or not."""
    plain, late = StepLog("engine"), StepLog("engine", Delivery(0, "engine", MEAN_S))
    for log in (plain, late):
        add_run(log, 0, [STEP] * 20)
        add_run(log, 50 * STEP, [STEP] * 3, num_decodes=2)
    assert plain.delivered.tolist() == plain.ends.tolist() == late.ends.tolist()
    assert plain.later(53 * STEP) == 0
    assert late.later(53 * STEP) == late.delivered[22] - late.ends[22] != 0
    again = plain.delivered_by(Delivery(0, "engine", MEAN_S))
    assert again.delivered.tolist() == late.delivered.tolist()
    assert again.runs.tobytes() == plain.runs.tobytes()
    assert late.nbytes > plain.nbytes
    assert StepLog("empty").delivered_by(Delivery(0, "empty", MEAN_S)).delivered.tolist() == []

"""Metrics from logs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from gpusim.core.clock import TICKS_PER_S
from gpusim.results.metrics import LatencyStats, measure
from gpusim.results.request_log import RequestLog
from gpusim.results.statistics import Sample
from gpusim.results.step_log import StepLog
from gpusim.spec.scenario import MeasureSpec, SloSpec
from run_builders import add_request, add_run, expanded_runs, uniform_run

S = TICKS_PER_S


def two_requests() -> tuple[RequestLog, dict[str, StepLog]]:
    """One of three tokens at 2, 3, 4 s, arrived at 0 s and scheduled at 1 s; one of one token, at 4 s from 3 s on."""
    log, requests = StepLog("engine"), RequestLog(["engine"])
    add_run(log, S, [S, S, S])
    add_request(requests, 0, [(0, 2)], arrival=0, scheduled=S, prompt_tokens=100)
    add_request(requests, 1, [(2, 2)], arrival=3 * S, scheduled=3 * S, prompt_tokens=50)
    return requests, {"engine": log}


def test_latencies_by_hand():
    """TTFT, ITL, TPOT, E2E and queue time of two requests are as their definitions say."""
    metrics = measure(*two_requests())
    assert (metrics.ttft.mean, metrics.ttft.p50, metrics.ttft.max) == (1.5, 1.0, 2.0)
    assert (metrics.itl.mean, metrics.itl.count) == (1.0, 2)
    assert (metrics.tpot.mean, metrics.tpot.count) == (1.0, 1), "a request of one token has no TPOT"
    assert (metrics.e2e.max, metrics.queue.max, metrics.queue.p50) == (4.0, 1.0, 0.0)


def test_rates_by_hand():
    """Rates are over the time from the first arrival to the last token."""
    metrics = measure(*two_requests(), slo=SloSpec(ttft=1.0))
    assert (metrics.requests_per_s, metrics.output_tokens_per_s, metrics.prompt_tokens_per_s) == (0.5, 1.0, 37.5)
    assert (metrics.goodput_per_s, metrics.attainment) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("slo", "met"),
    [({"ttft": 2.0}, 2), ({"ttft": 1.999}, 1), ({"itl": 1.0}, 2), ({"itl": 0.999}, 1), ({"ttft": 1, "itl": 0.9}, 1)],
)
def test_a_target_is_met_when_reached_exactly(slo, met):
    """A request meets the SLO if TTFT and mean gap are at most the targets; one token has no gap to miss."""
    assert measure(*two_requests(), slo=SloSpec(**slo)).met_slo == met


def test_without_targets_there_is_no_goodput():
    """Goodput is about an SLO."""
    metrics = measure(*two_requests())
    assert (metrics.met_slo, metrics.goodput_per_s, metrics.attainment) == (None, None, None)


def test_warmup_and_cooldown_leave_out_by_arrival():
    """Of ten requests one second apart, 2 s of warm-up leave out two and 3 s of cool-down three; their gaps go too."""
    run = uniform_run(10, 5, step_ticks=S)
    metrics = measure(run.requests, run.steps, window=MeasureSpec(warmup=2.0, cooldown=3.0))
    assert (metrics.measured.left_out_warmup, metrics.measured.left_out_cooldown) == (2, 3)
    assert (metrics.measured.requests, metrics.ttft.count, metrics.itl.count) == (5, 5, 20)
    assert (metrics.measured.from_s, metrics.measured.until_s) == (2.0, 11.0)
    assert metrics.counts.submitted == metrics.counts.finished == 10


def test_nothing_measured_is_nan():
    """If everything is left out there are no latencies, and no division by zero."""
    run = uniform_run(3, 2, step_ticks=S)
    metrics = measure(run.requests, run.steps, window=MeasureSpec(warmup=100.0), slo=SloSpec(ttft=1))
    assert metrics.ttft.count == 0
    assert math.isnan(metrics.itl.p99)
    assert math.isnan(metrics.requests_per_s)
    assert metrics.attainment is None


def test_every_request_is_counted_once():
    """Submitted = finished + running + waiting + rejected; only the finished ones have latencies."""
    requests, steps = two_requests()
    add_request(requests, 2, [(1, 1)], status="running", num_preemptions=2, output_tokens=9)
    add_request(requests, 3, [], status="waiting", scheduled=None, output_tokens=9)
    add_request(requests, 4, [], status="rejected", scheduled=None, output_tokens=9, reason="too long")
    counts = measure(requests, steps).counts
    assert (counts.submitted, counts.finished, counts.running, counts.waiting, counts.rejected) == (5, 2, 1, 1, 1)
    assert (counts.preempted, counts.preemptions) == (1, 2)
    assert measure(requests, steps).e2e.count == 2


@settings(max_examples=60, deadline=None)
@given(run=expanded_runs())
def test_itl_is_that_of_all_tokens(run):
    """Every statistic of the ITL is that of the expanded gaps; so are count and maximum of E2E."""
    metrics = measure(run.requests, run.steps)
    assert metrics.itl.count == len(run.gaps)
    assert metrics.e2e.count == len(run.tokens)
    if run.gaps:
        expanded = LatencyStats.of(Sample(np.array(run.gaps)))
        assert replace(metrics.itl, mean_ci95=None) == replace(expanded, mean_ci95=None)
        assert metrics.itl.max == run.gaps[-1] / S
        assert metrics.itl.mean == sum(run.gaps) / (len(run.gaps) * S)


@settings(max_examples=40, deadline=None)
@given(run=expanded_runs())
def test_engines_add_up(run):
    """Counts and gaps of the engines, one by one, add up to those of all."""
    whole = measure(run.requests, run.steps)
    parts = [measure(run.requests, run.steps, engine=name) for name in run.steps]
    assert sum(part.itl.count for part in parts) == whole.itl.count
    assert sum(part.counts.submitted for part in parts) == whole.counts.submitted
    assert max(part.e2e.max for part in parts if part.e2e.count) == whole.e2e.max


def test_the_order_of_the_log_does_not_matter():
    """Requests appended as they finish, or by index, give the same metrics, intervals included."""
    run = uniform_run(400, 30)
    shuffled = RequestLog(["engine"])
    for i in np.random.default_rng(0).permutation(400):
        add_request(shuffled, i, [(i, i + 29)], arrival=int(i) * 10**10)
    assert measure(shuffled, run.steps) == measure(run.requests, run.steps)
    assert measure(run.requests, run.steps).itl.mean_ci95 == (0.01, 0.01)

"""Token times and gaps against every token written out."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings

from gpusim.results.request_log import RequestLog
from gpusim.results.statistics import mean_s, quantiles_s
from gpusim.results.step_log import StepLog
from gpusim.results.tokens import token_gaps, token_times
from run_builders import add_request, add_run, expanded_runs


def all_of(requests):
    return np.ones(len(requests), bool)


@settings(max_examples=200, deadline=None)
@given(run=expanded_runs())
def test_gaps_are_those_of_all_tokens(run):
    """Weighted gaps, expanded, are the gaps of every request: preempted, on several engines, after 10⁵ s."""
    gaps = token_gaps(run.requests, run.steps, all_of(run.requests))
    assert sorted(np.repeat(gaps.values, gaps.weights).tolist()) == run.gaps


@settings(max_examples=100, deadline=None)
@given(run=expanded_runs())
def test_first_last_and_number_of_tokens(run):
    """The columns per request are those of its tokens."""
    times = token_times(run.requests, run.steps)
    assert times.first_ps.tolist() == [ticks[0] for ticks in run.tokens]
    assert times.last_ps.tolist() == [ticks[-1] for ticks in run.tokens]
    assert times.num_tokens.tolist() == [len(ticks) for ticks in run.tokens]


@settings(max_examples=50, deadline=None)
@given(run=expanded_runs())
def test_only_the_requests_kept_count(run):
    """Gaps of some requests and of the others together are the gaps of all."""
    some = np.arange(len(run.requests)) % 2 == 0
    parts = [token_gaps(run.requests, run.steps, keep) for keep in (some, ~some)]
    expanded = np.concatenate([np.repeat(part.values, part.weights) for part in parts])
    assert sorted(expanded.tolist()) == run.gaps


def test_gaps_come_in_order_of_time():
    """With two engines the observations are merged by the time of their token."""
    steps = {"a": StepLog("a"), "b": StepLog("b")}
    add_run(steps["a"], 0, [10, 11, 12])
    add_run(steps["b"], 0, [15, 16, 17])
    requests = RequestLog(["a", "b"])
    add_request(requests, 0, [(0, 2)], engine="a")
    add_request(requests, 1, [(0, 2)], engine="b")
    assert token_gaps(requests, steps, all_of(requests)).values.tolist() == [11, 16, 12, 17]


@settings(max_examples=100, deadline=None)
@given(run=expanded_runs(shortest=1, longest=3))
def test_gaps_of_one_tick_come_shorter_first(run):
    """Where many steps end in one tick the gaps are in order of time and length, whichever engine they are from."""
    gaps = token_gaps(run.requests, run.steps, all_of(run.requests))
    expected = sorted((b, b - a) for ticks in run.tokens for a, b in pairwise(ticks))
    assert np.repeat(gaps.values, gaps.weights).tolist() == [gap for _, gap in expected]


def test_a_request_without_tokens_has_no_times():
    """A rejected request is -1, -1, 0 and adds no gap."""
    requests = RequestLog(["a"])
    add_request(requests, 0, [], status="rejected", scheduled=None, reason="too long")
    times = token_times(requests, {"a": StepLog("a")})
    assert (times.first_ps.tolist(), times.last_ps.tolist(), times.num_tokens.tolist()) == ([-1], [-1], [0])
    assert token_gaps(requests, {"a": StepLog("a")}, all_of(requests)).count == 0


def test_gaps_do_not_depend_on_the_clock():
    """A run 10⁶ s later has the same gaps, mean and quantiles, bit for bit."""
    results = []
    for start in (0, 10**18):
        log, requests = StepLog("a"), RequestLog(["a"])
        add_run(log, start, [7_654_321_987] * 50 + [9_999_999_999])
        add_request(requests, 0, [(0, 20), (25, 50)], arrival=start)
        gaps = token_gaps(requests, {"a": log}, all_of(requests))
        results.append((gaps.values.tolist(), mean_s(gaps), quantiles_s(gaps, [500, 990, 1000])))
    assert results[0] == results[1]

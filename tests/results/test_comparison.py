"""Comparing runs: what is the same, what is paired, what cancels, what is too little to tell."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpusim as gs
from gpusim.report.compare import how
from gpusim.results.change import UNITS, Change, judged
from gpusim.results.observations import Observations
from gpusim.results.request_log import RequestLog
from gpusim.results.result import Result
from gpusim.results.step_log import StepLog
from gpusim.results.tokens import token_gaps
from gpusim.spec.scenario import SloSpec
from run_builders import add_request, add_run, expanded_runs, record


def noisy_run(seed, *, slower=1.0, num_requests=400, draws=0, **known):
    """Return a run of requests in turn, each of ten tokens, whose steps take about 1 ms.

    *draws* tells apart runs of other steps; their seed and scenario tell whether they are the same workload.
    """
    random = np.random.default_rng(draws)
    log, requests = StepLog("engine"), RequestLog(["engine"])
    now = 0
    for index in range(num_requests):
        steps = (slower * random.gamma(20, 5e7, 10)).astype(np.int64)
        first = len(log)
        add_run(log, now, steps.tolist())
        add_request(requests, index, [(first, first + 9)], arrival=now)
        now += int(steps.sum()) + 10**6
    scenario = {"schema": 1, "name": "made up", "slower": slower, "seed": seed}
    return Result(record(requests, {"engine": log}, scenario=scenario, seed=seed, **known))


def test_metrics_are_those_of_the_result():
    """With every request counted once, each metric is what the summary has."""
    result = gs.simulate(gs.load("chat"))
    observed = Observations.of(result)
    found = observed.samples(np.ones((1, len(observed)), np.int64))
    metrics = result.metrics
    expected = {
        f"{name}.{key}": getattr(getattr(metrics, name), key)
        for name in ("ttft", "itl", "tpot", "e2e", "queue")
        for key in ("mean", "p50", "p90", "p95", "p99")
    }
    expected |= {"throughput": metrics.output_tokens_per_s, "goodput": metrics.goodput_per_s}
    expected |= {"attainment": metrics.attainment, "rejected": 0, "preemptions": 0}
    assert set(found) == set(expected) == set(UNITS)
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("status", ["rejected", "waiting"])
def test_a_run_ends_with_the_last_token(status):
    """Requests that came later and got none do not make it longer: rates are those of the summary."""
    log, requests = StepLog("engine"), RequestLog(["engine"])
    for index in range(4):
        add_run(log, index * 10**12, [10**11, 10**11])
        add_request(requests, index, [(2 * index, 2 * index + 1)], arrival=index * 10**12)
    for index in range(4, 9):
        add_request(requests, index, [], arrival=index * 10**12, status=status, output_tokens=2)
    result = Result(record(requests, {"engine": log}, slo=SloSpec(ttft=0.5)))
    found = Observations.of(result).samples(np.ones((1, 9), np.int64))
    assert found["throughput"][0] == pytest.approx(result.metrics.output_tokens_per_s, rel=1e-12) == 8 / 3.2
    assert found["goodput"][0] == pytest.approx(result.metrics.goodput_per_s, rel=1e-12)
    assert found["rejected"][0] == (5 / 9 if status == "rejected" else 0)


@given(expanded_runs())
def test_gaps_of_a_choice_of_requests(run):
    """Gaps counted by step are those of the tokens of the chosen requests, as often as each was chosen."""
    observed = Observations.of(Result(record(run.requests, run.steps)))
    chosen = np.arange(len(observed)) % 2
    sample = token_gaps(
        run.requests, run.steps, np.isin(run.requests.rows["index"], observed.rows["index"][chosen > 0])
    )
    weights = observed.gaps.weights(3 * chosen[None])[0]
    assert weights.sum() == 3 * sample.count
    if sample.count:
        gaps_s = np.repeat(observed.gaps.gaps_s, weights)
        ticks = np.repeat(sample.values, 1 if sample.weights is None else sample.weights)
        assert np.sort(gaps_s)[::3] == pytest.approx(np.sort(ticks) / 1e12)


@given(expanded_runs(), st.sampled_from([500, 990]))
def test_who_waited_for_the_longest_gaps(run, per_mille):
    """Those whose own longest gap is beyond the quantile of all."""
    observed = Observations.of(Result(record(run.requests, run.steps)))
    gaps = observed.gaps
    own = gaps.weights(np.eye(len(observed), dtype=np.int64)) > 0
    limit_s = gaps.quantiles_s(np.ones((1, len(observed)), np.int64), (per_mille,))[0, 0]
    longest_s = np.where(own, gaps.gaps_s, -1).max(axis=1, initial=-1)
    assert gaps.are_beyond(per_mille).tolist() == (longest_s > limit_s).tolist()


def test_one_long_queue_is_one_observation():
    """Ten late requests in a row are no surer ground for a p99 than one, and ten that lie apart are."""
    in_a_row, apart = (Observations.of(late_run(late)) for late in (range(500, 510), range(0, 1000, 100)))
    assert [run.blocks_beyond("ttft.p99", 50) for run in (in_a_row, apart)] == [1, 10]
    assert in_a_row.blocks_beyond("e2e.p50", 50) == 20


def late_run(late):
    """Return a run of a request every 3 s, a thousand in all; those in *late* wait 1 s for the first token, others 1 ms."""
    log, requests = StepLog("engine"), RequestLog(["engine"])
    for index in range(1000):
        begin = 3 * index * 10**12
        add_run(log, begin, [10**12 if index in late else 10**9, 10**9 + index % 7])
        add_request(requests, index, [(2 * index, 2 * index + 1)], arrival=begin)
    return Result(record(requests, {"engine": log}, scenario={"schema": 1, "late": list(late)}, slo=SloSpec(ttft=0.5)))


def test_late_tokens_take_no_throughput():
    """Requests that arrive alike stand for the same time in both runs, however late their tokens are."""
    found = gs.compare(late_run([]), late_run(range(0, 1000, 7)))
    assert found.runs[0].is_paired
    low, high = found["throughput"].interval
    assert -1e-3 < low <= 0 <= high < 1e-3
    assert found["ttft.mean"].verdict == "worse"


def test_a_longer_tail_is_no_lower_throughput():
    """Where every request takes as much longer, the run does too, once, however long it is."""
    change = gs.compare(late_run([]), late_run(range(1000)))["throughput"]
    assert change.change == pytest.approx(-1 / 3000, rel=0.01)
    assert change.verdict == "no change within noise"


def test_an_overloaded_engine_serves_less():
    """Where the queue grows from request to request, throughput falls by as much, and that is sure."""
    change = gs.compare(served_in_turn(0.9), served_in_turn(1.2))["throughput"]
    assert change.change == pytest.approx(1 / 1.2 - 1, rel=1e-2)
    assert change.verdict == "worse"


def served_in_turn(service_s):
    """Return a run of a thousand requests, one a second, served one by one in *service_s* each."""
    log, requests = StepLog("engine"), RequestLog(["engine"])
    free = 0
    for index in range(1000):
        begin = max(free, index * 10**12)
        free = begin + int(service_s * 1e12)
        add_run(log, begin, [free - begin])
        add_request(requests, index, [(index, index)], arrival=index * 10**12)
    return Result(record(requests, {"engine": log}))


def test_no_more_than_all_can_meet_the_slo():
    """Intervals of shares end where the share of the other run would be none."""
    found = gs.compare(late_run([]), late_run(range(500, 511)))["attainment"]
    assert (found.a, found.b) == (1, 0.989)
    assert found.interval[0] < found.change < 0 == found.interval[1]
    back = gs.compare(late_run(range(500, 511)), late_run([]))["attainment"]
    assert back.interval[1] + back.a == pytest.approx(1)


def test_what_some_samples_lack_is_shown():
    """Of gaps that one request of twenty has there is a value and a change, and no interval."""
    found = gs.compare(few_gaps(), few_gaps(slower=2))["itl.mean"]
    assert (found.change, found.interval, found.verdict) == (1, None, "worse here")


def few_gaps(*, slower=1):
    """Return a run of twenty requests of a token each, but one of two."""
    log, requests = StepLog("engine"), RequestLog(["engine"])
    for index in range(20):
        add_run(log, index * 10**12, [slower * 10**9] * (2 if index == 7 else 1))
        add_request(requests, index, [(len(log) - (2 if index == 7 else 1), len(log) - 1)], arrival=index * 10**12)
    return Result(record(requests, {"engine": log}))


def test_identical_runs_are_the_same():
    """A run against itself has no change and intervals of no width."""
    found = gs.compare(noisy_run(0), noisy_run(0))
    assert found.verdict == "the same"
    assert found.runs[0].is_paired
    assert not found.runs[0].differences
    assert all(change.change == 0 and change.interval in {None, (0, 0)} for change in found.runs[0].changes)


def test_uniformly_slower_runs_are_worse_by_just_that():
    """If every step takes 3 % longer, so do all gaps, and nothing of it is noise."""
    change = gs.compare(noisy_run(0), noisy_run(0, slower=1.03))["itl.mean"]
    assert change.change == pytest.approx(0.03, rel=1e-3)
    assert change.interval == pytest.approx((0.03, 0.03), rel=1e-3)
    assert change.verdict == "worse"
    assert (
        gs.compare(noisy_run(0), noisy_run(0, slower=1.03), at_least=0.05)["itl.mean"].verdict == "too small to matter"
    )


@pytest.mark.parametrize("draws", [0, 1])
def test_swapping_runs_inverts_the_change(draws):
    """From B to A the logarithm of each change, and of its interval, is minus that from A to B; paired or not."""
    a, b = noisy_run(0), noisy_run(draws, draws=draws, slower=1.02)
    there, back = gs.compare(a, b), gs.compare(b, a)
    assert there.runs[0].is_paired == (draws == 0)
    for one, other in zip(there.runs[0].changes, back.runs[0].changes, strict=True):
        if one.is_relative:
            assert math.log1p(one.change) == pytest.approx(-math.log1p(other.change), abs=1e-12)
        if one.is_relative and one.interval:
            assert one.interval[0] == pytest.approx(1 / (1 + other.interval[1]) - 1, abs=1e-9)
        assert {one.verdict, other.verdict} in ({"better", "worse"}, {"better here", "worse here"}, {one.verdict})


def test_mean_of_independent_requests():
    """The interval of an unpaired mean is the one of two independent samples, about ±2 sd √(2/n)."""
    a, b = noisy_run(0), noisy_run(1, draws=1)
    change = gs.compare(a, b)["e2e.mean"]
    logs = [np.log(r.requests["e2e_s"].to_numpy()).std() for r in (a, b)]
    half = 1.96 * math.hypot(*logs) / math.sqrt(400)
    assert (change.interval[1] - change.interval[0]) / 2 == pytest.approx(half, rel=0.2)
    assert change.verdict == "no change within noise"


def test_too_few_requests():
    """Of 50 requests nothing lies often enough beyond the 99th percentile; of five nothing is known at all."""
    found = gs.compare(noisy_run(0, num_requests=50), noisy_run(1, draws=1, num_requests=50))
    assert found["ttft.p99"].interval is None
    assert found["ttft.p99"].verdict == "too few requests to tell"
    assert found["itl.mean"].interval is not None
    few = gs.compare(noisy_run(0, num_requests=5), noisy_run(1, draws=1, num_requests=5))
    assert few.verdict == "too few requests to tell"


def test_few_requests_that_both_served():
    """What changed for the same five requests is known of these, and called so; swapped runs swap the words."""
    run, slower = noisy_run(0, num_requests=5), noisy_run(0, num_requests=5, slower=1.02)
    found = gs.compare(run, slower)
    assert found["itl.p99"].interval is None
    assert (found["itl.p99"].verdict, found["throughput"].verdict) == ("worse here", "worse here")
    assert (found["rejected"].verdict, found.runs[0].is_of_few) == ("the same", True)
    assert found.verdict == "21 worse here, of 28 metrics"
    assert '"here": for these 5 requests, too few to tell of others' in how(found.runs[0], 0.95)
    assert gs.compare(slower, run).verdict == "21 better here, of 28 metrics"
    assert gs.compare(run, slower, at_least=0.05).verdict == "21 too small to matter, of 28 metrics"
    assert gs.compare(run, run).verdict == "the same"


def test_one_seed_for_both_is_advised():
    """Where the seed differs beside another key, and only there."""
    run = noisy_run(0)
    assert "one seed for both" in how(gs.compare(run, noisy_run(1, draws=1, slower=1.1)).runs[0], 0.95)
    assert "one seed for both" not in how(gs.compare(run, noisy_run(1, draws=1)).runs[0], 0.95)
    assert "one seed for both" not in how(gs.compare(run, noisy_run(0, slower=1.1)).runs[0], 0.95)


def test_more_runs_and_chosen_metrics():
    """Each further run is held against the first, on the metrics asked for."""
    found = gs.compare(
        *(noisy_run(0, slower=s) for s in (1.0, 1.02, 0.9)), metrics=["itl.mean"], names=["old", "new", "newer"]
    )
    assert [(v.name, v["itl.mean"].verdict) for v in found] == [("new", "worse"), ("newer", "better")]
    assert found.runs[0].verdict == "1 worse, of 1 metric"
    assert [str(d) for d in found.runs[0].differences] == ["slower: 1.0 → 1.02"]


def test_slo_is_compared_where_both_have_one():
    """Attainment is a part: of 0 or 1 there may be no ratio, and it is told as a difference."""
    slo = SloSpec(itl=1e-3)
    found = gs.compare(noisy_run(0, slo=slo), noisy_run(0, slower=2.0, slo=slo))
    assert found["attainment"].b == 0
    assert not found["attainment"].is_relative
    assert found["attainment"].verdict == "worse"
    with pytest.raises(KeyError):
        gs.compare(noisy_run(0, slo=slo), noisy_run(0))["attainment"]


def test_verdicts_hold_together():
    """Of 20 metrics one at 4 % is noise; at 0.2 % it is not, and opens the way for the next (Holm)."""

    def judge(*p_values):
        names = list(UNITS)
        made = [
            Change(names[i], 1.0, 1.1, 0.1, True, (0.0, 0.2), p, "no change within noise")
            for i, p in enumerate(p_values)
        ]
        return [change.verdict for change in judged(made, is_paired=True, confidence=0.95, at_least=0)]

    quiet = "no change within noise"
    assert judge(0.04, *[0.5] * 19) == [quiet] * 20
    assert judge(0.002, *[0.5] * 19) == ["worse", *[quiet] * 19]
    assert judge(0.01, 0.04) == ["worse", "worse"]
    assert judge(0.03, 0.04) == [quiet, quiet]


def test_what_cannot_be_compared():
    """Unknown metrics and confidences that are none are errors with the way out."""
    with pytest.raises(gs.GpusimError, match=r"'itl': unknown metric; did you mean"):
        gs.compare(noisy_run(0), noisy_run(0), metrics=["itl"])
    with pytest.raises(gs.GpusimError, match="between 0 and 1"):
        gs.compare(noisy_run(0), noisy_run(0), confidence=95)
    with pytest.raises(gs.GpusimError, match="2 runs need as many names, not 3"):
        gs.compare(noisy_run(0), noisy_run(0), names=["a", "b", "c"])

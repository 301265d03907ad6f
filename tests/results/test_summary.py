"""The summary dictionary."""

import json

import numpy as np
import pytest
from hypothesis import given, settings

from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.summary import attribution, build_summary, plain, scenario_hash
from gpusim.runtime.attribution import CATEGORIES
from gpusim.spec.scenario import MeasureSpec
from run_builders import add_request, add_run, expanded_runs, record, uniform_run


def test_it_holds_what_every_reader_needs():
    """All parts are there, whatever the run was."""
    summary = build_summary(uniform_run(5, 3))
    for name in ("ttft_s", "itl_s", "tpot_s", "e2e_s", "queue_s"):
        assert {"mean", "p50", "p90", "p95", "p99", "p999", "max", "count"} <= set(summary[name])
    parts = {
        "schema",
        "version",
        "seed",
        "scenario",
        "scenario_hash",
        "complete",
        "requests",
        "throughput",
        "goodput_per_s",
    }
    assert parts | {"slo", "measured", "utilisation", "attribution", "bounds", "engines", "background"} <= set(summary)
    assert summary["engines"]["engine"]["itl_s"] == summary["itl_s"]


@settings(max_examples=40, deadline=None)
@given(run=expanded_runs())
def test_attribution_adds_up_to_the_step_time(run):
    """Ticks by category sum to the time spent in steps exactly; seconds and shares are rounded once each."""
    part = attribution(list(run.steps.values()))
    spent = sum(log.step_time_ps for log in run.steps.values())
    assert sum(int(log.attribution_ps.sum()) for log in run.steps.values()) == spent
    assert part["step_time_s"] == spent / 1e12
    assert sum(part["seconds"].values()) == pytest.approx(spent / 1e12, rel=1e-14)
    assert sum(part["share"].values()) == pytest.approx(1.0, rel=1e-14)


@settings(max_examples=20, deadline=None)
@given(run=expanded_runs())
def test_it_is_json_and_comes_back_equal(run):
    """No NaN, no numpy, no tuple: text and back is the same dictionary."""
    summary = build_summary(record(run.requests, run.steps, window=MeasureSpec(warmup=0.5)))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_nothing_measured_is_null():
    """Numbers that do not exist are null, and an engine without steps has no mean batch."""
    requests, steps = RequestLog(["busy", "idle"]), {"busy": StepLog("busy"), "idle": StepLog("idle")}
    add_run(steps["busy"], 0, [5, 5])
    add_request(requests, 0, [(0, 1)])
    summary = build_summary(record(requests, steps, window=MeasureSpec(warmup=99)))
    assert (summary["itl_s"]["p99"], summary["throughput"]["requests_per_s"]) == (None, None)
    assert summary["engines"]["idle"]["mean_decodes"] is None
    assert summary["engines"]["idle"]["attribution"]["share"] == dict.fromkeys(CATEGORIES, 0.0)


def test_plain_turns_what_json_does_not_know():
    """numpy, tuples, NaN and infinity become lists, numbers and null."""
    data = {"a": (np.int64(1), np.float64(0.1)), 2: np.array([1.5, np.nan]), "c": float("inf"), "d": True}
    assert plain(data) == {"a": [1, 0.1], "2": [1.5, None], "c": None, "d": True}


def test_the_hash_is_of_the_content():
    """Key order does not matter, a value does."""
    one = scenario_hash({"seed": 0, "model": {"name": "a", "layers": 2}})
    assert one == scenario_hash({"model": {"layers": 2, "name": "a"}, "seed": 0})
    assert one != scenario_hash({"model": {"layers": 3, "name": "a"}, "seed": 0})
    assert scenario_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_bounds_are_summed_over_engines_that_all_have_them():
    """A bound of the whole run needs one from each engine."""
    run = uniform_run(3, 2)
    assert build_summary(record(run.requests, run.steps, bounds={"engine": {"step": 2.0}}))["bounds"] == {"step": 2.0}
    assert build_summary(run)["bounds"] == {}

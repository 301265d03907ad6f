"""Counters of an engine are exact in every step, whatever number of steps is committed at once."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

from builders import build_plan
from gpusim.serving.engine import Engine
from timelines import run_and_trace

AT_ONCE = {"kind": "at_once"}
SHORTAGE = {
    "serving__block_size": 4,
    "serving__num_gpu_blocks_override": 16,
    "workload__prompt_tokens": {"kind": "fixed", "value": 20},
    "workload__output_tokens": {"kind": "fixed", "value": 12},
    "workload__num_requests": 5,
}
CASES = {
    "arrivals": {"workload__output_tokens": {"kind": "fixed", "value": 70}, "workload__num_requests": 6},
    "queue": {"serving__max_num_seqs": 2, "workload__arrivals": AT_ONCE},
    "chunks": {"workload__prompt_tokens": {"kind": "fixed", "value": 150}, "workload__num_requests": 3},
    "in flight": {"serving__async_scheduling": True, "serving__max_num_seqs": 2},
    "recompute": SHORTAGE,
    "swap": {**SHORTAGE, "serving__preemption_mode": "swap"},
    "closed loop": {"workload__arrivals": {"kind": "closed", "concurrency": 3}, "serving__max_num_seqs": 2},
    "static": {"serving__scheduler": "static", "serving__max_num_seqs": 3},
}


@cache
def played(case):
    """Return a case's simulation, what was traced, and its timeline."""
    return run_and_trace(build_plan(**CASES[case]))


@pytest.fixture
def settled(monkeypatch):
    """Return a list that gets what engines know when they have committed steps: from when to when, and how many are where."""
    found = []
    settle = Engine._settle

    def settle_and_note(engine, advance):
        settle(engine, advance)
        now, roster = engine.clock.now, engine.roster
        over = sum(step == len(advance.played.ends) - 1 for step, _ in advance.outlook.finished)
        coming = engine.feed.requests if engine.feed.is_open else engine.feed.arrived_by(now)
        waiting = sum(request.arrival < now for request in (*roster.waiting, *coming))
        levels = len(roster.running) + over, len(roster.swapped), waiting
        found.append((int(advance.played.starts[0]), now, levels))

    monkeypatch.setattr(Engine, "_settle", settle_and_note)
    return found


@pytest.mark.parametrize("case", CASES)
def test_requests_are_where_the_engine_has_them(settled, case):
    """In every step as many run, are swapped, wait and decode as in the engine's own roster and log."""
    simulation, _, timeline = run_and_trace(build_plan(**CASES[case]))
    log = simulation.logs["engine"]
    traced = settled[len(settled) // 2 :]
    assert traced == settled[: len(traced)], "it goes as without being traced"
    names = ("running requests", "swapped requests", "waiting requests")
    for start, end, levels in traced:
        steps = (log.starts >= start) & (log.ends <= end)
        assert steps.any()
        for at in (*log.starts[steps].tolist(), *(log.ends[steps] - 1).tolist()):
            assert [timeline.level("engine", name, at) for name in names[:2]] == list(levels[:2])
        assert timeline.level("engine", names[2], end - 1) == levels[2]
    decodes = np.repeat(log.runs["num_decodes"], log.run_lengths).tolist()
    assert [timeline.level("engine", "decoding sequences", start) for start in log.starts.tolist()] == decodes
    for name in (*names, "decoding sequences", "KV blocks used"):
        assert timeline.counter("engine", name)[-1][1] == 0, "all is over"
    assert (case == "swap") == any(swapped for _, _, (_, swapped, _) in traced)
    assert (case == "recompute") <= bool(simulation.requests.rows["num_preemptions"].sum())


@pytest.mark.parametrize("case", ["arrivals", "in flight"])
def test_blocks_are_those_of_the_tokens(case):
    """In step k a request whose first token came in step f has its prompt of P and k - f tokens in blocks of 16."""
    simulation, traced, timeline = played(case)
    log, requests = simulation.logs["engine"], traced.record.requests
    held = np.zeros(len(log), dtype=int)
    for request, _, first, last in requests.segments.tolist():
        tokens = int(requests.rows["prompt_tokens"][request]) + np.arange(last - first + 1)
        held[first : last + 1] += -(-tokens // 16)
    assert [timeline.level("engine", "KV blocks used", start) for start in log.starts.tolist()] == held.tolist()
    assert log.run_lengths.max() > 1


@pytest.mark.parametrize("case", CASES)
def test_blocks_of_a_run_are_at_most_what_the_log_says(case):
    """The most in any step of a run is in the log; in the middle of a step the counter never changes."""
    simulation, _, timeline = played(case)
    log = simulation.logs["engine"]
    held = np.array([timeline.level("engine", "KV blocks used", start) for start in log.starts.tolist()])
    assert np.maximum.reduceat(held, log.runs["first_step"]).tolist() == log.runs["kv_blocks"].tolist()
    edges = {*log.starts.tolist(), *log.ends.tolist()}
    for name in ("KV blocks used", "running requests", "swapped requests", "decoding sequences"):
        assert {tick for tick, _ in timeline.counter("engine", name)} <= edges


@pytest.mark.parametrize("case", CASES)
def test_who_waits_is_conserved(case):
    """At any time as many wait as have arrived and are not over, running or swapped."""
    simulation, traced, timeline = played(case)
    log, requests = simulation.logs["engine"], traced.record.requests
    arrivals = requests.rows["arrival_ps"]
    ends = [
        log.ends[requests.segments["last_step"][requests.segments["request"] == n].max()] for n in range(len(arrivals))
    ]
    names = ("waiting requests", "running requests", "swapped requests")
    for tick in sorted({*arrivals.tolist(), *log.starts.tolist(), *log.ends.tolist()}):
        there = sum(timeline.level("engine", name, tick) for name in names)
        assert there == (arrivals <= tick).sum() - (np.array(ends) <= tick).sum()


def test_counters_of_a_window_are_those_of_the_whole():
    """Where a window begins in the midst of a run, or ends in it, levels are the same."""
    whole, part = played("arrivals")[2], run_and_trace(build_plan(**CASES["arrivals"]), 0.002, 0.004)[2]
    steps = part.spans["engine", "steps"]
    first, last_end = 2 * 10**9, steps[-1].end
    names = ("running requests", "waiting requests", "decoding sequences", "KV blocks used")
    for name in names:
        points = part.counter("engine", name)
        assert points[0][0] == first
        assert points[-1][0] <= last_end
        assert len(points) > 1
        assert all(a[1] != b[1] for a, b in itertools.pairwise(points)), "shown where they change"
        for tick in (first, *(step.start for step in steps), *(step.end - 1 for step in steps)):
            assert part.level("engine", name, tick) == whole.level("engine", name, tick)

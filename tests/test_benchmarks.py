"""The benchmarks run and report what they say they do; no time is asserted."""

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import cases
import kernel_detail
import numpy as np
import phases
import pytest
import speed
import speed_tables

from gpusim.spec.document import validate
from gpusim.spec.names import read
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.stream import requests

CSV = "arrival_s,prompt_tokens,output_tokens\n0.0,374,4\n0.5,396,9\n1.0,879,5\n"


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(CSV)
    return path


def test_the_twin_has_the_means_and_the_rate_of_the_trace():
    """Drawn lengths average 1155 and 211 tokens within 3 %, arrivals come at 5.53 /s, with gaps that vary by 1.09."""
    spec = validate(WorkloadSpec, read("workload", "conversation")).model_copy(update={"num_requests": 20_000})
    drawn = np.array([(s.arrival_s, s.prompt_tokens, s.output_tokens) for s in requests(spec, seed=0, folder=Path())])
    gaps = np.diff(drawn[:, 0])
    assert drawn[:, 1:].mean(axis=0) == pytest.approx([1155, 211], rel=0.03)
    assert 1 / gaps.mean() == pytest.approx(5.53, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.09, rel=0.03)


def test_speeds_count_the_tokens_of_each_case(trace):
    """A row counts the output tokens of its requests, and its figures are those tokens over what was timed."""
    rows = speed.speeds([cases.trace(trace, 3), cases.twin(2)], 1)
    assert [(row.case, row.requests, row.runs) for row in rows] == [("trace", 3, 1), ("twin", 2, 1)]
    assert rows[0].tokens == 4 + 9 + 5
    for row in rows:
        assert row.tokens_per_cpu_s == pytest.approx(row.tokens / row.cpu_s)
        assert row.tokens_per_timeout > 0
        assert row.steps > 0
        assert row.peak_bytes > 10e6
    figures = json.loads(json.dumps([asdict(row) for row in rows]))
    assert "trace" in speed_tables.speed(figures)


def test_a_trace_that_is_too_short_is_not_timed(trace):
    """Requests that were asked for and are not there are an error, not a fast run."""
    with pytest.raises(RuntimeError, match="3 of 4 requests"):
        speed.speeds([cases.trace(trace, 4)], 1)


def test_foreign_traffic_is_one_case_for_each_kind_beside_none():
    """The first case is undisturbed, the others have one copy each; the table is relative to the first."""
    group = cases.foreign(None, 2)
    assert [len(case.scenario["background"]) for case in group] == [0, 1, 1]
    rows = [asdict(row) for row in speed.speeds(group[1:2], 1)]
    assert speed_tables.foreign(rows).split()[-1] == "1.00"


def test_growth_of_a_power_is_its_exponent():
    """Costs that grow as n^1.2 have the exponent 1.2, overall and between points."""
    points = [(n, 3 * n**1.2) for n in (1_000, 5_000, 200_000)]
    found = speed.growth(points)
    assert [found.overall, *found.between] == pytest.approx([1.2] * 3)


def test_start_up_times_each_command_once():
    """Each of the four commands has a time, and the table shows them."""
    found = speed.start_up(1)
    assert len(found) == 4
    assert all(of["cpu_s"] > 0 and of["wall_s"] > 0 for of in found.values())
    assert all(name in speed_tables.start_up(found) for name in found)


def test_kernel_detail_plays_every_step():
    """A case has a speed; tokens of a batch are steps."""
    case = kernel_detail.CASES["Llama-2-7B, one GPU"]
    assert kernel_detail.steps_per_s(case, 2) > 0


def test_phases_cover_the_run_and_leave_nothing_behind():
    """Every phase is timed, planned steps are those played and those thrown away, and the stopwatches are taken off."""
    methods = [getattr(owner, name) for _, owner, name in phases.PHASES]
    found = phases.phases_of(cases.twin(20).scenario)
    assert {name for name, _, _ in phases.PHASES} <= {*found["seconds"], "planning again"}
    assert found["requests"] == 20
    assert found["planned_steps"] >= found["steps"] >= found["runs"]
    assert [getattr(owner, name) for _, owner, name in phases.PHASES] == methods


def test_long_cases_are_longer():
    """Requests ascend, so that the growth between rows means something."""
    assert all(low < high for low, high in pairwise((*cases.TRACE_REQUESTS, *cases.LONG_REQUESTS)))

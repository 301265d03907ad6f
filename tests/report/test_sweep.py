"""The table of a sweep."""

import io
from typing import Any

import pytest
from rich.console import Console

from builders import scenario_data
from gpusim.report.sweep import print_sweep, sweep_rows
from gpusim.spec.document import Document
from gpusim.sweeps import SweepResult, sweep_document

BATCH = {"serving__scheduler": "static", "workload__arrivals": {"kind": "at_once"}, "workload__num_requests": 4}


def swept(**changes: Any) -> SweepResult:
    return sweep_document(Document("test", scenario_data(**{"sweep": {"attention": ["mha", "mqa"]}, **changes})))


def lines(result: SweepResult, width: int = 120) -> list[list[str]]:
    """Return the words of each line of the table below its rule."""
    screen = Console(file=io.StringIO(), width=width)
    print_sweep(result, screen, title="Study")
    text = screen.file.getvalue().splitlines()
    assert text[0] == "Study"
    rule = next(number for number, line in enumerate(text) if "───" in line)
    return [line.split() for line in text[rule + 1 :] if line.strip()]


def test_speed_up_is_relative_to_the_named_point():
    """It is the ratio of mean ITL to that of the point alike but for the named key; 1 for that point itself."""
    rows = sweep_rows(swept(relative_to={"attention": "mha"}, sweep={"attention": ["mha", "mqa"], "seed": [1, 2]}))
    means = [row["itl_s"]["mean"] for row in rows]
    assert [row["speed_up"] for row in rows] == [1, 1, means[0] / means[2], means[1] / means[3]]


def test_published_figures_stand_beside_their_point():
    """Only the point they are about has one; without any the column is left out."""
    published = [{"when": {"attention": "mqa"}, "itl": "3 ms", "source": "x"}]
    result = swept(published=published)
    assert [row["published_itl_s"] for row in sweep_rows(result)] == [None, 0.003]
    assert [line[-1] for line in lines(result)] == ["–", "3.00"]
    assert len(lines(swept())[0]) == len(lines(result)[0]) - 1


def test_requests_that_were_rejected_are_told():
    """A point that served fewer requests than it got says so; where all were served there is no such column."""
    result = swept(
        sweep={"serving.num_gpu_blocks_override": [2, 100]},
        workload__prompt_tokens={"kind": "uniform", "low": 1, "high": 60},
    )
    few, all_served = (row["rejected"] for row in sweep_rows(result))
    assert few > 0 == all_served
    assert lines(result)[0][-3:] == [str(few), "of", "10"]
    assert lines(result)[1][-1] == "–"
    assert "of" not in lines(swept())[0]


def test_the_crude_estimate_is_bytes_over_bandwidth():
    """A batch at once has one: weights and mean context at the peak of memory; arrivals over time have none."""
    row = next(iter(swept(**BATCH)))
    (engine,) = row.plan.engines
    summary = row.result.summary()["engines"]["engine"]
    context = 4 * (40 + 6 / 2)
    size = summary["weight_bytes_per_gpu"] + context * summary["kv_bytes_per_token"]
    embedding = 2 * engine.model.vocab_size * engine.model.hidden_size
    crude = sweep_rows(swept(**BATCH))[0]["crude_itl_s"]
    assert (size - embedding) / 2.039e12 <= crude <= size / 2.039e12
    assert sweep_rows(swept())[0]["crude_itl_s"] is None


def test_efficiencies_stand_side_by_side():
    """Ideal and calibrated figures of a point share its line; a single efficiency is a column like any key."""
    result = swept(sweep={"attention": ["mha", "mqa"], "efficiency": ["ideal", "calibrated"]})
    ideal, calibrated, *_ = (row["itl_s"]["mean"] * 1e3 for row in sweep_rows(result))
    (mha, mqa) = lines(result)
    assert (mha[0], mqa[0]) == ("mha", "mqa")
    assert [float(cell) for cell in mha[1:]] == pytest.approx([ideal, calibrated], rel=5e-3)
    assert "ideal" in lines(swept(sweep={"efficiency": ["ideal"]}))[0]


def test_points_may_have_different_keys():
    """A list of points leaves blanks where a point says nothing."""
    result = swept(sweep=[{"attention": "mqa"}, {"seed": 3}, {"label": "both", "attention": "mqa", "seed": 3}])
    assert [line[:3] for line in lines(result)] == [["mqa", "–", "–"], ["–", "3", "–"], ["–", "–", "both"]]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_figure_is_cut(width):
    """Narrow consoles get the same figures."""
    result = swept(**BATCH)
    shown = [word for line in lines(result, width) for word in line]
    assert {word for line in lines(result, 200) for word in line} <= set(shown)

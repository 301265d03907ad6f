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


def printed(result: SweepResult, width: int = 120, **options: Any) -> list[str]:
    """Return the lines that are printed."""
    screen = Console(file=io.StringIO(), width=width)
    print_sweep(result, screen, title="Study", **options)
    return screen.file.getvalue().splitlines()


def lines(result: SweepResult, width: int = 120, **options: Any) -> list[list[str]]:
    """Return the words of each line of the table below its rule, and of the warnings below the table."""
    text = printed(result, width, **options)
    assert text[0] == "Study"
    rule = next(number for number, line in enumerate(text) if "───" in line)
    return [line.split() for line in text[rule + 1 :] if line.strip()]


def test_speed_up_is_relative_to_the_named_point():
    """It is the ratio of mean ITL to that of the point alike but for the named key; 1 for that point itself."""
    rows = sweep_rows(swept(relative_to={"attention": "mha"}, sweep={"attention": ["mha", "mqa"], "seed": [1, 2]}))
    means = [row["itl_s"]["mean"] for row in rows]
    assert [row["speed_up"] for row in rows] == [1, 1, means[0] / means[2], means[1] / means[3]]


@pytest.mark.parametrize("base", ["one", "two"])
def test_without_gaps_there_is_no_speed_up(base):
    """Outputs of one token have no ITL: neither as the point that is compared with nor as the other."""
    key = "workload.output_tokens"
    lengths = {"one": 1, "two": 2}
    values = [{"label": label, key: {"kind": "fixed", "value": value}} for label, value in lengths.items()]
    result = swept(sweep={key: values}, relative_to={key: base})
    assert [row["speed_up"] for row in sweep_rows(result)] == [None, 1 if base == "two" else None]
    assert [line[0] for line in lines(result)] == ["one", "two"]


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
    assert lines(result)[0][-4:] == [str(few), "of", "10", "1"]
    assert lines(result)[1][-2:] == ["–", "–"]
    assert " ".join(lines(result)[2]).startswith(f"warning 1: {few} requests rejected (number ")
    assert "needs more KV blocks than the 2 there are" in " ".join(printed(result))
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


def test_what_was_served_stands_beside_the_latencies():
    """Throughput always, attainment and goodput with an SLO, preemptions where there were some."""
    assert " ".join(printed(swept())[2:6]).split().count("tokens/s") == 1
    assert "goodput" not in " ".join(printed(swept()))
    result = swept(slo={"ttft": "1 us"}, sweep={"slo.ttft": ["1 us", "1 min"]})
    none, all_of_them = sweep_rows(result)
    assert (none["attainment"], none["goodput_per_s"], all_of_them["attainment"]) == (0.0, 0.0, 1.0)
    assert [line[-2] for line in lines(result)] == ["0", "100"]
    assert [line.count("p50") for line in (" ".join(printed(result)), " ".join(printed(swept())))] == [0, 2]
    scarce = swept(
        sweep={"serving.num_gpu_blocks_override": [9, 100]},
        workload__arrivals={"kind": "at_once"},
        workload__output_tokens={"kind": "fixed", "value": 60},
    )
    few, none = (row["preemptions"] for row in sweep_rows(scarce))
    assert few > 0 == none
    assert [line[-2] for line in lines(scarce)] == [str(few), "0"]


def test_metrics_are_those_of_the_summary():
    """Each that is asked for is a column instead of the usual ones, equal to what the run's summary says of it."""
    names = ["tpot.p95", "throughput", "attainment", "rejected", "preemptions", "goodput"]
    result = swept(slo={"ttft": "5 ms"})
    (row, _), summary = sweep_rows(result, names), next(iter(result)).result.summary()
    assert list(row["metrics"]) == names
    assert [row["metrics"][name] for name in names] == pytest.approx(
        [
            summary["tpot_s"]["p95"],
            summary["throughput"]["output_tokens_per_s"],
            summary["slo"]["attainment"],
            summary["requests"]["rejected"] / 10,
            summary["requests"]["preemptions"] / 10,
            summary["goodput_per_s"],
        ],
        rel=1e-12,
    )
    assert [len(line) for line in lines(result, metrics=names)] == [1 + len(names)] * 2
    assert lines(swept(), metrics=["goodput"]) == [["mha", "–"], ["mqa", "–"]]


def test_a_metric_replaces_no_column_of_its_name():
    """Preemptions a request, as asked for, stand beside their number, each under its own title."""
    result = swept(
        sweep={"serving.num_gpu_blocks_override": [9, 100]},
        workload__arrivals={"kind": "at_once"},
        workload__output_tokens={"kind": "fixed", "value": 60},
    )
    number = sweep_rows(result)[0]["preemptions"]
    assert number > 0
    assert [line[1:3] for line in lines(result, metrics=["preemptions"])[:2]] == [
        [f"{number / 10:.2f}", str(number)],
        ["0", "0"],
    ]


def test_a_metric_of_nothing_is_no_number():
    """Where everything is left out, no figure is made up."""
    (row, _) = sweep_rows(swept(measure={"warmup": "1 h"}), ["ttft.p99", "attainment", "throughput"])
    assert row["metrics"] == {"ttft.p99": None, "attainment": None, "throughput": None}


def test_a_warning_is_told_once():
    """Points that have it bear its number, also where theirs has other figures; the text is that of the first."""
    single_file = {"workload__num_requests": 60, "serving__max_num_seqs": 1, "detail": "step"}
    result = swept(sweep={"workload.arrivals.rate": ["1 /s", "1e4 /s", "2e4 /s"]}, **single_file)
    assert [bool(row["warnings"]) for row in sweep_rows(result)] == [False, True, True]
    assert [line[-1] for line in lines(result)[:3]] == ["–", "1", "1"]
    text = " ".join(printed(result))
    assert text.count("requests pile up") == 1
    assert "(figures of workload.arrivals.rate = 1e4 /s)" in text
    (single,) = sweep_rows(swept(sweep={"workload.arrivals.rate": ["1e4 /s"]}, **single_file))
    assert single["warnings"] == sweep_rows(result)[1]["warnings"]


def test_a_warning_of_all_points_needs_no_column():
    """It stands below the table, and nothing in it."""
    result = swept(serving__max_model_len=4096)
    assert [len(line) for line in lines(result)[:2]] == [len(line) for line in lines(swept())]
    assert " ".join(lines(result)[2]).startswith("warning 1: engine: max_model_len = 4096 is beyond the 2048 tokens")


def test_warnings_of_different_gpus_are_different():
    """The number in a name is none that a point happens to have."""
    result = swept(sweep={"topology": ["a10", "a30"]})
    texts = " ".join(" ".join(line) for line in lines(result))
    assert "warning 1: a10: " in texts
    assert "warning 2: a30: " in texts

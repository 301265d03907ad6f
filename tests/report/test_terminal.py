"""What the terminal shows."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gpusim.report.numbers import digits, time_unit
from gpusim.report.terminal import TableColumn, print_summary, sweep_table
from gpusim.results.summary import build_summary
from gpusim.spec.scenario import MeasureSpec, SloSpec
from run_builders import add_request, record, uniform_run


def console(width=80) -> Console:
    return Console(file=io.StringIO(), width=width)


def shown(width=80, num_requests=30, **known) -> str:
    run = uniform_run(num_requests, 12, step_ticks=21_345_678_901)
    add_request(run.requests, 99, [], status="rejected", scheduled=None, reason="longer than [4096]", output_tokens=1)
    screen = console(width)
    print_summary(build_summary(record(run.requests, run.steps, **known)), screen)
    return screen.file.getvalue()


def line_of(text: str, start: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [start])


def test_each_latency_has_one_unit():
    """Step times of 21.3 ms and 12 tokens show as ms and ms, in three digits, with the number of observations."""
    text = shown()
    assert line_of(text, "TTFT") == ["TTFT", "ms", "21.3", "–", "21.3", "21.3", "21.3", "21.3", "30"]
    assert line_of(text, "ITL")[-1] == "330"
    assert line_of(text, "E2E")[:3] == ["E2E", "ms", "256"]


def test_requests_are_accounted_for():
    """The reader sees how many were rejected and why, and what was left out."""
    warning = "1 request rejected (number 99): longer than [4096]"
    text = shown(width=120, window=MeasureSpec(warmup=0.1), warnings=[warning])
    assert "31 requests: 30 finished, 1 rejected" in text
    assert f"warning: {warning}" in text
    assert "left out 6 of the warm-up (0.100 s) and 0 of the cool-down" in text


def test_goodput_names_its_targets():
    """Goodput stands beside the SLO it is counted against; without one there is none."""
    assert "meet TTFT ≤ 500 ms and TPOT ≤ 20.0 ms" in shown(width=120, slo=SloSpec(ttft=0.5, itl=0.02))
    assert "goodput" not in shown()


def test_a_step_stands_beside_its_bound():
    """Shares are in percent; the bound per step, and how many times it they take, in the title."""
    text = shown(bounds={"engine": {"step": 41 * 0.01}})
    assert "mean of 41 steps, 2.13 × their bound of 10.0 ms)" in text
    assert line_of(text, "compute") == ["compute", "21.3", "100.0"]


def test_an_early_stop_and_warnings_show():
    """Neither goes unnoticed."""
    text = shown(complete=False, warnings=["[KV] is nearly full"])
    assert "(stopped early)" in text
    assert "warning: [KV] is nearly full" in text


def test_nothing_finished_still_prints():
    """A run without a single latency shows dashes."""
    text = shown(window=MeasureSpec(warmup=1000.0), slo=SloSpec(ttft=1.0))
    assert line_of(text, "ITL") == ["ITL", "ms", *["–"] * 6, "0"]


@pytest.mark.parametrize("width", [30, 80, 120])
def test_no_number_is_cut_at_any_width(width):
    """Columns go below one another rather than end a number in an ellipsis; piped, they have no colour."""
    text = shown(width, num_requests=300)
    assert "…" not in text
    assert "\x1b" not in text
    cells = [word for line in text.splitlines() if line.split()[:1] == ["TTFT"] for word in line.split()]
    assert set(cells) == set(line_of(shown(400, num_requests=300), "TTFT"))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_usual_widths(width):
    """With everything shown, no line is longer than the console."""
    text = shown(width, slo=SloSpec(ttft=0.5), bounds={"engine": {"step": 1.0}}, utilisation={"node0.gpu0.hbm": 0.5})
    assert max(map(len, text.splitlines())) <= width


def test_a_sweep_is_converted_to_the_units_of_its_columns():
    """Values come from flat or nested keys, in SI; text, truth and absence are shown as they are."""
    rows = [
        {"attention": "mha", "itl_s": {"p99": 0.352}, "ok": True, "bytes": 549.8e9},
        {"attention": "[mqa]", "itl_s": {"p99": 0.0204}, "ok": False, "bytes": None},
    ]
    columns = [("attention", "attention", ""), ("itl_s.p99", "ITL p99", "ms"), ("bytes", "KV", "GB"), ("ok", "met", "")]
    screen = console()
    sweep_table(rows, [TableColumn(*column) for column in columns], screen, title="Study")
    lines = [line.split() for line in screen.file.getvalue().splitlines() if line.strip()]
    assert lines[0] == ["Study"]
    assert lines[-2:] == [["mha", "352", "550", "True"], ["[mqa]", "20.4", "–", "False"]]


def test_only_prose_is_wrapped():
    """A long text gives way, the numbers beside it stay whole."""
    rows = [{"n": 123456789, "source": "a long sentence that says where the number is from"}]
    screen = console(40)
    sweep_table(rows, [TableColumn("n", "n"), TableColumn("source", "source")], screen)
    assert "123456789" in screen.file.getvalue()
    assert max(map(len, screen.file.getvalue().splitlines())) <= 40


@given(value=st.floats(1e-12, 1e12))
def test_three_digits_are_within_half_a_percent(value):
    """A printed number is the value within its three digits, and never in exponent form."""
    text = digits(value)
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)?", text)
    assert float(text) == pytest.approx(value, rel=5.01e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (9.996, "10.0"),
        (999.6, "1000"),
        (12345.6, "12300"),
        (0.001234, "0.00123"),
        (-21.345, "-21.3"),
        (1.0, "1.00"),
        (65536, "65536"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_digits(value, text):
    """Rounding carries over, counts keep all digits, what is not a number is a dash."""
    assert digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "unit"), [(12.0, "s"), (0.5, "ms"), (0.0012, "ms"), (3e-6, "us"), (4e-9, "ns"), (None, "s")]
)
def test_time_unit(seconds, unit):
    """The unit makes the value at least one."""
    assert time_unit([seconds]) == unit

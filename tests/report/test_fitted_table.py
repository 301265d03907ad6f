"""Tables that fit their console."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gpusim.report.terminal import TableColumn, sweep_table

SWEPT = ("dtype.weights", "workload.arrivals.rate")
POINTS = [
    {"dtype.weights": weights, "workload.arrivals.rate": rate, **{f"n{i}": 1234.5 / 7**i for i in range(8)}}
    for weights in ("bf16", "fp8")
    for rate in ("2 /s", "400 /s")
]
COLUMNS = [TableColumn(key, key, is_label=True) for key in SWEPT]
COLUMNS += [TableColumn(f"n{i}", f"N{i} mean", "ms") for i in range(8)]


def printed(rows, columns, width):
    """Return the lines of a table, without the spaces they end with."""
    screen = Console(file=io.StringIO(), width=width)
    sweep_table(rows, columns, screen)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


def test_a_key_in_a_title_is_parted_at_its_dots():
    """What stands above a column gives way first."""
    lines = printed(POINTS, COLUMNS[:5], 46)
    assert [line.split() for line in lines[1:5]] == [
        ["workload.", "N0", "N1", "N2"],
        ["dtype.", "arrivals.", "mean", "mean", "mean"],
        ["weights", "rate", "ms", "ms", "ms"],
        ["─" * 46],
    ]
    assert lines[5].split() == ["bf16", "2", "/s", "1230000", "176000", "25200"]


def test_columns_go_below_one_another_with_what_a_row_is():
    """Each part begins with the labels; all numbers are there, in their rows."""
    wide, narrow = printed(POINTS, COLUMNS, 200), printed(POINTS, COLUMNS, 50)
    assert max(map(len, narrow)) <= 50 < max(map(len, wide))
    parts = [line.split()[3:] for line in narrow if line.startswith("bf16") and " 2 /s" in line]
    assert len(parts) > 1
    (whole,) = (line.split()[3:] for line in wide if line.startswith(" bf16") and " 2 /s" in line)
    assert [number for part in parts for number in part] == whole


@pytest.mark.parametrize("width", [4, 80])
def test_no_line_of_titles_is_empty(width):
    """Where the first column has no title either."""
    lines = printed([{"a": "all", "b": 1.0}], [TableColumn("a", ""), TableColumn("b", "mean", "ms")], width)
    assert [line.split() for line in lines] == [[], ["mean"], ["ms"], [lines[3].strip()], ["all", "1000"], []]


def test_a_table_that_just_fits_stands_closer():
    """Before it is taken apart there is one space between columns instead of two."""
    rows = [{"a": "x" * 8, "b": 12345678, "c": 12345678}]
    columns = [TableColumn("a", "a"), TableColumn("b", "b"), TableColumn("c", "c")]
    assert printed(rows, columns, 26)[-2] == "xxxxxxxx 12345678 12345678"


def test_numbers_keep_what_belongs_to_them():
    """A per cent sign stays, an interval is parted behind its "to"."""
    rows = [{"what": "mean ITL", "change": "-35.5 %", "interval": "-39.5 to -31.2"}]
    lines = printed(rows, [TableColumn(name, name) for name in rows[0]], 24)
    assert lines[-3:] == ["mean   -35.5 %  -39.5 to", "ITL             -31.2", ""]


def test_what_cannot_be_narrower_is_wider_than_the_console():
    """A number is never cut, whatever the width."""
    rows = [{"name": "llama-3.1-8b", "parameters": 8030261248}]
    text = "\n".join(printed(rows, [TableColumn("name", "name"), TableColumn("parameters", "parameters")], 15))
    assert "llama-3.1-8b  8030261248" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_usual_tables_fit_the_usual_widths(width):
    """A comparison, with the longest words of each column."""
    rows = [
        {
            "metric": "preemptions",
            "unit": "per request",
            "A": "0.0123",
            "B": "0.0119",
            "change": "-0.0004 per request",
            "interval": "-0.0012 to 0.0004",
            "verdict": "no change within noise",
        }
    ]
    assert max(map(len, printed(rows, [TableColumn(name, name) for name in rows[0]], width))) <= width


CELLS = st.one_of(
    st.none(), st.integers(0, 10**9), st.sampled_from(["a", "two words", "-12.0 to -8.1", "99.9 %", "x" * 30])
)


@given(
    rows=st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=4),
    width=st.integers(10, 120),
    num_labels=st.integers(0, 4),
)
def test_nothing_is_lost_at_any_width(rows, width, num_labels):
    """Every word and number is printed; a line is too long only where a part is of the labels and one column."""
    columns = [TableColumn(f"c{i}", f"some.title_{i}", is_label=i < num_labels) for i in range(5)]
    lines = printed([{f"c{i}": value for i, value in enumerate(row)} for row in rows], columns, width)
    words = " ".join(lines).split()
    assert all(word in words for row in rows for value in row if value is not None for word in str(value).split())
    assert all(len(line) <= max(width, 31 + 13 + sum(31 + 2 for _ in range(num_labels))) for line in lines)

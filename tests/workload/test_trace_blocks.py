"""Traces in blocks: the same requests, and the same errors, as line by line."""

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.random import BLOCK
from gpusim.errors import SpecError
from gpusim.workload import trace_blocks as module
from gpusim.workload.rows import TraceRow
from gpusim.workload.trace import TraceSummary, check_trace, open_trace, read_trace

GENERIC = "arrival_s,prompt_tokens,output_tokens"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
ODD = [
    "",
    "1,2",
    "nan,1,1",
    "inf,1,1",
    "-0,1,1",
    "1e3,5,5",
    "9,1_0,1",
    "9, 7 ,1",
    '9,"7",1',
    '9,"7',
    "9,0,1",
    "9,7,\xb2",
]
ODD_STAMPS = ["2023-02-30 00:00:00,1,1", "0000-01-01 00:00:00,1,1", "2023-11-17T09:00:00+01:00,1,1", "2023-11-17,1,1"]


def by_line(path):
    made = []
    try:
        rows = read_trace(path)
        while (row := next(rows, None)) is not None:
            made.append(tuple(row))
    except SpecError as error:
        return made, str(error)
    return made, None


def by_block(path):
    blocks, error = [], None
    try:
        made = open_trace(path).blocks()
        while (block := next(made, None)) is not None:
            blocks.append(block)
    except SpecError as found:
        error = str(found)
    return [tuple(row) for block in blocks for row in block.rows()], error


def assert_alike(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    made, error = by_block(path)
    assert (made, error) == by_line(path)
    assert [tuple(map(type, row[:3])) for row in made] == [(float, int, int)] * len(made)
    return made, error


@st.composite
def traces(draw):
    """Traces of some blocks of four lines, most of them clean, some with an odd line."""
    header, now, lines = draw(st.sampled_from([GENERIC, AZURE, BURSTGPT])), 0, []
    for _ in range(draw(st.integers(0, 14))):
        now += draw(st.integers(0, 3 * 10**10))
        minutes, seconds = divmod(now // 10**7, 60)
        stamp = f"2023-11-16 {minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{now % 10**7:07}"
        zone = draw(st.sampled_from(["", "", "Z", "+00:00"]))
        when = stamp + zone if header == AZURE else f"{now / 10**7:.7f}"
        prompt, output = draw(st.integers(1, 10**9)), draw(st.integers(1, 10**9))
        if header == BURSTGPT:
            output = draw(st.sampled_from([output, output, 0]))
            lines.append(f"{when},ChatGPT,{prompt},{output},{prompt + output},API log")
        else:
            lines.append(f"{when},{prompt},{output}")
    for odd in draw(st.lists(st.sampled_from(ODD + ODD_STAMPS), max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), odd)
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join([header, *lines]) + draw(st.sampled_from(["", end]))


@settings(max_examples=400)
@given(text=traces(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "latin-1"]))
def test_blocks_are_the_lines(tmp_path_factory, text, encoding):
    """Whatever stands in a trace, blocks give the requests and the message that reading line by line gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 4)
        assert_alike(tmp_path_factory.mktemp("trace") / "trace.csv", text, encoding)


@pytest.mark.parametrize("header", [GENERIC, AZURE])
@pytest.mark.parametrize("size", [1, BLOCK, 2 * BLOCK + 3])
def test_clean_traces_never_need_the_careful_reader(tmp_path, monkeypatch, header, size):
    """Good lines are converted column by column, to the end of the file."""
    stamps = (f"2023-11-16 {index // 3600:02}:{index // 60 % 60:02}:{index % 60:02}.25" for index in range(size))
    lines = [f"{index if header == GENERIC else stamp},{index + 1},7" for index, stamp in enumerate(stamps)]
    made, error = assert_alike(tmp_path / "trace.csv", "\n".join([header, *lines]))
    assert (made, error) == ([TraceRow(float(index), index + 1, 7) for index in range(size)], None)
    monkeypatch.setattr(module, "_careful_blocks", None)
    assert by_block(tmp_path / "trace.csv") == (made, None)


@pytest.mark.parametrize("at", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK])
def test_bytes_that_are_no_text_cost_no_block_before_them(tmp_path, at):
    """Blocks that were good are yielded once, and the message is that of the careful reader."""
    lines = [b"%d,374,44" % index for index in range(2 * BLOCK + 1)]
    lines[at] = b"0,\xff,1"
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\n".join([GENERIC.encode(), *lines]))
    assert by_block(path) == by_line(path)


def test_blocks_are_read_as_they_are_asked_for(tmp_path):
    """A line that nobody reaches is never wrong."""
    path = tmp_path / "trace.csv"
    path.write_text("\n".join([GENERIC, *["1,2,3"] * BLOCK, "0,2,3"]))
    assert [len(block.arrival_s) for block in islice(open_trace(path).blocks(), 1)] == [BLOCK]
    assert check_trace_error(path) == f"line {BLOCK + 2}: arrival_s '0' is before the line above"


def check_trace_error(path):
    with pytest.raises(SpecError) as error:
        check_trace(path)
    return str(error.value).splitlines()[1].strip().split(";")[0]


def test_a_good_trace_is_summed_up(tmp_path):
    """Counts, last arrival and tokens of all requests together, over blocks."""
    path = tmp_path / "trace.csv"
    path.write_text("\n".join([GENERIC, *(f"{index},2,3" for index in range(BLOCK + 2))]))
    assert check_trace(path) == TraceSummary(BLOCK + 2, BLOCK + 1.0, 2 * BLOCK + 4, 3 * BLOCK + 6)

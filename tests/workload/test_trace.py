"""Traces: what is read, and one clear error for every malformed line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.errors import SpecError
from gpusim.workload.files import locate_trace
from gpusim.workload.rows import TraceRow
from gpusim.workload.trace import TraceSummary, check_trace, read_trace

GENERIC = "arrival_s,prompt_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
STAMP = "2023-11-16 18:15:46.6805900"


def trace(folder, text):
    path = folder / "trace.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        GENERIC + "0,374,44\n4.5,396,109\n",
        GENERIC.replace("\n", "\r\n") + "0,374,44\r\n4.5,396,109",
        "\ufeff" + GENERIC + "0,374,44\n\n4.5,396,109\n\n",
        'prompt_tokens, "output_tokens" ,arrival_s\n374,44,0\n "396",109,4.5\n'.replace(' "', '"').replace('" ', '"'),
        AZURE + f"{STAMP},374,44\n2023-11-16 18:15:51.1805900,396,109\n",
        AZURE + "2024-05-10 23:59:59.5+00:00,374,44\n2024-05-11 00:00:04+00:00,396,109\n",
    ],
    ids=["generic", "windows", "mark-and-blank-lines", "other-order-and-quotes", "azure-2023", "azure-2024"],
)
def test_two_requests_read_alike_from_every_spelling(tmp_path, text):
    """Line ends, byte-order mark, blank lines, quotes, column order and Azure's header change nothing."""
    assert list(read_trace(trace(tmp_path, text))) == [TraceRow(0.0, 374, 44), TraceRow(4.5, 396, 109)]


@settings(max_examples=50)
@given(st.integers(0, 86_399), st.integers(0, 10**7 - 1))
def test_azure_time_stamps_keep_all_seven_decimals(tmp_path_factory, second, fraction):
    """The time since the first request is exact to the last decimal, rounded to a float once."""
    hours, minutes, seconds = second // 3600, second // 60 % 60, second % 60
    later = f"2023-11-17 {hours:02}:{minutes:02}:{seconds:02}.{fraction:07},396,109"
    path = trace(tmp_path_factory.mktemp("azure"), AZURE + f"{STAMP},374,44\n{later}\n")
    tenths_us = (86_400 + second - 65_746) * 10**7 + fraction - 6_805_900
    assert list(read_trace(path))[1].arrival_s == tenths_us / 10**7


HEADER_ERRORS = [
    ("", 1, "the header is missing; write arrival_s,prompt_tokens,output_tokens"),
    ("\n0,1,1\n", 1, "the header is missing"),
    ("0,374,44\n", 1, "'0' stands where the header should"),
    (f"{STAMP},374,44\n", 1, "stands where the header should"),
    ("arrival_s,prompt_tokens\n0,1\n", 1, "the header lacks output_tokens"),
    ("TIMESTAMP,ContextTokens\n", 1, "the header lacks GeneratedTokens"),
    ("arrival_s,prompt_token,output_tokens\n", 1, "'prompt_token': unknown column; did you mean \"prompt_tokens\"?"),
    ("arrival_s,prompt_tokens,output_tokens,model\n", 1, "'model': unknown column; known: arrival_s"),
    ("arrival_s,prompt_tokens,output_tokens,output_tokens\n", 1, "column 'output_tokens' stands there twice"),
    ("arrival_s,prompt_tokens,output_tokens,prefix_id\n", 1, "column 'prefix_id' needs a column 'prefix_tokens'"),
    ("arrival_s,prompt_tokens,output_tokens,think_s\n", 1, "column 'think_s' needs a column 'session_id'"),
    ("Timestamp,Model,Request tokens\n", 1, "the header lacks Response tokens; write Timestamp,Request tokens"),
    ("num_prefill_tokens,pd_ratio\n", 1, "the header lacks num_decode_tokens"),
]
LINE_ERRORS = [
    ("", 1, "no request follows the header"),
    ("0,374\n", 2, "2 fields where the header has 3: '0,374'"),
    ("0,374,44,1\n", 2, "4 fields where the header has 3"),
    ("0,1,1\n\nzero,374,44\n", 4, "arrival_s is 'zero'; write seconds from the start, a number of at least 0"),
    ("nan,374,44\n", 2, "arrival_s is 'nan'"),
    ("inf,374,44\n", 2, "arrival_s is 'inf'"),
    ("-1,374,44\n", 2, "arrival_s is '-1'"),
    ("1_0,374,44\n", 2, "arrival_s is '1_0'"),
    (",374,44\n", 2, "arrival_s is ''"),
    ("0,1,1\n2,1,1\n1.5,1,1\n", 4, "arrival_s '1.5' is before the line above; sort the file by arrival_s"),
    ("0,0,44\n", 2, "prompt_tokens is '0'; write a whole number of tokens, from 1 to 1000000000"),
    ("0,374,0\n", 2, "output_tokens is '0'; write a whole number"),
    ("0,-5,44\n", 2, "prompt_tokens is '-5'"),
    ("0,374.5,44\n", 2, "prompt_tokens is '374.5'"),
    ("0,nan,44\n", 2, "prompt_tokens is 'nan'"),
    ("0,1_000,44\n", 2, "prompt_tokens is '1_000'"),
    ("0,٣,44\n", 2, "prompt_tokens is '٣'"),
    ("0,2000000000,44\n", 2, "prompt_tokens is '2000000000'"),
    ("0," + "9" * 5000 + ",44\n", 2, "prompt_tokens is '9"),
    ("0,1,\n", 2, "output_tokens is ''"),
    ('0,374,"44\n', 2, "not CSV: unexpected end of data"),
]
AZURE_ERRORS = [
    ("2023-13-16 18:15:46.68,374,44\n", 2, "TIMESTAMP is '2023-13-16 18:15:46.68'; write it like 2023-11-16"),
    ("18:15:46,374,44\n", 2, "TIMESTAMP is '18:15:46'"),
    ("0.5,374,44\n", 2, "TIMESTAMP is '0.5'"),
    (f"{STAMP},374,44\n2023-11-16 18:15:46.6805899,1,1\n", 3, "sort the file by TIMESTAMP"),
    (f"{STAMP},0,44\n", 2, "ContextTokens is '0'"),
    (f"{STAMP},374,0\n", 2, "GeneratedTokens is '0'"),
]


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    HEADER_ERRORS
    + [(GENERIC + text, line, fragment) for text, line, fragment in LINE_ERRORS]
    + [(AZURE + text, line, fragment) for text, line, fragment in AZURE_ERRORS],
)
def test_a_malformed_line_is_named_with_its_value_and_the_way_out(tmp_path, text, line, fragment):
    """The message holds the file, the line number, what stands there and what should."""
    path = trace(tmp_path, text)
    with pytest.raises(SpecError) as error:
        check_trace(path)
    assert str(error.value).startswith(f"{path}:\n  line {line}: ")
    assert fragment in str(error.value)


def test_text_in_another_encoding_is_named(tmp_path):
    """Bytes that are not UTF-8 are an error, not a traceback."""
    with pytest.raises(SpecError, match="not UTF-8 text"):
        check_trace(trace(tmp_path, GENERIC.encode() + b"0,1,\xff\n"))


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("trace.parquet", ".parquet is not a trace format; known: .csv, .jsonl, .json, each also with .gz"),
        ("trace.parquet.gz", ".parquet is not a trace format"),
        ("trace", "no ending is not a trace format"),
        ("missing.csv", "no such file"),
        ("folder.csv", "this is a folder"),
    ],
)
def test_what_is_no_trace_is_refused_by_its_name(tmp_path, name, fragment):
    """Other formats, missing files and folders are errors before anything is read."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SpecError) as error:
        locate_trace(name, tmp_path)
    assert fragment in str(error.value)
    assert name in str(error.value)


def test_paths_start_at_the_files_folder_then_at_the_working_directory(tmp_path, monkeypatch):
    """A trace beside the scenario wins over one of the same name where the user stands."""
    here, beside = tmp_path / "here", tmp_path / "beside"
    for folder in (here, beside):
        folder.mkdir()
        trace(folder, GENERIC)
    monkeypatch.chdir(here)
    assert locate_trace("trace.csv", beside) == beside / "trace.csv"
    assert locate_trace("trace.csv", tmp_path) == Path("trace.csv")
    assert locate_trace(str(beside / "trace.csv"), tmp_path) == beside / "trace.csv"


def test_a_good_trace_is_summed_up(tmp_path):
    """Counts, last arrival and tokens of all requests together."""
    assert check_trace(trace(tmp_path, GENERIC + "0,374,44\n4.5,396,109\n")) == TraceSummary(2, 4.5, 770, 153)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    """The system's reason is passed on."""
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        check_trace(tmp_path / "gone.csv")

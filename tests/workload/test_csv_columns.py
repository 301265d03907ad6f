"""CSV traces with more than arrivals and lengths, and those of other tools."""

import gzip

import pytest

from gpusim.errors import SpecError
from gpusim.workload.content import Kind, key
from gpusim.workload.rows import TraceRow
from gpusim.workload.trace import TraceSummary, check_trace, open_trace, read_trace

USUAL = "arrival_s,prompt_tokens,output_tokens"


def write(folder, text, name="trace.csv"):
    path = folder / name
    packed = name.endswith(".gz")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def rows(folder, header, *lines):
    path = write(folder, "\n".join([header, *lines]) + "\n")
    found = list(read_trace(path))
    assert [row for block in open_trace(path).blocks() for row in block.rows()] == found
    return found


def test_prefixes_and_prompts_that_repeat(tmp_path):
    """A prefix is a span of its own length; a prompt that repeats is one of its whole length, behind a prefix if any."""
    header = f"{USUAL},prefix_id,prefix_tokens,prompt_id,priority"
    found = rows(tmp_path, header, "0,50,5,sys,20,,", "1,50,5,,,7,2", "2,60,5,sys,20,7,-1", "3,60,5,,,,")
    assert [row.content for row in found] == [
        ((key(Kind.PREFIX, "sys"), 20),),
        ((key(Kind.PROMPT, 7), 50),),
        ((key(Kind.PREFIX, "sys"), 20), (key(Kind.PROMPT, 7), 40)),
        (),
    ]
    assert [row.priority for row in found] == [0, 2, -1, 0]


def test_turns_of_a_session_extend_one_text(tmp_path):
    """What a turn leaves behind, prompt and answer, is what the next one begins with; think_s makes it wait for it."""
    found = rows(
        tmp_path, f"{USUAL},session_id,think_s", "0,10,5,a,", ",30,6,a,2.5", ",50,7,a,0", "1,9,9,b,", "4,8,1,a,"
    )
    name = key(Kind.SESSION, "a")
    assert [row.content for row in found[:3]] == [((name, 15),), ((name, 36),), ((name, 57),)]
    assert [row.is_follower for row in found] == [False, True, True, False, False]
    assert [row.arrival_s for row in found] == [0.0, None, None, 1.0, 4.0]
    assert [row.think_s for row in found] == [0.0, 2.5, 0.0, 0.0, 0.0]


def test_sessions_without_think_times_are_replayed(tmp_path):
    """Recorded arrivals count; the session only says what is the same."""
    found = rows(tmp_path, f"{USUAL},session_id", "0,10,5,a", "3,30,6,a")
    assert [(row.arrival_s, row.is_follower) for row in found] == [(0.0, False), (3.0, False)]


@pytest.mark.parametrize(
    ("extra", "line", "fragment"),
    [
        ("prefix_id,prefix_tokens", "0,9,1,x,", "prefix_id 'x' and prefix_tokens '': write both or none"),
        ("prefix_id,prefix_tokens", "0,9,1,x,10", "prefix_tokens 10 is more than the 9 tokens of the prompt"),
        ("prefix_id,prefix_tokens", "0,9,1,x,1.5", "prefix_tokens is '1.5'; write a whole number of tokens"),
        ("prompt_id,session_id", "0,9,1,x,y", "prompt_id 'x' and session_id 'y': write one of them"),
        ("priority", "0,9,1,high", "priority is 'high'; write a whole number"),
        ("priority", "0,9,1,12345678901", "priority is '12345678901'"),
        ("session_id,think_s", "0,9,1,a,3", "think_s '3' stands beside an arrival; leave think_s empty"),
        ("session_id,think_s", ",9,1,a,3", "session_id 'a' with a think_s, but the line above is of ''"),
        ("session_id,think_s", ",9,1,,3", "session_id '' with a think_s"),
        ("session_id,think_s", ",9,1,a,", "arrival_s is ''"),
    ],
)
def test_a_bad_value_is_one_clear_error(tmp_path, extra, line, fragment):
    """The message names file, line, value and the way out."""
    path = write(tmp_path, f"{USUAL},{extra}\n{line}\n")
    with pytest.raises(SpecError) as error:
        check_trace(path)
    assert str(error.value).startswith(f"{path}:\n  line 2: ")
    assert fragment in str(error.value)


def test_turns_stand_below_one_another(tmp_path):
    """A turn that waits for another's end comes directly after it, and its think time is a time."""
    path = write(tmp_path, f"{USUAL},session_id,think_s\n0,9,1,a,\n1,9,1,b,\n,9,1,a,2\n")
    with pytest.raises(SpecError, match="line 4: session_id 'a' with a think_s, but the line above is of 'b'"):
        check_trace(path)
    path = write(tmp_path, f"{USUAL},session_id,think_s\n0,9,1,a,\n,9,1,a,-2\n")
    with pytest.raises(SpecError, match="line 3: think_s is '-2'; write seconds, a number of at least 0"):
        check_trace(path)


def test_burstgpt_leaves_out_what_failed(tmp_path):
    """Rows without a response are failures; what the other columns say is passed over."""
    header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
    found = rows(tmp_path, header, "5,ChatGPT,472,18,490,API log", "45,ChatGPT,9,0,9,API log", "118,GPT-4,8,2,10,x")
    assert found == [TraceRow(5.0, 472, 18), TraceRow(118.0, 8, 2)]


def test_vidur_with_and_without_arrivals(tmp_path):
    """Its traces of arrivals and of lengths alone; the latter are for arrivals that a workload states."""
    assert rows(tmp_path, "arrived_at,num_prefill_tokens,num_decode_tokens", "0.5,7,3") == [TraceRow(0.5, 7, 3)]
    assert rows(tmp_path, "num_prefill_tokens,num_decode_tokens,pd_ratio", "7,3,2.3") == [TraceRow(None, 7, 3)]


def test_measured_requests_are_what_was_asked_for(tmp_path):
    """Requested lengths and prompt_id are read, what the client measured is not."""
    header = "index,stage,arrival_s,prompt_id,prompt_tokens,output_tokens_requested,output_tokens_client,ok,ttft_s"
    found = rows(tmp_path, header, "0,0,0.0,3,596,247,251,1,0.06", "1,0,0.2,4,594,247,1,0,")
    assert found == [
        TraceRow(0.0, 596, 247, ((key(Kind.PROMPT, 3), 596),)),
        TraceRow(0.2, 594, 247, ((key(Kind.PROMPT, 4), 594),)),
    ]
    header = "index,arrival_s,prompt_tokens,prefix_reusable_tokens,output_tokens,ttft_s"
    assert rows(tmp_path, header, "0,0.5,2358,0,531,0.7") == [TraceRow(0.5, 2358, 531)]


def test_packed_traces_are_read_as_they_are(tmp_path):
    """With .gz behind the ending the content is the same, by either reader; a broken file is named."""
    text = f"{USUAL}\n0,374,44\n4.5,396,109\n"
    assert check_trace(write(tmp_path, text, "trace.csv.gz")) == TraceSummary(2, 4.5, 770, 153)
    assert list(read_trace(tmp_path / "trace.csv.gz")) == list(read_trace(write(tmp_path, text)))
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(text.encode())[:-12])
    with pytest.raises(SpecError, match=r"bad\.csv\.gz: cannot be unpacked"):
        check_trace(tmp_path / "bad.csv.gz")
    (tmp_path / "none.csv.gz").write_text(text)
    with pytest.raises(SpecError, match=r"none\.csv\.gz: cannot be unpacked"):
        check_trace(tmp_path / "none.csv.gz")

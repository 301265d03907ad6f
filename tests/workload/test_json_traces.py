"""Traces in JSON: each tool's layout read as it writes it, and one clear error for what is none."""

import gzip
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.errors import SpecError
from gpusim.workload.content import shared_tokens
from gpusim.workload.rows import TraceRow
from gpusim.workload.trace import check_trace, open_trace, read_trace

MOONCAKE = [
    {"timestamp": 0, "input_length": 1100, "output_length": 500, "hash_ids": [0, 1, 2]},
    {"timestamp": 3052, "input_length": 1030, "output_length": 26, "hash_ids": [0, 1, 3]},
]


def lines(folder, *entries, name="trace.jsonl"):
    path = folder / name
    text = "\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def document(folder, content):
    path = folder / "trace.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(path):
    found = list(read_trace(path))
    assert [row for block in open_trace(path).blocks() for row in block.rows()] == found
    return found


def shown(turns):
    """Return what a session's rows say without their content."""
    return [(row.arrival_s, row.prompt_tokens, row.output_tokens, row.is_follower, row.think_s) for row in turns]


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_mooncake_says_which_blocks_are_the_same(tmp_path, name):
    """Milliseconds, lengths, and blocks of 512 tokens by their hashes, the last one shorter."""
    one, other = read(lines(tmp_path, MOONCAKE[0], "", MOONCAKE[1], name=name))
    assert (one.arrival_s, one.prompt_tokens, one.output_tokens) == (0.0, 1100, 500)
    assert other.arrival_s == pytest.approx(3.052)
    assert [size for _, size in one.content] == [512, 512, 76]
    assert shared_tokens(one.content, other.content) == 1024


def test_serving_sims_calls_wait_for_one_another(tmp_path):
    """A line is a request or a chain of calls with the time of a tool between them, all in nanoseconds."""
    calls = [
        {"input_toks": 40, "output_toks": 5, "tool_duration_ns": 2 * 10**9},
        {"input_toks": 60, "output_toks": 5},
    ]
    path = lines(
        tmp_path,
        {"input_toks": 32, "output_toks": 2, "arrival_time_ns": 0, "input_tok_ids": [*range(32)]},
        {"session_id": "task-0", "arrival_time_ns": 5 * 10**8, "sub_requests": calls},
        {"input_toks": 20, "output_toks": 2, "arrival_time_ns": 10**9, "input_tok_ids": [*range(17), 9, 9, 9]},
    )
    found = read(path)
    assert shown(found) == [
        (0.0, 32, 2, False, 0.0),
        (0.5, 40, 5, False, 0.0),
        (None, 60, 5, True, 2.0),
        (1.0, 20, 2, False, 0.0),
    ]
    assert shared_tokens(found[0].content, found[3].content) == 16
    assert shared_tokens(found[1].content, found[2].content) == 45
    assert open_trace(path).may_follow


def test_vllms_request_files_state_lengths(tmp_path):
    """Prompts with their length are read; equal texts are equal prompts."""
    entries = [
        {"prompt": text, "prompt_len": size, "output_tokens": 9} for text, size in (("a", 3), ("b", 4), ("a", 3))
    ]
    found = read(lines(tmp_path, *entries))
    assert [(row.arrival_s, row.prompt_tokens, row.output_tokens) for row in found] == [
        (None, 3, 9), (None, 4, 9), (None, 3, 9)
    ]  # fmt: skip
    assert found[0].content == found[2].content != found[1].content


CONVERSATION = {
    "conversations": [
        {"from": "system", "value": "be brief", "num_tokens": 2},
        {"from": "human", "value": "hi", "num_tokens": 1},
        {"from": "gpt", "value": "hello", "num_tokens": 5},
        {"from": "human", "value": "more", "prompt_tokens": 3},
        {"from": "gpt", "value": "there you are", "output_tokens": 7},
        {"from": "human", "value": "bye", "num_tokens": 1},
    ]
}


def test_conversations_grow_turn_by_turn(tmp_path):
    """A prompt is all that was said so far; what nobody answers is left out. As a list, or one a line."""
    opened_by_answer = {"conversations": [{"from": "gpt", "tokens": 4}, *CONVERSATION["conversations"][1:3]]}
    for path in (document(tmp_path, [CONVERSATION, opened_by_answer]), lines(tmp_path, CONVERSATION, opened_by_answer)):
        found = read(path)
        assert shown(found) == [(None, 3, 5, False, 0.0), (None, 11, 7, True, 0.0), (None, 5, 5, False, 0.0)]
        assert shared_tokens(found[0].content, found[1].content) == 8
        assert shared_tokens(found[0].content, found[2].content) == 0
        assert open_trace(path).may_follow
        assert not open_trace(path).has_arrivals


def test_a_result_of_vllm_bench(tmp_path):
    """Lengths in the order of their start, without those that failed; starts are arrivals where it has them."""
    result = {"input_lens": [10, 20, 30], "output_lens": [5, 0, 7], "request_rate": 4.0, "burstiness": 1.0}
    path = document(tmp_path, result)
    assert read(path) == [TraceRow(None, 10, 5), TraceRow(None, 30, 7)]
    assert open_trace(path).hint == "; it was sent with request_rate 4, burstiness 1.0"
    path = document(tmp_path, result | {"start_times": [102.5, 101.0, 100.0]})
    assert read(path) == [TraceRow(0.0, 30, 7), TraceRow(2.5, 10, 5)]


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path_factory, entries):
    """Times, lengths and shared blocks come back from Mooncake's layout."""
    folder = tmp_path_factory.mktemp("mooncake")
    entries.sort(key=lambda entry: entry[0])
    written = [
        {"timestamp": ms, "input_length": prompt, "output_length": output, "hash_ids": [*range(-(-prompt // 512))]}
        for ms, prompt, output in entries
    ]
    found = read(lines(folder, *written))
    assert [(round(row.arrival_s * 1000), row.prompt_tokens, row.output_tokens) for row in found] == entries
    for one, other in pairwise(found):
        assert shared_tokens(one.content, other.content) == min(one.prompt_tokens, other.prompt_tokens)


LINE_ERRORS = [
    ([], 0, "no request in it; write one JSON object a line"),
    (["{"], 1, "not JSON: "),
    (["[1]"], 1, "'[1]' is no JSON object"),
    ([{"foo": 1}], 1, "keys foo are of no format that is known (Mooncake: hash_ids or input_length; LLMServingSim"),
    ([MOONCAKE[0], {**MOONCAKE[1], "timestamp": "x"}], 2, "timestamp is 'x'; write milliseconds from the start"),
    ([MOONCAKE[1], MOONCAKE[0]], 2, "timestamp 0 is before the line above; sort the file by timestamp"),
    ([{**MOONCAKE[0], "timestamp": 10**400}], 1, "timestamp is 1000000000"),
    ([{**MOONCAKE[0], "input_length": 0}], 1, "input_length is 0; write a whole number of tokens, from 1"),
    ([{**MOONCAKE[0], "output_length": True}], 1, "output_length is True; write a whole number"),
    ([{**MOONCAKE[0], "hash_ids": [1, "x"]}], 1, "hash_ids is \"[1, 'x']\"; write a list of whole numbers"),
    ([{**MOONCAKE[0], "hash_ids": [*range(4)]}], 1, "4 hash_ids of 512 tokens are more than the input_length of 1100"),
    ([{"input_length": 1, "output_length": 1}, MOONCAKE[0]], 2, "timestamp stands here and not in the first line"),
    ([{"prompt": "hi", "output_tokens": 3}], 1, "gpusim has no tokenizer; count with the model's own and add"),
    ([{"prompt_tokens": 3}], 1, "output_tokens is None"),
    ([{"arrival_time_ns": 0, "sub_requests": []}], 1, "sub_requests is no list of requests"),
    ([{"arrival_time_ns": 0, "input_toks": 3, "output_toks": 1, "input_tok_ids": [1]}], 1, "has 1 tokens where"),
    ([{"conversations": [{"from": "human", "value": "hi"}]}], 1, "turn 0 is a text without its length, and gpusim has"),
    ([{"conversations": 3}], 1, "conversations is no list of turns"),
]


@pytest.mark.parametrize(("entries", "line", "fragment"), LINE_ERRORS)
def test_a_bad_line_is_one_clear_error(tmp_path, entries, line, fragment):
    """The message names file, line, value and the way out."""
    path = lines(tmp_path, *entries)
    with pytest.raises(SpecError) as error:
        check_trace(path)
    assert str(error.value).startswith(f"{path}:\n  line {line}: " if line and entries else f"{path}:\n  ")
    assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("{,", "line 1: not JSON"),
        ("[]", "neither a list of conversations (ShareGPT) nor a result of vllm bench serve"),
        ({"input_lens": [1]}, "neither a list of conversations"),
        ({"input_lens": [1], "output_lens": [1, 2]}, "lists of different lengths: 1 input_lens, 2 output_lens"),
        ({"input_lens": [1], "output_lens": [1], "start_times": ["x"]}, "start_times[0] is 'x'; write seconds"),
        ({"input_lens": [1.5], "output_lens": [1]}, "input_lens[0] is 1.5"),
        ({"input_lens": [1], "output_lens": [0]}, "no request in it"),
        ([CONVERSATION, {"conversations": [{"value": "hi"}]}], "conversation 1: turn 0 is a text without its length"),
        ([CONVERSATION, 3], "conversation 1: conversations is no list of turns"),
    ],
)
def test_a_bad_document_is_one_clear_error(tmp_path, content, fragment):
    """Where there are no lines the message names the conversation, or the entry of the list."""
    path = document(tmp_path, content)
    with pytest.raises(SpecError) as error:
        check_trace(path)
    assert str(error.value).startswith(f"{path}:\n  ")
    assert fragment in str(error.value)

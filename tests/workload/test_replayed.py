"""Traces under arrivals of the workload, and streams that are merged."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.errors import SpecError
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.content import shared_tokens
from gpusim.workload.named import blocks_of, read_workload
from gpusim.workload.shapes import RequestShape, groups
from gpusim.workload.stream import may_follow, request_blocks, requests

POISSON = {"kind": "poisson", "rate": 4.0}
SESSIONS = """arrival_s,prompt_tokens,output_tokens,session_id,think_s
0,10,1,a,
,20,2,a,1.5
3,30,3,b,
3,40,4,c,
,50,5,c,0
"""


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(SESSIONS)
    return str(path)


def shapes(spec, seed=0):
    return list(requests(WorkloadSpec.model_validate(spec), seed=seed, folder=Path()))


def drawn(**changes):
    lengths = {"prompt_tokens": {"kind": "fixed", "value": 10}, "output_tokens": {"kind": "fixed", "value": 1}}
    return {"arrivals": POISSON, "num_requests": 40, **lengths} | changes


def test_a_trace_is_replayed_as_it_stands(trace):
    """Turns follow the request before them, with the think time of the trace."""
    found = shapes({"trace": trace})
    assert [(s.index, s.arrival_s, s.after, s.think_s) for s in found] == [
        (0, 0.0, None, 0.0), (1, None, 0, 1.5), (2, 3.0, None, 0.0), (3, 3.0, None, 0.0), (4, None, 3, 0.0),
    ]  # fmt: skip
    assert may_follow(WorkloadSpec(trace=trace), Path())
    assert len(shapes({"trace": trace, "duration": 3.0})) == 2


def test_arrivals_of_the_workload_take_the_place_of_the_traces(trace):
    """Sessions begin when the workload says; lengths, turns and what they say stay, in their order."""
    found, plain = shapes({"trace": trace, "arrivals": POISSON}), shapes({"trace": trace})
    assert [s.arrival_s for s in found if s.after is None] == [s.arrival_s for s in shapes(drawn())][:3]
    assert [(s.prompt_tokens, s.output_tokens, s.content, s.after, s.think_s) for s in found] == [
        (s.prompt_tokens, s.output_tokens, s.content, s.after, s.think_s) for s in plain
    ]


def test_think_times_of_the_workload(trace):
    """Stated with the trace they take the place of what it says, with its own arrivals or not."""
    sessions = {"think_time": {"kind": "fixed", "value": 9.0}}
    for extra in ({}, {"arrivals": POISSON}):
        found = shapes({"trace": trace, "sessions": sessions, **extra})
        assert [s.think_s for s in found] == [0.0, 9.0, 0.0, 0.0, 9.0]


def test_a_shuffled_trace_is_the_same_sessions_in_another_order(tmp_path):
    """Each once, turns together; arrivals ascend, and the seed decides the order."""
    path = tmp_path / "many.csv"
    rows = "".join(f"{size},1,{size},\n,{size + 1},1,{size},2\n" for size in range(10, 110))
    path.write_text("prompt_tokens,output_tokens,session_id,think_s\n" + rows.replace("\n,", "\n"))
    spec = {"trace": str(path), "arrivals": POISSON, "sample": "shuffle"}
    found = [[shape.prompt_tokens for shape in group] for group in groups(shapes(spec))]
    assert sorted(found) == [[size, size + 1] for size in range(10, 110)]
    assert found != sorted(found)
    assert found != [[shape.prompt_tokens for shape in group] for group in groups(shapes(spec, seed=1))]
    starts = [shape.arrival_s for shape in shapes(spec) if shape.after is None]
    assert starts == sorted(starts)


def test_lengths_alone_need_arrivals(tmp_path):
    """The message says what to add, and how the trace was sent where it knows; `show` takes it as it is."""
    path = tmp_path / "result.json"
    path.write_text('{"input_lens": [3], "output_lens": [4], "request_rate": 2.5}')
    with pytest.raises(SpecError) as error:
        request_blocks(WorkloadSpec(trace=str(path)), seed=0, folder=Path())
    assert "vLLM result states no arrivals; add arrivals to the workload" in str(error.value)
    assert "it was sent with request_rate 2.5, burstiness 1" in str(error.value)
    (block,) = blocks_of(str(path), seed=0, folder=Path())
    assert (block.arrival_s, block.prompt_tokens) == (None, [3])
    closed = {"kind": "closed", "concurrency": 2}
    assert shapes({"trace": str(path), "arrivals": closed}) == [RequestShape(0, None, 3, 4)]


def test_merged_streams_are_in_order_of_arrival(trace):
    """All requests of all parts, each once, by time and then by part; turns stay behind the first of their session."""
    parts = [drawn(seed=1), {"trace": trace}, drawn(arrivals={"kind": "constant", "rate": 1.0}, num_requests=9)]
    found = shapes({"merge": parts})
    assert [shape.index for shape in found] == list(range(40 + 5 + 9))
    sessions = list(groups(found))
    starts = [session[0].arrival_s for session in sessions]
    assert starts == sorted(starts)
    assert all(s.after == s.index - 1 for session in sessions for s in session[1:])
    at_three = [session[0].prompt_tokens for session in sessions if session[0].arrival_s == 3.0]
    assert at_three == [30, 40, 10]
    expected = sorted((s.prompt_tokens, s.output_tokens) for part in parts for s in shapes(part))
    assert sorted((s.prompt_tokens, s.output_tokens) for s in found) == expected
    assert may_follow(WorkloadSpec.model_validate({"merge": parts}), Path())
    assert shapes({"merge": parts, "num_requests": 7}) == found[:7]


def test_merged_parts_are_drawn_independently():
    """Equal parts without seeds of their own differ, in arrivals and in what they say; the seed decides both."""
    part = drawn(prefixes={"groups": 1, "tokens": {"kind": "fixed", "value": 5}})
    found = shapes({"merge": [part, part]})
    assert len({shape.arrival_s for shape in found}) == 80
    assert len({shape.content for shape in found}) == 2
    assert found == shapes({"merge": [part, part]})
    assert found != shapes({"merge": [part, part]}, seed=1)


@given(st.lists(st.lists(st.floats(0, 10), max_size=8).map(sorted), min_size=1, max_size=4))
def test_a_merge_is_a_stable_sort(tmp_path_factory, streams):
    """Of whatever arrivals: as Python sorts them when the parts are put one behind the other."""
    folder = tmp_path_factory.mktemp("merge")
    parts, expected = [], []
    for number, times in enumerate(streams):
        path = folder / f"{number}.csv"
        lines = [f"{time_s!r},{number + 1},{row + 1}" for row, time_s in enumerate([*times, 11.0])]
        path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines))
        parts.append({"trace": str(path)})
        expected += [(time_s, number + 1, row + 1) for row, time_s in enumerate([*times, 11.0])]
    found = shapes({"merge": parts})
    expected.sort(key=lambda row: row[0])
    assert [(s.arrival_s, s.prompt_tokens, s.output_tokens) for s in found] == expected


def test_workloads_are_merged_by_name_and_not_closed(trace):
    """Names are looked up and traces located; closed loops are refused, also where only a name says so."""
    spec = read_workload(WorkloadSpec.model_validate({"merge": ["chat", {"trace": trace}]}), Path())
    assert [part.name for part in spec.merge] == ["chat", ""]
    closed = {"kind": "closed", "concurrency": 2}
    with pytest.raises(ValueError, match="not yet: merging closed arrivals"):
        WorkloadSpec.model_validate({"merge": [drawn(arrivals=closed)]})
    with pytest.raises(ValueError, match="not yet: merging what is merged itself"):
        WorkloadSpec.model_validate({"merge": [{"merge": [drawn()]}]})
    path = Path(trace).with_name("closed.yaml")
    path.write_text(
        "arrivals: {kind: closed, concurrency: 2}\nprompt_tokens: {kind: fixed, value: 1}\n"
        "output_tokens: {kind: fixed, value: 1}\nnum_requests: 3\n"
    )
    with pytest.raises(SpecError, match="not yet: merging closed arrivals"):
        read_workload(WorkloadSpec(merge=[str(path)]), Path())


def test_content_survives_the_merge(trace):
    """Turns of one session still extend one another, and sessions of different parts have nothing in common."""
    found = shapes({"merge": [{"trace": trace}, {"trace": trace}]})
    longest = [session[-1] for session in groups(found)]
    shared = np.array([[shared_tokens(a.content, b.content) for a in longest] for b in longest])
    assert np.count_nonzero(shared - np.diag(np.diag(shared))) == 0
    for session in groups(found):
        for one, other in pairwise(session):
            assert shared_tokens(one.content, other.content) == one.prompt_tokens + one.output_tokens

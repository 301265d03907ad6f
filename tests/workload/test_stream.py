"""The stream of requests: limits, order, laziness, and what each request depends on."""

import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
from pydantic import ValidationError

from gpusim.core.random import BLOCK
from gpusim.errors import SpecError
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.stream import RequestShape, request_blocks, requests

LOGNORMAL = {"kind": "lognormal", "median": 1020, "p99": 4100}


def workload(**changes):
    drawn = {
        "arrivals": {"kind": "poisson", "rate": 5.5},
        "prompt_tokens": LOGNORMAL,
        "output_tokens": {"kind": "uniform", "low": 1, "high": 500},
        "num_requests": 3000,
    }
    return WorkloadSpec.model_validate(drawn | changes)


def shapes(spec, *, seed=0, folder=Path()):
    return list(requests(spec, seed=seed, folder=folder))


def write(folder, rows, header="arrival_s,prompt_tokens,output_tokens"):
    (folder / "trace.csv").write_text("\n".join([header, *rows]) + "\n")
    return WorkloadSpec(trace="trace.csv")


def test_requests_are_numbered_in_order_of_arrival():
    """Indices count from 0, and no request arrives before the one it follows."""
    made = shapes(workload())
    assert [shape.index for shape in made] == list(range(3000))
    assert made == sorted(made, key=lambda shape: shape.arrival_s)


def test_a_longer_stream_begins_with_the_shorter_one():
    """num_requests cuts the stream and changes nothing in it."""
    assert shapes(workload())[:1000] == shapes(workload(num_requests=1000))


def test_reading_two_streams_in_turns_changes_neither():
    """Two readers of the same workload see the same requests."""
    readers = [requests(workload(), seed=0, folder=Path()) for _ in range(2)]
    turns = list(zip(*readers, strict=True))
    assert [one for one, _ in turns] == [other for _, other in turns] == shapes(workload())


def test_one_part_of_a_workload_does_not_move_the_others():
    """Another prompt distribution leaves arrivals and outputs as they were."""
    plain, longer = shapes(workload()), shapes(workload(prompt_tokens={"kind": "fixed", "value": 9}))
    assert [(s.arrival_s, s.output_tokens) for s in plain] == [(s.arrival_s, s.output_tokens) for s in longer]


def test_the_workloads_own_seed_comes_before_the_scenarios():
    """With a seed of its own a workload ignores the scenario's; without, another seed gives other requests."""
    assert shapes(workload(seed=5), seed=0) == shapes(workload(seed=5), seed=1) == shapes(workload(), seed=5)
    assert shapes(workload(), seed=0) != shapes(workload(), seed=1)


def test_duration_keeps_exactly_the_arrivals_before_it():
    """The last arrival is before the duration, and the next one would not be."""
    ended = shapes(workload(num_requests=None, duration=100.0))
    endless = shapes(workload())
    assert ended == endless[: len(ended)]
    assert ended[-1].arrival_s < 100.0 <= endless[len(ended)].arrival_s


def test_an_arrival_at_the_duration_is_left_out():
    """Four a second for 2 s are 8 requests, the last at 1.75 s."""
    made = shapes(workload(arrivals={"kind": "constant", "rate": 4.0}, num_requests=None, duration=2.0))
    assert [shape.arrival_s for shape in made] == [index / 4 for index in range(8)]


def test_the_earlier_of_both_limits_ends_the_stream():
    """num_requests and duration may be given together."""
    constant = {"kind": "constant", "rate": 4.0}
    assert len(shapes(workload(arrivals=constant, num_requests=5, duration=2.0))) == 5
    assert len(shapes(workload(arrivals=constant, num_requests=50, duration=2.0))) == 8


def test_at_once_and_closed_streams():
    """At once all come at 0; in a closed loop no time is stated, and the lengths are the same."""
    at_once = shapes(workload(arrivals={"kind": "at_once"}))
    closed = shapes(workload(arrivals={"kind": "closed", "concurrency": 4}))
    assert {shape.arrival_s for shape in at_once} == {0.0}
    assert {shape.arrival_s for shape in closed} == {None}
    assert [s.prompt_tokens for s in at_once] == [s.prompt_tokens for s in closed]


def test_a_trace_is_cut_by_both_limits(tmp_path):
    """Of a trace num_requests takes the first ones, duration those before it."""
    spec = write(tmp_path, ["0,10,1", "1.5,20,2", "1.5,30,3", "4,40,4"])
    made = shapes(spec, folder=tmp_path)
    assert made[1] == RequestShape(1, 1.5, 20, 2)
    assert shapes(spec.model_copy(update={"num_requests": 2}), folder=tmp_path) == made[:2]
    assert shapes(spec.model_copy(update={"duration": 4.0}), folder=tmp_path) == made[:3]


def test_a_bad_line_of_a_trace_is_an_error_when_it_is_reached(tmp_path):
    """The requests before it are delivered; a stream that ends before it never sees it."""
    spec = write(tmp_path, ["0,10,1", "1,20,2", "2,0,3"])
    stream = requests(spec, seed=0, folder=tmp_path)
    assert len(list(islice(stream, 2))) == 2
    with pytest.raises(SpecError, match="line 4"):
        next(stream)
    assert len(shapes(spec.model_copy(update={"num_requests": 2}), folder=tmp_path)) == 2


def test_a_missing_trace_is_an_error_at_once(tmp_path):
    """Before the first request is asked for."""
    with pytest.raises(SpecError, match="no such file"):
        requests(WorkloadSpec(trace="trace.csv"), seed=0, folder=tmp_path)


def peak_bytes(spec, folder=Path()):
    tracemalloc.start()
    count = sum(1 for _ in requests(spec, seed=0, folder=folder))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return count, peak


def test_two_hundred_thousand_drawn_requests_need_no_list():
    """The stream holds one block of each of its random streams, whatever its length."""
    count, peak = peak_bytes(workload(num_requests=200_000))
    assert count == 200_000
    assert peak < 500_000


@pytest.mark.parametrize("space", ["", " "], ids=["clean", "careful"])
def test_a_trace_is_read_block_by_block(tmp_path, space):
    """A trace of 50,000 lines takes as much memory as one of 5,000, and less than a MB."""
    peaks = []
    for size in (5000, 50_000):
        spec = write(tmp_path, [f"{index},{space}1000,100" for index in range(size)])
        count, peak = peak_bytes(spec, tmp_path)
        assert count == size
        peaks.append(peak)
    assert peaks[1] == pytest.approx(peaks[0], rel=0.05)
    assert peaks[1] < 1_000_000


@pytest.mark.parametrize("arrivals", ["poisson", "constant", "at_once", "closed"])
def test_blocks_hold_what_the_requests_are(arrivals):
    """Blocks follow one another without a gap, are full but for the last, and end as the requests do."""
    rate = {"rate": 5.5} if arrivals in {"poisson", "constant"} else {}
    clients = {"concurrency": 4} if arrivals == "closed" else {}
    spec = workload(arrivals={"kind": arrivals, **rate, **clients}, num_requests=2 * BLOCK + 7)
    blocks = list(request_blocks(spec, seed=0, folder=Path()))
    assert [(block.first, len(block)) for block in blocks] == [(0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, 7)]
    assert [shape for block in blocks for shape in block.requests()] == shapes(spec)


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_limits_cut_at_any_place_of_a_block(tmp_path, size):
    """num_requests and duration give the first *size* requests, drawn or read, and no empty block."""
    drawn = workload(arrivals={"kind": "constant", "rate": 1.0})
    read = write(tmp_path, [f"{index},10,1" for index in range(2 * BLOCK)])
    for spec in (drawn, read):
        whole = shapes(spec, folder=tmp_path)
        for limit in ({"num_requests": size}, {"num_requests": None, "duration": float(size)}):
            cut = list(request_blocks(spec.model_copy(update=limit), seed=0, folder=tmp_path))
            assert [shape for block in cut for shape in block.requests()] == whole[:size]
            assert all(len(block) for block in cut)


def test_a_bad_line_comes_after_every_block_before_it(tmp_path):
    """The good lines of its block are delivered first; a limit before it ends the stream in peace."""
    bad = 2 * BLOCK + 5
    spec = write(tmp_path, [f"{index},{10 if index < bad else 'ten'},1" for index in range(3 * BLOCK)])
    blocks, sizes = request_blocks(spec, seed=0, folder=tmp_path), []
    with pytest.raises(SpecError, match=f"line {bad + 2}: prompt_tokens is 'ten'"):
        sizes.extend(map(len, blocks))
    assert sizes == [BLOCK, BLOCK, 5]
    assert len(shapes(spec.model_copy(update={"num_requests": bad}), folder=tmp_path)) == bad
    assert len(shapes(spec.model_copy(update={"duration": bad - 1.0}), folder=tmp_path)) == bad - 1


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"num_requests": None}, "say when to stop: num_requests or duration"),
        ({"prompt_tokens": None}, "prompt_tokens must be stated (or a trace)"),
        ({"trace": "x.csv"}, "a trace states lengths; leave out prompt_tokens, output_tokens"),
        ({"merge": ["chat"]}, "state their requests; leave out arrivals, prompt_tokens, output_tokens"),
        ({"sample": "shuffle"}, "sample is for a trace"),
        ({"sessions": {}}, "sessions must say how many turns they have"),
        (
            {"sessions": {"turns": {"kind": "fixed", "value": 2}}, "prompts": {"distinct": 3}},
            "not yet: prompts that repeat within sessions",
        ),
        ({"prefixes": {"groups": 0, "tokens": LOGNORMAL}}, "greater than or equal to 1"),
        ({"prefixes": {"groups": 1, "tokens": LOGNORMAL, "share": 1.5}}, "less than or equal to 1"),
        ({"arrivals": {"kind": "stages", "stages": []}}, "at least 1 item"),
        ({"arrivals": {"kind": "stages", "stages": [{"rate": 0, "duration": 1}]}}, "every stage has rate 0"),
        (
            {"arrivals": {"kind": "stages", "stages": [{"rate": 1, "duration": 1, "burstiness": 2}]}},
            "a poisson stage has no burstiness",
        ),
        (
            {
                "arrivals": {
                    "kind": "closed",
                    "concurrency": 1,
                    "think_time": {"kind": "lognormal", "median": 2, "p99": 1},
                }
            },
            "p99 = 1 s is below median = 2 s",
        ),
        (
            {"arrivals": {"kind": "at_once"}, "num_requests": None, "duration": 1.0},
            "at_once arrivals need num_requests",
        ),
        ({"arrivals": {"kind": "closed", "concurrency": 2}, "duration": 1.0}, "not yet: duration with closed arrivals"),
        ({"arrivals": {"kind": "poisson", "rate": 0}}, "greater than 0"),
        ({"arrivals": {"kind": "poisson", "rate": float("nan")}}, "finite"),
        ({"arrivals": {"kind": "gamma", "rate": 1, "burstiness": -1}}, "greater than 0"),
        ({"arrivals": {"kind": "closed", "concurrency": 0}}, "greater than or equal to 1"),
        ({"num_requests": 0}, "greater than or equal to 1"),
        ({"duration": -1.0}, "greater than 0"),
    ],
)
def test_an_incomplete_or_impossible_workload_is_refused(changes, fragment):
    """What is missing, or cannot be, is named before anything is drawn."""
    with pytest.raises(ValidationError) as error:
        workload(**changes)
    assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"trace": "x.csv", "sample": "shuffle"}, "state arrivals to shuffle its lengths"),
        ({"trace": "x.csv", "prompts": {"distinct": 2}}, "not yet: prompts with a trace"),
        ({"trace": "x.csv", "sessions": {"max_tokens": 2}}, "only think_time may be added"),
        ({"merge": []}, "at least 1 item"),
    ],
)
def test_a_trace_leaves_little_to_state(changes, fragment):
    """What a trace knows by itself is not stated again."""
    with pytest.raises(ValidationError) as error:
        WorkloadSpec.model_validate(changes)
    assert fragment in str(error.value)

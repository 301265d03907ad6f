"""Prefixes, prompts that repeat, sessions and stages: what is drawn, against what it stands for."""

import math
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.random import BLOCK, Streams
from gpusim.spec.arrivals import StagedArrivals
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.arrivals import arrival_blocks
from gpusim.workload.content import shared_tokens
from gpusim.workload.shapes import groups
from gpusim.workload.stream import request_blocks, requests

TURNS = {"kind": "uniform", "low": 1, "high": 6}
THINK = {"kind": "exponential", "mean": 3.0}


def fixed(value):
    return {"kind": "fixed", "value": value}


def workload(**changes):
    drawn = {
        "arrivals": {"kind": "poisson", "rate": 5.5},
        "prompt_tokens": {"kind": "uniform", "low": 1, "high": 40},
        "output_tokens": {"kind": "uniform", "low": 1, "high": 9},
        "num_requests": 3000,
    }
    return WorkloadSpec.model_validate(drawn | changes)


def shapes(spec, *, seed=0):
    return list(requests(spec, seed=seed, folder=Path()))


def prefix_of(shape):
    return shape.content[0] if shape.content else None


@pytest.mark.parametrize("order", ["random", "cycled"])
def test_prefixes_come_on_top_of_prompts(order):
    """Arrivals, outputs and each request's own tokens are those of the workload without; a group is one text."""
    prefixes = {"groups": 4, "tokens": {"kind": "uniform", "low": 100, "high": 900}, "order": order}
    plain, found = shapes(workload()), shapes(workload(prefixes=prefixes))
    sizes = dict(prefix_of(shape) for shape in found)
    assert len(sizes) == 4
    assert [prefix_of(shape)[1] for shape in found] == [sizes[prefix_of(shape)[0]] for shape in found]
    own = [(s.arrival_s, s.prompt_tokens - prefix_of(s)[1], s.output_tokens) for s in found]
    assert own == [(s.arrival_s, s.prompt_tokens, s.output_tokens) for s in plain]
    names = [prefix_of(shape)[0] for shape in found]
    if order == "cycled":
        assert names == (names[:4] * 750)
    else:
        assert max(abs(count / 3000 - 0.25) for count in Counter(names).values()) < 4 * math.sqrt(0.25 * 0.75 / 3000)


def test_a_share_of_requests_has_a_prefix():
    """Within four standard errors of a binomial; the others begin with nothing that anybody else has."""
    found = shapes(workload(prefixes={"groups": 2, "tokens": fixed(10), "share": 0.3}))
    share = sum(bool(shape.content) for shape in found) / len(found)
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 3000))


def test_whole_prompts_are_cycled():
    """As the load generator behind measured runs: period 100, ten groups that share a system prompt, one more token each."""
    spec = workload(
        prompts={"distinct": 100},
        prefixes={"groups": 10, "tokens": fixed(100), "order": "cycled"},
        num_requests=1000,
    )
    found = shapes(spec)
    for index, shape in enumerate(found):
        again = found[index % 100]
        assert (shape.prompt_tokens, shape.content) == (again.prompt_tokens, again.content)
        assert sum(size for _, size in shape.content) == shape.prompt_tokens
        assert prefix_of(shape) == prefix_of(found[index % 10])
    assert shared_tokens(found[3].content, found[13].content) == 100
    assert len({shape.content for shape in found}) == 100


def test_whole_prompts_are_drawn():
    """Each as often as the others, within four standard errors."""
    found = shapes(workload(prompts={"distinct": 5, "order": "random"}))
    counts = Counter(shape.content for shape in found)
    assert len(counts) == 5
    assert max(abs(count / 3000 - 0.2) for count in counts.values()) < 4 * math.sqrt(0.2 * 0.8 / 3000)


@pytest.mark.parametrize(
    "extra", [{"prompts": {"distinct": 7, "order": "random"}}, {"sessions": {"turns": TURNS, "think_time": THINK}}]
)
def test_a_longer_stream_begins_with_the_shorter_one(extra):
    """num_requests cuts the stream and changes nothing in it, sessions included."""
    assert shapes(workload(**extra))[:1700] == shapes(workload(**extra, num_requests=1700))
    blocks = list(request_blocks(workload(**extra), seed=0, folder=Path()))
    assert [len(block) for block in blocks] == [BLOCK, BLOCK, 3000 - 2 * BLOCK]


def tokens_of(shape, own):
    """Write out the tokens of a request, prompt and answer: (key, position), and its own behind them."""
    length = shape.prompt_tokens + shape.output_tokens
    known = [(name, position) for name, size in shape.content for position in range(size)][:length]
    return known + [(own, position) for position in range(length - len(known))]


@pytest.mark.parametrize("extra", [{}, {"prefixes": {"groups": 2, "tokens": fixed(7)}}])
def test_a_turn_says_all_that_was_said_before(extra):
    """Token by token: prompt and answer of a turn are how the next one's prompt begins, and no other session has them."""
    found = list(groups(shapes(workload(sessions={"turns": TURNS}, **extra, num_requests=300))))
    prefix = 7 if extra else 0
    for session in found:
        written = [tokens_of(shape, shape.index) for shape in session]
        for one, other in pairwise(written):
            assert other[: len(one)] == one
        for shape, before in zip(session, [0, *map(len, written)], strict=False):
            assert 1 <= shape.prompt_tokens - max(before, prefix) <= 40
    firsts = [tokens_of(session[-1], session[-1].index)[prefix:] for session in found]
    assert len({first[0] for first in firsts}) == len(found)


def test_sessions_begin_as_arrivals_say_and_turns_follow():
    """Starts are the arrivals of the workload without sessions; a turn follows the one directly before it."""
    found = list(groups(shapes(workload(sessions={"turns": TURNS, "think_time": THINK}))))
    starts = [session[0].arrival_s for session in found]
    assert starts == [shape.arrival_s for shape in islice(requests(workload(), seed=0, folder=Path()), len(found))]
    turns = [len(session) for session in found[:-1]]
    assert np.mean(turns) == pytest.approx(3.5, abs=4 * math.sqrt(35 / 12 / len(turns)))
    later = [shape for session in found for shape in session[1:]]
    assert all(shape.arrival_s is None and shape.after == shape.index - 1 for shape in later)
    think = np.array([shape.think_s for shape in later])
    assert think.mean() == pytest.approx(3.0, rel=4 / math.sqrt(len(think)))
    assert all(session[0].think_s == 0.0 and session[0].after is None for session in found)


def test_sessions_end_before_they_are_too_long():
    """With max_tokens no turn but a first is longer, and the one that would be begins the next session with its draws."""
    sessions = {"turns": fixed(50), "max_tokens": 200}
    found = shapes(workload(sessions=sessions))
    free = shapes(workload(sessions={"turns": fixed(50)}))
    assert max(shape.prompt_tokens + shape.output_tokens for shape in found) <= 200
    assert all(len(session) > 1 for session in list(groups(found))[:-1])
    assert [shape.output_tokens for shape in found] == [shape.output_tokens for shape in free]


def test_duration_leaves_out_sessions_that_begin_later():
    """Sessions that began before it go on to their end."""
    found = shapes(workload(sessions={"turns": fixed(3)}, num_requests=None, duration=60.0))
    assert len(found) % 3 == 0
    assert max(shape.arrival_s or 0 for shape in found) < 60
    assert found == shapes(workload(sessions={"turns": fixed(3)}))[: len(found)]


@pytest.mark.parametrize("sessions", [None, {"turns": fixed(2)}])
def test_clients_think_before_they_go_on(sessions):
    """In a closed loop think times stand with the request, or session, that comes after them; log-normal as stated."""
    times = {"kind": "lognormal", "median": 2.0, "p99": 20.0}
    arrivals = {"kind": "closed", "concurrency": 4, "think_time": times}
    found = shapes(workload(arrivals=arrivals, sessions=sessions))
    assert {shape.arrival_s for shape in found} == {None}
    firsts = np.array([shape.think_s for shape in found if shape.after is None])
    for level, time_s in ((0.5, 2.0), (0.99, 20.0)):
        spread = 4 * math.sqrt(level * (1 - level) / len(firsts))
        assert np.mean(firsts <= time_s) == pytest.approx(level, abs=spread)


def staged(*stages):
    return StagedArrivals.model_validate({"kind": "stages", "stages": list(stages)})


def times_of(spec, seed=0):
    return np.array([time_s for block in arrival_blocks(spec, Streams(seed)) for time_s in block])


def test_constant_stages_are_the_closed_form():
    """Rate times duration requests each, evenly, the first at the start of its stage; nothing in a pause."""
    spec = staged(
        {"rate": 2, "duration": 3, "kind": "constant"}, {"rate": 0, "duration": 10},
        {"rate": 4, "duration": 1, "kind": "constant"},
    )  # fmt: skip
    assert times_of(spec).tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 13, 13.25, 13.5, 13.75]


def test_stages_have_the_stated_counts():
    """Poisson counts within four standard deviations in every stage, with the exponential gaps of its rate."""
    rates = [8, 20, 3]
    found = times_of(staged(*({"rate": rate, "duration": 600} for rate in rates)), seed=3)
    assert np.all(np.diff(found) >= 0)
    for number, rate in enumerate(rates):
        inside = found[(found >= 600 * number) & (found < 600 * (number + 1))]
        assert len(inside) == pytest.approx(rate * 600, abs=4 * math.sqrt(rate * 600))
        gaps = np.sort(np.diff(inside))
        distance = np.abs(1 - np.exp(-rate * gaps) - (np.arange(gaps.size) + 0.5) / gaps.size).max()
        assert distance < 1.95 / math.sqrt(gaps.size)


@pytest.mark.parametrize(("rate", "to"), [(2, 12), (12, 2), (0, 10), (10, 0)])
def test_a_ramp_has_the_counts_of_its_changing_rate(rate, to):
    """In every tenth as many as the integral of the rate says, within four standard deviations; constant ones exactly."""
    found = times_of(staged({"rate": rate, "to": to, "duration": 1000}))
    even = times_of(staged({"rate": rate, "to": to, "duration": 1000, "kind": "constant"}))
    for tenth in range(10):
        expected = 100 * (rate + (to - rate) * (tenth + 0.5) / 10)
        count, exact = (((times >= 100 * tenth) & (times < 100 * (tenth + 1))).sum() for times in (found, even))
        assert count == pytest.approx(expected, abs=4 * math.sqrt(expected) + 1)
        assert exact == pytest.approx(expected, abs=1)
    assert found.max() < 1000


def test_gamma_stages_bunch():
    """The coefficient of variation of gaps is 1 / sqrt(burstiness), within four standard errors."""
    found = times_of(staged({"rate": 10, "duration": 2000, "kind": "gamma", "burstiness": 0.25}))
    gaps = np.diff(found)
    assert gaps.std() / gaps.mean() == pytest.approx(2, rel=4 * math.sqrt(5 / (2 * len(gaps))))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 200)), min_size=1, max_size=4))
def test_stages_stay_in_their_time_and_in_order(stages):
    """Arrivals ascend, come in full blocks, and those of a stage do not depend on what comes after it."""
    stages = [{"rate": rate + 1, "to": to, "duration": duration} for rate, to, duration in stages]
    found = times_of(staged(*stages))
    blocks = [len(block) for block in arrival_blocks(staged(*stages), Streams(0))]
    assert all(size == BLOCK for size in blocks[:-1])
    assert np.all(np.diff(found) >= 0)
    assert len(found) == 0 or found[-1] <= sum(stage["duration"] for stage in stages)
    first = times_of(staged(stages[0]))
    assert found[: len(first)].tolist() == first.tolist()


def test_a_staged_workload_ends_with_its_stages():
    """It needs no limit, and the last block is as long as there are arrivals."""
    arrivals = {"kind": "stages", "stages": [{"rate": 20, "duration": 100, "kind": "constant"}]}
    for extra in ({}, {"prompts": {"distinct": 3}}):
        assert len(shapes(workload(arrivals=arrivals, num_requests=None, **extra))) == 2000
    assert len(shapes(workload(arrivals=arrivals, num_requests=50))) == 50

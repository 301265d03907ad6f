"""The step log."""

import pickle
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.results.step_log import COUNTS, StepLog
from gpusim.runtime.attribution import CATEGORIES
from run_builders import add_run


def test_steps_are_numbered_through():
    """Each run returns the number of its first step."""
    log = StepLog("engine")
    assert [add_run(log, 0, [5, 5]), add_run(log, 10, [1]), add_run(log, 20, [2, 2])] == [0, 2, 3]
    assert log.ends.tolist() == [5, 10, 11, 22, 24]
    assert log.run_lengths.tolist() == [2, 1, 2]


def test_a_step_starts_where_the_last_one_ended_or_its_run_began():
    """Idle time lies between runs, in no step."""
    log = StepLog("engine")
    add_run(log, 3, [5, 5])
    add_run(log, 20, [2, 2])
    assert log.starts.tolist() == [3, 8, 20, 22]
    assert log.step_time_ps == 14


def test_totals_count_every_step_of_a_run():
    """Counts are per step, attribution per run."""
    log = StepLog("engine")
    add_run(log, 0, [10**12] * 3, num_decodes=4, num_tokens=5, num_prefill_tokens=100)
    add_run(log, 4 * 10**12, [10**12], num_decodes=2, num_tokens=2)
    assert [log.total(c) for c in ("num_decodes", "num_tokens", "num_prefill_tokens")] == [14, 17, 300]
    assert dict(zip(CATEGORIES, log.attribution_ps, strict=True))["compute"] == 4 * 10**12


def test_overlapping_runs_are_our_bug():
    """A run that starts before the last one ended is refused."""
    log = StepLog("engine")
    add_run(log, 0, [10])
    with pytest.raises(AssertionError, match="overlap"):
        add_run(log, 9, [10])


def test_reasons_that_do_not_make_up_the_time_are_our_bug():
    """The ticks of a run's categories sum to its time, exactly."""
    with pytest.raises(AssertionError, match="adds up"):
        add_run(StepLog("engine"), 0, [10], attribution_ps=np.array([9] + [0] * (len(CATEGORIES) - 1)))


@st.composite
def runs(draw):
    """Runs (idle before, durations, counts, weights of the categories) of an engine."""
    counts = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
    parts = st.lists(st.integers(0, 5), min_size=len(CATEGORIES), max_size=len(CATEGORIES))
    durations = st.lists(st.integers(1, 10**10), min_size=1, max_size=6)
    run = st.tuples(st.sampled_from([0, 0, 12_345]), durations, counts, parts)
    return draw(st.lists(run, min_size=1, max_size=12))


def arguments(start, durations, counts, parts):
    """Return what `StepLog.append` takes for a run."""
    ends = start + np.cumsum(durations)
    spent = int(ends[-1]) - start
    attribution_ps = np.array(parts) * (spent // (sum(parts) + 1))
    attribution_ps[-1] += spent - attribution_ps.sum()
    known = {"attribution_ps": attribution_ps, "kv_blocks": 3 * counts[0]}
    return {"start": start, "ends": ends, **known, **dict(zip(COUNTS, counts, strict=True))}


def laid_out(described):
    """Return the arguments of all runs, one after the other."""
    made, now = [], 3
    for idle, *run in described:
        made.append(arguments(now + idle, *run))
        now = int(made[-1]["ends"][-1])
    return made


def extend(log, made, *, continues=False):
    """Log runs in one call."""
    return log.extend(
        np.array([run["start"] for run in made]),
        np.array([len(run["ends"]) for run in made]),
        np.concatenate([run["ends"] for run in made]),
        attribution_ps=np.array([run["attribution_ps"] for run in made]),
        kv_blocks=np.array([run["kv_blocks"] for run in made]),
        continues=continues,
        **{name: np.array([run[name] for run in made]) for name in COUNTS},
    )


def assert_same(one, other):
    """Two logs hold the same."""
    np.testing.assert_array_equal(one.ends, other.ends)
    np.testing.assert_array_equal(one.runs, other.runs)


@given(described=runs(), cuts=st.sets(st.integers(1, 11)))
def test_many_runs_at_once_are_each_one_alone(described, cuts):
    """However runs are bundled into calls, the log is the same, and so are the numbers of their first steps."""
    single, bulk, made = StepLog("engine"), StepLog("engine"), laid_out(described)
    firsts = [single.append(**run) for run in made]
    bounds = [0, *sorted(cut for cut in cuts if cut < len(made)), len(made)]
    for low, high in pairwise(bounds):
        assert extend(bulk, made[low:high]) == firsts[low]
    assert_same(bulk, single)


@given(described=runs(), data=st.data())
def test_a_run_handed_over_in_parts_is_one_run(described, data):
    """Cut anywhere, looked at in between or not, it has the same row: ticks add up exactly."""
    whole, cut = StepLog("engine"), StepLog("engine")
    for run in laid_out(described):
        whole.append(**run)
        counts = tuple(run[name] for name in COUNTS)
        durations = np.diff(run["ends"], prepend=run["start"])
        at = data.draw(st.integers(1, len(durations)))
        even = [1] * len(CATEGORIES)
        head = arguments(run["start"], durations[:at], counts, even)
        tail = arguments(int(head["ends"][-1]), durations[at:], counts, even) if at < len(durations) else None
        cut.append(**(head if tail else run))
        if data.draw(st.booleans()):
            assert len(cut.ends) == len(cut)
            assert len(cut.runs) == len(cut.run_lengths)
        if tail:
            tail["attribution_ps"] = run["attribution_ps"] - head["attribution_ps"]
            extend(cut, [tail], continues=True)
    assert_same(cut, whole)


def test_what_was_looked_at_stays_as_it_was():
    """A run that goes on changes no array handed out before."""
    log = StepLog("engine")
    add_run(log, 0, [5])
    runs = log.runs
    add_run(log, 5, [7], continues=True)
    assert (runs["attribution_ps"].sum(), log.attribution_ps.sum()) == (5, 12)
    assert (len(log.runs), log.run_lengths.tolist()) == (1, [2])


def test_a_run_keeps_the_most_blocks_of_its_parts():
    """Blocks held are those of the fullest step, whichever part it is in."""
    log = StepLog("engine")
    for start, kv_blocks in ((0, 4), (5, 9), (10, 7)):
        add_run(log, start, [5], kv_blocks=kv_blocks, continues=start > 0)
    assert log.runs["kv_blocks"].tolist() == [9]


@pytest.mark.parametrize(
    ("change", "why"),
    [({"num_tokens": 2}, "same batch"), ({"start": 6}, "back to back"), ({"fresh": True}, "last row")],
)
def test_a_run_that_cannot_go_on_is_our_bug(change, why):
    """Only the run logged last, in the tick it ended, with the batch it had."""
    log = StepLog("engine")
    if not change.pop("fresh", False):
        add_run(log, 0, [5])
    with pytest.raises(AssertionError, match=why):
        add_run(log, change.pop("start", 5), [5], continues=True, **change)


def test_an_empty_log_has_empty_answers():
    """An engine that never ran a step has zero of everything."""
    log = StepLog("engine")
    assert (len(log), log.step_time_ps, log.total("num_tokens")) == (0, 0, 0)
    assert log.starts.tolist() == log.ends.tolist() == []
    assert log.attribution_ps.tolist() == [0] * len(CATEGORIES)


@pytest.mark.parametrize(("run_length", "most"), [(1, 130), (6, 32), (15, 18)])
def test_a_step_costs_few_bytes(run_length, most):
    """A step takes 8 bytes and its share of its run's 96, a quarter more with reserve: 32 from runs of 6 steps on."""
    ends, attribution_ps = np.arange(1, run_length + 1), np.zeros(len(CATEGORIES), np.int64)
    attribution_ps[0] = run_length
    counts = {"num_decodes": 9, "num_prefill_tokens": 0, "num_tokens": 9}
    tracemalloc.start()
    log = StepLog("engine")
    for start in range(0, 600_000, run_length * 20):
        log.append(start, start + ends, attribution_ps=attribution_ps, **counts)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held / len(log) <= most
    assert log.nbytes == pytest.approx(held, rel=0.1)


def test_a_log_can_be_pickled():
    """Results travel between processes."""
    log = StepLog("engine")
    add_run(log, 3, [5, 5])
    copy = pickle.loads(pickle.dumps(log))  # noqa: S301 - our own bytes
    add_run(copy, 20, [7])
    assert copy.ends.tolist() == [8, 13, 27]

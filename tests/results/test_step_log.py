"""The step log."""

import pickle
import tracemalloc

import numpy as np
import pytest

from gpusim.results.step_log import StepLog
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
    assert dict(zip(CATEGORIES, log.attribution_s, strict=True))["compute"] == 4.0


def test_overlapping_runs_are_our_bug():
    """A run that starts before the last one ended is refused."""
    log = StepLog("engine")
    add_run(log, 0, [10])
    with pytest.raises(AssertionError, match="overlap"):
        add_run(log, 9, [10])


def test_an_empty_log_has_empty_answers():
    """An engine that never ran a step has zero of everything."""
    log = StepLog("engine")
    assert (len(log), log.step_time_ps, log.total("num_tokens")) == (0, 0, 0)
    assert log.starts.tolist() == log.ends.tolist() == []
    assert log.attribution_s.tolist() == [0.0] * len(CATEGORIES)


@pytest.mark.parametrize(("run_length", "most"), [(1, 115), (5, 32), (15, 18)])
def test_a_step_costs_few_bytes(run_length, most):
    """A step takes 8 bytes and its share of its run's 84, a quarter more with reserve: 32 from runs of 5 steps on."""
    ends, attribution_s = np.arange(1, run_length + 1), np.zeros(len(CATEGORIES))
    tracemalloc.start()
    log = StepLog("engine")
    for start in range(0, 600_000, run_length * 20):
        log.append(start, start + ends, num_decodes=9, num_prefill_tokens=0, num_tokens=9, attribution_s=attribution_s)
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

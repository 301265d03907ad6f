"""Whether the slowest first tokens are of the start."""

import numpy as np
import pytest

from builders import build_simulation
from gpusim.results.request_log import RequestLog
from gpusim.results.start_up import MIN_REQUESTS, start_up
from gpusim.results.step_log import StepLog
from run_builders import add_request, add_run

TICK = 10**10


def logs(first, others, *, slow, fast):
    """Return logs in which *first* requests come at 0 and *others* one by one, with TTFTs of so many steps."""
    steps, requests = StepLog("engine"), RequestLog(["engine"])
    add_run(steps, 0, [TICK] * (slow + fast + first + others))
    for index in range(first + others):
        arrival, wait = (0, slow) if index < first else (index, fast)
        add_request(requests, index, [(arrival + wait - 1,) * 2], arrival=arrival * TICK)
    return requests, {"engine": steps}


def found(requests, steps):
    """Return what the start of all requests does."""
    return start_up(requests, steps, np.ones(len(requests), bool))


def test_the_start_is_told_from_the_rest():
    """One request in ten comes first and waits ten times as long: the 99th percentile is theirs, without them the others'."""
    measured = found(*logs(20, 180, slow=100, fast=10))
    assert (measured.number, measured.with_s, measured.without_s) == pytest.approx((20, 1.0, 0.1))
    assert measured.is_sure
    assert str(measured).startswith(
        "the 20 requests that come at once at the start make the p99 of TTFT 1 s; of the others it is 0.1 s."
    )


def test_a_start_that_does_not_matter_is_no_warning():
    """Few of many do not reach the percentile, nor do those that wait as long as others."""
    assert not found(*logs(10, 2000, slow=100, fast=10)).is_sure
    assert not found(*logs(20, 180, slow=15, fast=10)).is_sure


def test_where_nothing_can_be_said():
    """One by one, too few later, all at once, none finished."""
    assert found(*logs(1, 200, slow=100, fast=10)) is None
    assert found(*logs(20, MIN_REQUESTS - 1, slow=100, fast=10)) is None
    assert found(*logs(200, 0, slow=100, fast=10)) is None
    requests, steps = logs(20, 180, slow=100, fast=10)
    assert start_up(requests, steps, np.zeros(200, bool)) is None


def test_a_closed_loop_says_it_until_the_start_is_left_out():
    """Fifty clients at once wait for fifty prompts; later each waits for few."""
    closed = {
        "detail": "step",
        "serving__max_num_seqs": 64,
        "workload__arrivals": {"kind": "closed", "concurrency": 50},
        "workload__output_tokens": {"kind": "uniform", "low": 100, "high": 500},
        "workload__num_requests": 400,
    }
    (warning,) = build_simulation(**closed).run().record.warnings
    assert warning.startswith("engine: the 50 requests that come at once at the start make the p99 of TTFT ")
    assert not build_simulation(measure={"warmup": "1 ms"}, **closed).run().record.warnings

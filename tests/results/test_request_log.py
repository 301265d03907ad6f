"""The request log."""

import tracemalloc

import pytest

from gpusim.results.request_log import NONE, RequestLog
from run_builders import add_request


def test_a_request_comes_back_as_it_went_in():
    """Row and segments hold what was appended."""
    requests = RequestLog(["a", "b"])
    add_request(requests, 5, [(1, 3)], engine="a")
    row = add_request(
        requests, 9, [(0, 2), (7, 7)], engine="b", arrival=11, scheduled=13, num_preemptions=1, preempted=17
    )
    found = requests.rows[row]
    assert (found["index"], found["engine"], found["arrival_ps"], found["scheduled_ps"]) == (9, 1, 11, 13)
    assert (found["output_tokens"], found["num_preemptions"], found["preempted_ps"]) == (4, 1, 17)
    assert requests.segments[1:].tolist() == [(1, 1, 0, 2), (1, 1, 7, 7)]


def test_a_request_that_never_ran_has_no_schedule():
    """None is kept as -1."""
    requests = RequestLog(["a"])
    add_request(requests, 0, [], scheduled=None, status="waiting", output_tokens=5)
    assert requests.rows["scheduled_ps"].tolist() == [NONE]
    assert requests.has_status("waiting").tolist() == [True]


def test_rejections_are_counted_by_reason():
    """The same reason is one entry, the most frequent first."""
    requests = RequestLog(["a"])
    for index, reason in enumerate(["no blocks", "too long", "too long"]):
        add_request(requests, index, [], scheduled=None, status="rejected", reason=reason, output_tokens=5)
    assert list(requests.rejected_reasons().items()) == [("too long", 2), ("no blocks", 1)]


def test_tokens_cost_nothing():
    """A request of a million tokens in one segment takes as much memory as one of a thousand."""
    held = []
    for num_tokens in (1_000, 1_000, 1_000_000):  # the first round makes what all share
        tracemalloc.start()
        requests = RequestLog(["a"])
        for index in range(5000):
            add_request(requests, index, [(0, num_tokens - 1)])
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert held[2] == pytest.approx(held[1], rel=0.05)  # what Python itself keeps varies
    assert held[2] / 5000 < 200

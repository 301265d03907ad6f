"""Whether requests pile up, on queues of which theory knows it."""

import heapq

import numpy as np
import pytest

from gpusim.results.growth import MIN_REQUESTS, growth
from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from run_builders import add_request, add_run

TICKS = 10**9
"""A mean service."""
SEEDS = range(12)


def queue(load, number, *, servers=1, seed=0, times="poisson", service="exponential"):
    """Return the logs of a queue with some servers at *load*, each request a token that ends with its service."""
    draws = np.random.default_rng(seed)
    gaps = {"poisson": draws.exponential, "constant": lambda mean, size: np.full(size, mean)}[times]
    arrivals = np.cumsum(gaps(TICKS / load / servers, number)).astype(np.int64)
    lengths = draws.exponential(TICKS, number) if service == "exponential" else np.full(number, TICKS)
    return logs(arrivals, served(arrivals, lengths, servers))


def served(arrivals, lengths, servers):
    """Return when requests are over that take the first of *servers* that is free, in their order."""
    free, ends = [0] * servers, []
    for arrival, length in zip(arrivals.tolist(), lengths.astype(np.int64).tolist(), strict=True):
        ends.append(max(heapq.heappop(free), arrival) + length)
        heapq.heappush(free, ends[-1])
    return np.array(ends)


def logs(arrivals, ends, statuses=()):
    """Return logs in which requests have one token each, at *ends*, where steps end; all are finished, or have *statuses*."""
    steps, requests = StepLog("engine"), RequestLog(["engine"])
    ticks = np.unique(ends)
    add_run(steps, 0, np.diff(ticks, prepend=0).tolist())
    places = np.searchsorted(ticks, ends).tolist()
    statuses = statuses or ["finished"] * len(ends)
    for index, (arrival, step, status) in enumerate(zip(arrivals.tolist(), places, statuses, strict=True)):
        add_request(requests, index, [(step, step)], arrival=arrival, status=status)
    return requests, {"engine": steps}


def found(requests, steps):
    """Return the growth of all requests."""
    return growth(requests, steps, np.ones(len(requests), bool))


def share_of_alarms(load, number, **known):
    """Return in which part of queues that differ by seed requests are said to pile up."""
    measured = [found(*queue(load, number, seed=seed, **known)) for seed in SEEDS]
    return np.mean([grown is not None and grown.is_sure for grown in measured])


@pytest.mark.parametrize("servers", [1, 20])
@pytest.mark.parametrize("number", [MIN_REQUESTS, 200, 1000])
@pytest.mark.parametrize("load", [0.3, 0.8, 0.9])
def test_a_queue_that_keeps_up_is_no_alarm(load, number, servers):
    """M/M/1 and M/M/20 below saturation, also while the twenty servers are still being filled."""
    assert share_of_alarms(load, number, servers=servers) <= 1 / 12


@pytest.mark.parametrize(
    ("load", "number", "servers"),
    [
        (6, MIN_REQUESTS, 1),
        (6, 400, 20),
        (2, 200, 1),
        (2, 200, 20),
        (1.5, 600, 1),
        (1.5, 600, 20),
        (1.25, 2000, 1),
        (1.25, 2000, 20),
    ],
)
def test_a_queue_that_does_not_keep_up_is_found(load, number, servers):
    """Above saturation, by requests enough to tell."""
    assert share_of_alarms(load, number, servers=servers) >= 11 / 12


@pytest.mark.parametrize(("load", "piles_up"), [(0.98, False), (1.0, False), (1.2, True)])
def test_without_chance_it_is_exact(load, piles_up):
    """D/D/1: at full load nothing waits, above it the queue grows evenly, by 1 - 1 / load of what comes."""
    measured = found(*queue(load, 2000, times="constant", service="fixed"))
    assert measured.is_sure is piles_up
    assert measured.after - measured.before == pytest.approx(1000 * max(0, 1 - 1 / load), rel=0.01, abs=0.5)
    assert measured.came / measured.half_s == pytest.approx(load / (TICKS * 1e-12), rel=0.01)
    assert measured.went / measured.half_s == pytest.approx(min(load, 1) / (TICKS * 1e-12), rel=0.01)


def test_one_burst_in_a_quiet_stream_is_no_growth():
    """Ten requests at once in the last quarter of a hundred are gone before the next."""
    arrivals = np.sort(np.concatenate([np.arange(90) * 5 * TICKS, np.full(10, 400 * TICKS)]))
    assert not found(*logs(arrivals, served(arrivals, np.full(100, TICKS), 1))).is_sure


def test_clients_that_wait_for_their_answers_never_pile_up():
    """A closed loop of 50 clients: their number in the system is 50 from the first on."""
    ends = np.arange(1, 1001) * TICKS
    arrivals = np.concatenate([np.zeros(50, np.int64), ends[:-50]])
    assert not found(*logs(arrivals, ends)).is_sure


def test_few_requests_and_those_that_come_at_once_say_nothing():
    """There is no time in which the number could have grown, nor in a span too short to be parted in four."""
    assert found(*queue(6, MIN_REQUESTS - 1)) is None
    for span in range(5):
        arrivals = np.linspace(0, span, 100).astype(np.int64)
        assert found(*logs(arrivals, np.arange(1, 101) * TICKS)) is None
    arrivals = np.minimum(np.arange(100), 3)
    assert found(*logs(arrivals, arrivals + 1)) is None


def test_a_burst_is_no_growth():
    """Before the first request is over any number grows with each that comes; that says nothing of the rate."""
    arrivals = np.arange(100) * TICKS
    assert found(*logs(arrivals, arrivals + 50 * TICKS)) is None
    assert found(*logs(arrivals, served(arrivals, np.full(100, 50 * TICKS), 1))) is None
    assert not found(*logs(arrivals, arrivals + 49 * TICKS)).is_sure


def test_requests_of_others_and_rejected_ones_do_not_count():
    """Only those asked for do; of a stopped run those that never finished are in the system to its end."""
    requests, steps = queue(6, 200)
    assert growth(requests, steps, np.arange(200) < 100).came < found(requests, steps).came
    arrivals = np.arange(1, 201) * TICKS
    assert found(*logs(arrivals, arrivals + 1, ["rejected"] * 200)) is None
    unfinished = found(*logs(arrivals, arrivals + 1, ["finished"] * 50 + ["running"] * 150))
    assert (unfinished.came, unfinished.went) == (100, 0)
    assert unfinished.after - unfinished.before == pytest.approx(100, abs=2)


def test_the_message_says_what_was_seen_and_what_to_do():
    """One line with rates, numbers, and a way out."""
    text = str(found(*queue(2, 2000, times="constant", service="fixed")))
    assert text.startswith(
        "requests pile up: in the second half of the arrivals 2001 /s came and 1001 /s were finished; "
    )
    assert "376 were in the system in the second quarter, 876 in the last." in text
    assert "lower the rate" in text
    assert "\n" not in text

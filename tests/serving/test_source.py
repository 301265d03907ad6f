"""Sources: when requests are submitted, and when all are over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.core.clock import DECISION, Clock, ticks
from gpusim.serving.source import Source
from gpusim.workload.stream import RequestShape


class Served:
    """Requests that are over some ticks after they came; stands for router and engine."""

    def __init__(self, clock, arrivals_s, *, service=0, concurrency=None):
        self.clock, self.service = clock, service
        self.log, self.drained, self.inside, self.most_inside = [], [], 0, 0
        shapes = (RequestShape(index, arrival_s, 5, 2) for index, arrival_s in enumerate(arrivals_s))
        self.source = Source(
            clock, shapes, self, concurrency=concurrency, on_drained=lambda: self.drained.append(clock.now)
        )

    def choose(self, _request):
        return self

    def submit(self, request):
        self.log.append((self.clock.now, request.index))
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        assert request.arrival == self.clock.now
        if self.service:
            self.clock.timeout(self.service).callbacks.append(lambda _: self.over(request))
        else:
            self.over(request)

    def over(self, request):
        self.inside -= 1
        self.source.over(request)


@given(st.lists(st.floats(0, 1e-3), min_size=1, max_size=20).map(sorted), st.integers(0, 10**9))
def test_an_open_loop_submits_at_the_stated_times(arrivals_s, service):
    """Requests come at their ticks and in their order, however long those before them take."""
    clock = Clock()
    served = Served(clock, arrivals_s, service=service)
    clock.run()
    assert served.log == [(ticks(arrival_s), index) for index, arrival_s in enumerate(arrivals_s)]
    assert served.source.num_submitted == len(arrivals_s)
    assert served.drained == [ticks(arrivals_s[-1]) + service]


@given(concurrency=st.integers(1, 6), num_requests=st.integers(1, 20), service=st.integers(1, 1000))
def test_a_closed_loop_keeps_its_clients_busy(concurrency, num_requests, service):
    """Each client sends its next request in the tick its last one is over; never are more under way than clients."""
    clock = Clock()
    served = Served(clock, [None] * num_requests, service=service, concurrency=concurrency)
    clock.run()
    assert served.log == [(index // concurrency * service, index) for index in range(num_requests)]
    assert served.most_inside == min(concurrency, num_requests)
    assert served.drained == [-(-num_requests // concurrency) * service]


@pytest.mark.parametrize("concurrency", [None, 1, 3])
def test_requests_that_are_refused_at_once_are_over(concurrency):
    """An engine that rejects all ends the run, once, open loop or closed."""
    clock = Clock()
    served = Served(clock, [0.0 if concurrency is None else None] * 5, concurrency=concurrency)
    clock.run()
    assert [index for _, index in served.log] == [0, 1, 2, 3, 4]
    assert served.drained == [0]


def test_nothing_to_submit_is_over_at_once():
    """A workload without requests drains at tick 0."""
    clock = Clock()
    assert Served(clock, []).drained == []
    served = Served(clock, [])
    clock.run()
    assert served.drained == [0]


@pytest.mark.parametrize("concurrency", [None, 2])
def test_requests_come_before_the_decision_of_their_tick(concurrency):
    """Also those of clients whose last request is over in that very tick."""
    clock, seen = Clock(), []
    arrivals_s = [0.0, 0.0, 1e-9, 1e-9] if concurrency is None else [None] * 4
    served = Served(clock, arrivals_s, service=1000, concurrency=concurrency)
    for tick in (0, 1000):
        clock.timeout(tick, priority=DECISION).callbacks.append(lambda _: seen.append(len(served.log)))
    clock.run()
    assert seen == [2, 4]

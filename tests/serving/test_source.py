"""Sources: when requests are submitted, and when all are over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.core.clock import ARRIVAL, DECISION, Clock, ticks
from gpusim.serving.feed import NEVER, Feed
from gpusim.serving.request import Request
from gpusim.serving.router import RoundRobin
from gpusim.serving.source import NOT_SENT, Source
from gpusim.workload.shapes import RequestShape


class Served:
    """Requests that are over some ticks after they came; stands for router and engine."""

    def __init__(self, clock, arrivals_s, *, service=0, concurrency=None, refuse=lambda _: None, shapes=None):
        self.clock, self.service = clock, service
        self.log, self.drained, self.inside, self.most_inside, self.refused = [], [], 0, 0, []
        self.engines, self._refuse, self.reasons = [self], refuse, {}
        plain = (RequestShape(index, arrival_s, 5, 2) for index, arrival_s in enumerate(arrivals_s))
        self.source = Source(
            clock,
            plain if shapes is None else iter(shapes),
            self,
            concurrency=concurrency,
            may_follow=shapes is not None,
            on_drained=lambda: self.drained.append(clock.now),
        )
        clock.env.process(self.serve())

    def choose(self, _index):
        return self

    def connect(self, refill, *, is_open):
        self.feed = Feed(self.clock, refill=refill, refuse=self._refuse, is_open=is_open)

    def refuse_arrived(self, now):
        for request in self.feed.take_refused(now):
            self.refused.append((self.clock.now, request.index))
            self.reasons[request.index] = request.rejected_because
            request.status = "rejected"
            self.source.over(request)

    def serve(self):
        """Take each request when it comes."""
        while True:
            self.feed.arrived = self.clock.event()
            tick = self.feed.next_tick()
            if tick < NEVER:
                yield self.clock.timeout(max(0, tick - self.clock.now), priority=ARRIVAL) | self.feed.arrived
            else:
                yield self.feed.arrived
            self.refuse_arrived(self.clock.now)
            while self.feed.has_arrived(self.clock.now):
                self.submit(self.feed.requests[0])
                self.feed.take(1)

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
    """An engine that rejects all ends the run, once, open loop or closed, in the tick in which they come."""
    clock = Clock()
    arrivals_s = [0.0 if concurrency is None else None] * 5
    served = Served(clock, arrivals_s, concurrency=concurrency, refuse=lambda _: "too long")
    clock.run()
    assert served.refused == [(0, index) for index in range(5)]
    assert not served.log
    assert served.drained == [0]


def test_a_client_that_is_refused_sends_the_next_in_the_same_tick():
    """Every other request is refused: one client has the others served back to back, and loses no time on those."""
    clock = Clock()
    refuse = lambda request: "odd" if request.index % 2 else None
    served = Served(clock, [None] * 6, service=100, concurrency=1, refuse=refuse)
    clock.run()
    assert served.log == [(0, 0), (100, 2), (200, 4)]
    assert served.refused == [(100, 1), (200, 3), (300, 5)]
    assert served.drained == [300]


def test_refused_requests_of_an_open_loop_are_over_when_they_come():
    """Not before: known ahead, they are taken at their tick, and the workload lasts until then."""
    clock = Clock()
    served = Served(clock, [1e-9, 2e-9, 3e-9], refuse=lambda request: "odd" if request.index % 2 == 0 else None)
    clock.run()
    assert served.refused == [(1000, 0), (3000, 2)]
    assert served.log == [(2000, 1)]
    assert served.drained == [3000]


@given(
    arrivals_s=st.lists(st.floats(0, 1e-6), min_size=1, max_size=20).map(sorted),
    asked=st.lists(st.integers(0, 22), max_size=4),
    refused=st.sets(st.integers(0, 20)),
)
def test_an_open_loop_is_known_ahead(arrivals_s, asked, refused):
    """Before anything has come a feed has as many requests as were asked for, in order, without those it refuses."""
    served = Served(Clock(), arrivals_s, refuse=lambda request: "no" if request.index in refused else None)
    feed, able = served.feed, [index for index in range(len(arrivals_s)) if index not in refused]
    for number in asked:
        feed.reach(number)
        assert len(feed.requests) >= min(number, len(able))
        assert [request.index for request in feed.requests] == able[: len(feed.requests)]
        assert feed.ticks == [ticks(arrivals_s[request.index]) for request in feed.requests]
    for tick in (0, *(ticks(arrival_s) for arrival_s in arrivals_s)):
        feed.reach_tick(tick)
        there = [index for index in able if ticks(arrivals_s[index]) <= tick]
        assert [request.index for request in feed.requests][: len(there) + 1] == able[: len(there) + 1]
    assert not served.drained


def test_an_engine_that_asks_for_more_has_those_of_its_neighbours_wait_in_theirs():
    """One source fills the feeds of several engines, in turn, whoever asks."""
    clock = Clock()
    engines = [Served(clock, []) for _ in range(2)]
    shapes = (RequestShape(index, index * 1e-9, 5, 2) for index in range(7))
    Source(clock, shapes, RoundRobin(engines), concurrency=None, on_drained=lambda: None)
    engines[0].feed.reach(3)
    assert [[request.index for request in engine.feed.requests] for engine in engines] == [[0, 2, 4], [1, 3]]


def test_nothing_to_submit_is_over_at_once():
    """A workload without requests drains at tick 0."""
    clock = Clock()
    served = Served(clock, [])
    assert served.drained == []
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


def conversation(first, arrival_s, thinks_s):
    """Return a session of requests numbered from *first* on, each think time another turn."""
    turns = [RequestShape(first, arrival_s, 5, 2)]
    for think_s in thinks_s:
        turns.append(RequestShape(turns[-1].index + 1, None, 5, 2, after=turns[-1].index, think_s=think_s))
    return turns


SESSIONS = st.lists(
    st.tuples(st.floats(0, 1e-6), st.lists(st.floats(0, 1e-6), max_size=4)), min_size=1, max_size=8
).map(lambda sessions: sorted(sessions, key=lambda session: session[0]))


def conversations(sessions):
    """Return the requests of sessions stated as (start, think times)."""
    shapes = []
    for arrival_s, thinks_s in sessions:
        shapes += conversation(len(shapes), arrival_s, thinks_s)
    return shapes


@given(sessions=SESSIONS, service=st.integers(0, 10**6))
def test_turns_are_sent_when_the_one_before_is_over(sessions, service):
    """A turn comes a think time after the end of the one before it, whatever else is going on."""
    clock, expected, first = Clock(), [], 0
    served = Served(clock, [], service=service, shapes=conversations(sessions))
    for arrival_s, thinks_s in sessions:
        now = ticks(arrival_s)
        expected.append((now, first))
        for turn, think_s in enumerate(thinks_s, 1):
            now += service + ticks(think_s)
            expected.append((now, first + turn))
        first += 1 + len(thinks_s)
    clock.run()
    assert sorted(served.log) == sorted(expected)
    assert served.drained == [max(expected)[0] + service]
    assert served.source.num_submitted == first


@given(sessions=SESSIONS, service=st.integers(1, 1000), clients=st.integers(1, 4))
def test_clients_hold_one_session_after_another(sessions, service, clients):
    """In a closed loop the next session begins when one is over, so never more are under way than clients."""
    clock = Clock()
    shapes = [replace(shape, arrival_s=None) for shape in conversations(sessions)]
    served = Served(clock, [], service=service, shapes=shapes, concurrency=clients)
    clock.run()
    assert served.most_inside <= clients
    assert sorted(index for _, index in served.log) == [shape.index for shape in shapes]
    if clients == 1:
        assert [index for _, index in served.log] == [shape.index for shape in shapes]
        assert served.drained == [len(shapes) * service + sum(ticks(shape.think_s) for shape in shapes)]


@pytest.mark.parametrize("concurrency", [None, 1])
def test_a_rejected_turn_takes_the_rest_of_its_session_with_it(concurrency):
    """Its followers are over in the tick in which it is refused, with a reason of their own; the next session goes on."""
    clock = Clock()
    shapes = conversation(0, 1e-9, [1e-9, 5.0, 5.0]) + conversation(4, 2e-9, [0.0])
    if concurrency:
        shapes = [replace(shape, arrival_s=None) for shape in shapes]
    served = Served(
        clock, [], service=100, shapes=shapes, concurrency=concurrency,
        refuse=lambda request: "too long" if request.index == 1 else None,
    )  # fmt: skip
    clock.run()
    start = 0 if concurrency else 1000
    assert served.refused == [(start + 1100, index) for index in (1, 2, 3)]
    assert served.reasons == {1: "too long", 2: NOT_SENT, 3: NOT_SENT}
    next_start = start + 1100 if concurrency else 2000
    assert served.log == [(start, 0), (next_start, 4), (next_start + 100, 5)]
    assert len(served.drained) == 1


def test_thousands_of_turns_after_a_rejected_one_are_dropped():
    """However long the session."""
    clock = Clock()
    served = Served(clock, [], shapes=conversation(0, 0.0, [0.0] * 5000), refuse=lambda _: "no")
    clock.run()
    assert len(served.refused) == 5001
    assert served.drained == [0]


def test_unannounced_requests_move_nothing_until_the_feed_is_looked_at():
    """What is planned counts positions in the feed; who comes meanwhile is sorted in afterwards, by arrival and number."""
    clock = Clock()
    feed = Feed(clock, refill=lambda: False, refuse=lambda _: None, is_open=False)
    for index, arrival in ((0, 10), (2, 20), (5, 30)):
        feed.put(Request(index, arrival, 5, 2))
    for index, arrival in ((7, 20), (1, 20)):
        feed.put_now(Request(index, arrival, 5, 2))
    assert [request.index for request in feed.requests] == [0, 2, 5]
    assert [feed.is_too_early(request, 25) for request in feed.requests] == [False, True, True]
    feed.take(1)
    assert [request.index for request in feed.arrived_by(25)] == [1, 2, 7]
    assert feed.ticks == [20, 20, 20, 30]
    feed.put(Request(3, 20, 5, 2))
    assert [request.index for request in feed.requests] == [1, 2, 3, 7, 5]

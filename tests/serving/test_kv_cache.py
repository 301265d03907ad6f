"""The paged KV cache, against one that is written the slow way."""

from collections import deque

from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from builders import build_request
from gpusim.serving.kv_cache import FreeBlocks, KvCache


class SlowCache:
    """One list of free blocks, one list a request; everything block by block."""

    def __init__(self, num_blocks, block_size):
        self.free = deque(range(num_blocks))
        self.block_size = block_size
        self.tables = {}

    def reserve(self, index, num_tokens):
        table = self.tables.setdefault(index, [])
        missing = -(-num_tokens // self.block_size) - len(table)
        if missing > len(self.free):
            return False
        table += [self.free.popleft() for _ in range(missing)]
        return True

    def decode(self, computed, steps):
        """Reserve for one more token of each request, step after step; return how many steps there is room for."""
        for step in range(steps):
            needy = [i for i, n in computed.items() if n + step + 1 > len(self.tables[i]) * self.block_size]
            if len(needy) > len(self.free):
                return step
            for index in needy:
                self.tables[index].append(self.free.popleft())
        return steps

    def release(self, index):
        self.free.extend(reversed(self.tables.pop(index, [])))


class Cache(RuleBasedStateMachine):
    """Random reservations, decode runs that are cut, and releases."""

    @initialize(num_blocks=st.integers(1, 40), block_size=st.integers(1, 32))
    def start(self, num_blocks, block_size):
        self.kv, self.slow = KvCache(num_blocks, block_size), SlowCache(num_blocks, block_size)
        self.requests, self.number, self.peak = {}, 0, 0

    @rule(num_tokens=st.integers(1, 200))
    def admit(self, num_tokens):
        """Reserving is all or nothing: a request that does not fit holds no block."""
        request = build_request(self.number, prompt=num_tokens, output=10**6, generated=1)
        self.number += 1
        fits = self.kv.reserve(request, num_tokens)
        assert fits == self.slow.reserve(request.index, num_tokens)
        event("admitted" if fits else "refused")
        if fits:
            request.computed = num_tokens
            self.requests[request.index] = request
        else:
            assert not request.blocks
            self.slow.tables.pop(request.index)

    @precondition(lambda self: self.requests)
    @rule(steps=st.integers(1, 40), done=st.integers(1, 40))
    def decode(self, steps, done):
        """A run of steps takes blocks as its steps would one by one; what a cut run did not need goes back."""
        batch = list(self.requests.values())
        room = self.kv.steps_until_shortage(batch, steps)
        done = min(done, room)
        taken = self.kv.extend(batch, room)
        self.kv.trim(batch, taken, done)
        self.kv.note_peak()
        computed = {request.index: request.computed for request in batch}
        event(f"shortage: {room < steps}, cut: {done < room}")
        assert self.slow.decode(computed, done) == done
        if room < steps:
            rest = {index: number + done for index, number in computed.items()}
            copy = SlowCache(0, self.slow.block_size)
            copy.free, copy.tables = deque(self.slow.free), {i: list(t) for i, t in self.slow.tables.items()}
            assert copy.decode(rest, steps - done) == room - done
        for request in batch:
            request.computed += done

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def release(self, data):
        """All blocks of a request go back, the last one first."""
        request = self.requests.pop(data.draw(st.sampled_from(sorted(self.requests))))
        self.kv.release(request)
        self.slow.release(request.index)
        assert not request.blocks

    @invariant()
    def blocks_are_where_they_should_be(self):
        """Free + used = all, no block belongs to two, and every table is that of the slow cache."""
        held = [block for request in self.requests.values() for block in request.blocks]
        assert len(set(held)) == len(held) == self.kv.used
        assert self.kv.free.count + self.kv.used == self.kv.num_blocks
        self.peak = max(self.peak, len(held))
        assert self.kv.peak_used == self.peak
        assert {i: list(r.blocks) for i, r in self.requests.items()} == {i: t for i, t in self.slow.tables.items() if t}
        assert self.kv.free.count == len(self.slow.free)


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(computed=st.lists(st.integers(1, 60), min_size=1, max_size=6), steps=st.integers(1, 50), data=st.data())
def test_a_cut_run_leaves_no_trace(computed, steps, data):
    """Extending by n steps and trimming to m is extending by m: tables, and the order of all blocks taken later."""
    done = data.draw(st.integers(1, steps))
    tables = []
    for asked in (steps, done):
        kv = KvCache(num_blocks=500, block_size=7)
        requests = [build_request(i, computed=n, generated=1) for i, n in enumerate(computed)]
        for request in requests:
            assert kv.reserve(request, request.computed)
        kv.trim(requests, kv.extend(requests, asked), done)
        tables.append(([list(request.blocks) for request in requests], kv.free.take(kv.free.count).tolist()))
    assert tables[0] == tables[1]


def test_blocks_are_taken_in_the_order_of_steps_then_requests():
    """Of two requests the one whose block is full first takes first; in the same step the first in the batch does."""
    kv = KvCache(num_blocks=10, block_size=4)
    early, late = build_request(computed=3, generated=1), build_request(computed=2, generated=1)
    assert kv.reserve(late, 2)
    assert kv.reserve(early, 3)
    kv.extend([late, early], 6)
    assert (list(late.blocks), list(early.blocks)) == ([0, 3], [1, 2, 4])


def test_a_refused_reservation_changes_nothing():
    """A request that holds one block and asks for more than there are keeps its one; the free ones stay in order."""
    kv = KvCache(num_blocks=3, block_size=2)
    request = build_request()
    assert kv.reserve(request, 2)
    assert not kv.reserve(request, 9)
    assert list(request.blocks) == [0]
    assert kv.free.take(2).tolist() == [1, 2]


def test_a_large_pool_costs_nothing():
    """Blocks are numbered when they are taken: a pool of 10¹² is as quick as one of ten."""
    free = FreeBlocks(10**12)
    free.release(free.take(3).tolist()[::-1])
    assert free.take(2).tolist() == [3, 4]
    assert free.count == 10**12 - 2


@given(st.lists(st.integers(0, 700), max_size=12))
def test_the_queue_grows_and_goes_round(counts):
    """Through any sequence of takes and releases of many blocks the free ones stay a first-in, first-out queue."""
    free, slow = FreeBlocks(1000), deque(range(1000))
    for count in counts:
        taken = free.take(count).tolist()
        assert taken == [slow.popleft() for _ in range(count)]
        free.release(taken[::-1])
        slow.extend(taken[::-1])
    assert free.take(1000).tolist() == list(slow)

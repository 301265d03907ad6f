"""Rosters: the sums they keep, against every request asked by itself."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from loads import KINDS, Load, loads

ANY = st.sampled_from(KINDS)
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=9)


class Driven:
    """A roster that a scheduler leads, in runs that end early; it knows of each request what it has in the cache."""

    def __init__(self, load, kind):
        load = load.fit(kind)
        self.scheduler = load.scheduler(kind)
        self.roster = load.roster(self.scheduler)
        self.coming, self.load = deque(load.requests()), load
        self.cached, self.decoding = {}, set()

    def decide(self):
        """Decide the next batch; return it."""
        roster = self.roster
        while self.coming and (roster.is_idle or self.coming[0].arrival <= roster.step):
            roster.join(self.coming.popleft())
        batch = self.scheduler.next_batch(roster)
        for request, cached in batch.preempted:
            assert cached == self.cached.pop(request)
            has_token = request.generated or cached >= request.prompt_tokens
            if has_token and cached >= request.target:
                request.generated = cached - request.prompt_tokens + (request not in roster.swapped)
            self.decoding.discard(request)
        self.decoding.update(batch.begun)
        self.cached.update(batch.swapped_in)
        self.cached.update(dict.fromkeys(batch.admitted, 0))
        return batch

    def advance(self, batch, steps):
        """Let *steps* steps pass, request by request."""
        if batch.num_decodes:
            assert batch.num_decodes == len(self.decoding)
            for request in self.decoding:
                self.cached[request] += steps
        for request, computed, tokens in batch.chunks:
            assert computed == self.cached[request]
            self.cached[request] += tokens
        finished = self.roster.advance(batch, steps)
        self.roster.gone.clear()
        assert set(finished) == {r for r, cached in self.cached.items() if cached == r.most_cached_tokens}
        for request in finished:
            del self.cached[request]
            self.decoding.discard(request)

    def blocks(self, num_tokens):
        return -(-num_tokens // self.load.block_size)

    def blocks_needed(self, steps):
        """Count the blocks that decodes need for *steps* steps, one request after the other."""
        if self.roster.reserve.is_complete:
            return 0
        cached = [self.cached[request] for request in self.decoding]
        return sum(self.blocks(tokens + steps) - self.blocks(tokens) for tokens in cached)

    def check(self):
        """Hold every sum to that over the requests."""
        roster, cached = self.roster, self.cached
        held = {r: self.blocks(max(n, roster.reserve.tokens(r))) for r, n in cached.items()}
        assert set(roster.running) == set(cached)
        assert roster.free_blocks == self.load.num_blocks - sum(held.values())
        assert roster.free_host_blocks == self.load.host_blocks - sum(map(self.blocks, roster.swapped.values()))
        assert roster.decodes.number == len(roster.decodes.ends) == len(self.decoding)
        assert roster.decodes.context == sum(cached[request] + 1 for request in self.decoding)
        assert roster.decodes.longest == max((cached[request] + 1 for request in self.decoding), default=0)
        assert sum(roster.decodes.crossings) == len(self.decoding)
        assert {request: roster.cached(request) for request in roster.running} == cached
        assert {last for last, *_ in roster.decodes.ends} == {
            roster.decodes.round + r.most_cached_tokens - cached[r] - 1 for r in self.decoding
        }
        for request in self.decoding:
            takes = self.blocks(cached[request] + 1) > self.blocks(cached[request])
            assert roster.needs_block(request) == (takes and not roster.reserve.is_complete)


def drive(load, kind, lengths, look):
    """Play *load*, in runs of at most the *lengths* in turn; have *look* look at each batch."""
    driven, number = Driven(load, kind), 0
    while driven.coming or not driven.roster.is_idle:
        batch = driven.decide()
        driven.check()
        look(driven, batch)
        driven.advance(batch, min(batch.steps, lengths[number % len(lengths)]))
        driven.check()
        number += 1


@settings(max_examples=150)
@given(load=loads() | loads(spare=40), kind=ANY, lengths=LENGTHS)
def test_sums_are_those_of_the_requests(load, kind, lengths):
    """Blocks, contexts, ends and crossings stay those of every single request, through every batch of any length."""
    drive(load, kind, lengths, lambda *_: None)


@settings(max_examples=100)
@given(load=loads(spare=40), kind=ANY, lengths=LENGTHS, blocks=st.integers(0, 30), steps=st.integers(1, 30))
def test_blocks_needed_are_those_of_the_requests(load, kind, lengths, blocks, steps):
    """For any number of steps, whole rounds of blocks or not, and so is the step at which a number of them runs out."""

    def look(driven, _):
        roster = driven.roster
        assert [roster.decodes.blocks_needed(n) for n in range(25)] == [driven.blocks_needed(n) for n in range(25)]
        enough = [n for n in range(steps + 1) if driven.blocks_needed(n) <= blocks]
        assert roster.decodes.steps_until_shortage(steps, blocks) == max(enough)

    drive(load, kind, lengths, look)


def traced(load, kind, lengths, vain):
    """Play *load*, with up to *vain* batches on a copy before each; return all batches by the requests' numbers."""
    driven, number, trace = Driven(load, kind), 0, []
    while driven.coming or not driven.roster.is_idle:
        before, copy = driven.roster.copy(), driven.roster.copy()
        for _ in range(vain):
            batch = None if copy.is_idle else driven.scheduler.next_batch(copy)
            if batch is None or batch.preempted or batch.swapped_in:
                break
            copy.advance(batch, batch.steps)
        assert driven.roster == before
        driven.check()
        batch = driven.decide()
        chunks = [(request.index, computed, tokens) for request, computed, tokens in batch.chunks]
        trace.append((batch.num_decodes, batch.decode_context, chunks, [r.index for r, _ in batch.preempted]))
        driven.advance(batch, min(batch.steps, lengths[number % len(lengths)]))
        number += 1
    return trace


@settings(max_examples=150)
@given(load=loads() | loads(spare=40), kind=ANY, lengths=LENGTHS, vain=st.integers(1, 6))
def test_what_is_played_on_a_copy_changes_nothing(load, kind, lengths, vain):
    """Plans that are given up leave the roster as it was, its requests' tokens too, and change no batch to come."""
    assert traced(load, kind, lengths, vain) == traced(load, kind, lengths, 0)


def test_a_request_that_is_admitted_again_begins_anew():
    """Preempted while it decodes, it goes before all who wait, gives back its blocks, and computes what it has again."""
    driven = Driven(Load([(0, 4, 9), (0, 4, 9), (0, 4, 9)], 2, 16, 5, 4), "continuous")
    first, second, third = driven.coming
    while not driven.roster.step or second in driven.roster.running:
        batch = driven.decide()
        driven.advance(batch, 1)
    assert [request for request, _ in batch.preempted] == [second]
    assert list(driven.roster.waiting) == [second, third]
    assert driven.roster.running == [first]
    assert second.target == 4 + second.generated > 4
    driven.check()

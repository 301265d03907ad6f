"""vLLM's v1 scheduler and block pool as slow as they can be written: every token spelled out, every block an object."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from loads import Load
from planned import Planned, Step

Token = Hashable


@dataclass(eq=False)
class Block:
    """A block of the pool."""

    number: int
    users: int = 0
    content: tuple[Token, ...] | None = None
    """All tokens up to its end, once it is full."""


@dataclass(eq=False)
class Sequence:
    """A request with all the tokens it will ever have."""

    index: int
    arrival: int
    tokens: list[Token]
    prompt: int
    known: int
    """Tokens it has: prompt and generated."""
    computed: int = 0
    first_hit: int | None = None
    hit: int = 0
    """Of all admissions together."""
    blocks: list[Block] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Tell whether it has all its tokens."""
        return self.known == len(self.tokens)


class Pool:
    """Blocks in a queue of free ones, those with content known by it."""

    def __init__(self, num_blocks: int) -> None:
        self.free = [Block(number) for number in range(num_blocks)]
        self.known: dict[tuple[Token, ...], list[Block]] = {}

    def find(self, tokens: list[Token], size: int) -> list[Block]:
        """Return the blocks of the longest known beginning of *tokens*."""
        found = []
        for end in range(size, len(tokens) + 1, size):
            copies = self.known.get(tuple(tokens[:end]))
            if not copies:
                break
            found.append(copies[0])
        return found

    def touch(self, blocks: list[Block]) -> None:
        """Use known blocks."""
        for block in blocks:
            if not block.users:
                self.free.remove(block)
            block.users += 1

    def take(self) -> Block:
        """Take the first free block; what it held is forgotten."""
        block = self.free.pop(0)
        if block.content is not None:
            self.known[block.content].remove(block)
            block.content = None
        block.users = 1
        return block

    def release(self, blocks: list[Block]) -> None:
        """Give blocks back, the last first."""
        for block in reversed(blocks):
            block.users -= 1
            if not block.users:
                self.free.append(block)


class SlowEngine:
    """Decides step by step what a load computes."""

    def __init__(self, load: Load, *, ticks: int = 1) -> None:
        self.load, self.size = load, load.block_size
        self.pool = Pool(load.num_blocks)
        self.coming = [_sequence(load, index, ticks) for index in range(len(load.arrivals))]
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.seats = load.max_num_seqs
        self.over: list[Sequence] = []
        self.leaving: list[Sequence] = []

    def step(self, now: int) -> tuple[list[tuple[int, int, int]], list[int]]:
        """Return the chunks (index, computed before, tokens) of the step that starts at *now*, and who is preempted."""
        done = self._decide(now)
        self._let_go()
        return done

    def step_in_flight(self, fixed: int, now: int) -> tuple[list[tuple[int, int, int]], list[int]]:
        """Return the same of a step that starts at *now* and is decided at *fixed*, when the step before it starts.

        Those who are over in the step before hold seats and blocks as it is decided. If nothing can be decided without
        preempting, or nothing at all, the decision waits for the end of the step before.
        """
        self._arrive(fixed)
        if not self.running and not self.waiting:
            self._let_go()
            return self._decide(now)
        before, self.leaving = self.leaving, []
        if before and self._is_short():
            self._release(before)
            return self._decide(now)
        self.seats = self.load.max_num_seqs - len(before)
        done = self._decide(fixed)
        self.seats = self.load.max_num_seqs
        self._release(before)
        return done if done[0] else self._decide(now)

    def _is_short(self) -> bool:
        budget, need = self.load.budget, 0
        for sequence in self.running:
            tokens = min(sequence.known - sequence.computed, budget)
            budget -= tokens
            need += self._need(sequence, tokens)
        return need > len(self.pool.free)

    def _let_go(self) -> None:
        self._release(self.leaving)
        self.leaving = []

    def _release(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            self.pool.release(sequence.blocks)

    def _arrive(self, now: int) -> None:
        while self.coming and self.coming[0].arrival <= now:
            self.waiting.append(self.coming.pop(0))

    def _decide(self, now: int) -> tuple[list[tuple[int, int, int]], list[int]]:
        self._arrive(now)
        budget, batch, preempted, position = self.load.budget, [], [], 0
        while position < len(self.running):
            sequence = self.running[position]
            tokens = min(sequence.known - sequence.computed, budget)
            if tokens and not self._extend(sequence, tokens, preempted):
                break
            if tokens:
                batch.append((sequence, tokens))
                budget -= tokens
            position += 1
        if not preempted:
            self._admit(batch, budget)
        done = [(sequence.index, sequence.computed, tokens) for sequence, tokens in batch]
        self._compute(batch)
        return done, [sequence.index for sequence in preempted]

    def _extend(self, sequence: Sequence, tokens: int, preempted: list[Sequence]) -> bool:
        need = self._need(sequence, tokens)
        while need > len(self.pool.free):
            victim = self.running.pop()
            self.pool.release(victim.blocks)
            victim.blocks, victim.computed = [], 0
            self.waiting.insert(0, victim)
            preempted.append(victim)
            if victim is sequence:
                return False
        self._fill(sequence, tokens)
        return True

    def _admit(self, batch: list[tuple[Sequence, int]], budget: int) -> None:
        while self.waiting and budget and len(self.running) < self.seats:
            sequence = self.waiting[0]
            known = self.pool.find(sequence.tokens[: sequence.known - 1], self.size)
            computed = len(known) * self.size
            tokens = min(sequence.known - computed, budget)
            need = -(-(computed + tokens) // self.size) - len(known)
            if need + sum(not block.users for block in known) > len(self.pool.free):
                break
            self.running.append(self.waiting.pop(0))
            self.pool.touch(known)
            sequence.blocks, sequence.computed = list(known), computed
            sequence.hit += computed
            sequence.first_hit = computed if sequence.first_hit is None else sequence.first_hit
            self._fill(sequence, tokens)
            batch.append((sequence, tokens))
            budget -= tokens

    def _need(self, sequence: Sequence, tokens: int) -> int:
        return -(-(sequence.computed + tokens) // self.size) - len(sequence.blocks)

    def _fill(self, sequence: Sequence, tokens: int) -> None:
        sequence.blocks += [self.pool.take() for _ in range(self._need(sequence, tokens))]
        for place, block in enumerate(sequence.blocks):
            end = (place + 1) * self.size
            if block.content is None and end <= sequence.computed + tokens:
                block.content = tuple(sequence.tokens[:end])
                self.pool.known.setdefault(block.content, []).append(block)

    def _compute(self, batch: list[tuple[Sequence, int]]) -> None:
        for sequence, tokens in batch:
            sequence.computed += tokens
            sequence.known += sequence.computed == sequence.known
        for sequence in [sequence for sequence in self.running if sequence.is_over]:
            self.running.remove(sequence)
            self.over.append(sequence)
            self.leaving.append(sequence)


def _sequence(load: Load, index: int, ticks: int) -> Sequence:
    arrival, prompt, output = load.arrivals[index]
    content = () if load.contents is None else load.contents[index]
    tokens: list[Token] = [(key, place) for key, count in content for place in range(count)]
    own = [("own", index, place) for place in range(prompt + output - len(tokens))]
    return Sequence(index, arrival * ticks, [*tokens, *own], prompt, prompt)


CUTS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6)
"""Steps that plans have at most, and steps after which they are cut."""


def computed_in(step: Step) -> list[tuple[int, int, int]]:
    """Return the (index, computed before, tokens) of a step, in order of admission."""
    rows = [(r.order, r.index, step.tokens[r] - 1, 1) for r in step.decoding]
    rows += [(r.order, r.index, computed, tokens) for r, computed, tokens in step.chunks]
    return [row[1:] for row in sorted(rows)]


def check_blocks(engine: Planned, slow: SlowEngine) -> None:
    """Block tables, free blocks in their order, and what is known of them are those of the slow engine."""
    running = {request.index: request for request in engine.roster.running}
    for sequence in slow.running:
        request = running.pop(sequence.index)
        held = engine.kv.blocks_of(request, engine.roster.cached(request)).tolist()
        assert held == [block.number for block in sequence.blocks]
    assert not running
    kv = engine.kv
    assert engine.roster.free_blocks == kv.num_free == len(slow.pool.free)
    assert kv.used == len({block.number for sequence in slow.running for block in sequence.blocks})

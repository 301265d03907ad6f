"""Schedulers, against the rules they follow written step by step."""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from builders import build_request
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers import ContinuousScheduler, StaticScheduler, make_scheduler
from gpusim.spec.serving import ServingSpec
from loads import Load, loads


@dataclass
class Step:
    """What one step computed: tokens by request in order, and who was preempted for it."""

    tokens: list[tuple[int, int]]
    preempted: list[int] = field(default_factory=list)


def decide(scheduler, roster):
    """Return the next batch; stands for functions that also check it."""
    return scheduler.next_batch(roster)


def play(load, scheduler, *, longest=10**9, decide=decide):
    """Play *load* as an engine does, in runs of at most *longest* steps that arrivals may cut; return every step."""
    roster = Roster(load.block_size, load.num_blocks, scheduler.reserves_all)
    coming, steps, tokens_of = deque(load.requests()), [], {}
    while coming or not roster.is_idle:
        arrive(coming, roster.waiting, len(steps))
        if roster.is_idle:
            steps.append(Step([]))
            continue
        batch = decide(scheduler, roster)
        for request, _ in batch.preempted:
            request.generated = tokens_of.get(request.index, 0)
        decodes = [request for *_, request in sorted(roster.ends, key=lambda end: end[1])]
        assert len(decodes) == batch.num_decodes
        assert decodes or batch.chunks
        done = play_run(decodes, batch, longest, coming, roster, steps, may_cut=scheduler.admits(roster))
        for request in (*decodes, *(r for r, computed, new in batch.chunks if computed + new == r.target)):
            tokens_of[request.index] = tokens_of.get(request.index, 0) + done
        for request in roster.advance(batch, done):
            assert tokens_of[request.index] == request.output_tokens
            assert request not in roster.running
    assert roster.free_blocks == load.num_blocks
    return steps


def play_run(decodes, batch, longest, coming, roster, steps, *, may_cut):
    """Note the steps of a run, up to the one in which a request arrives that could join; return how many."""
    asked = min(batch.steps, longest)
    for step in range(asked):
        tokens = [(request.index, 1) for request in decodes] + [(r.index, new) for r, _, new in batch.chunks]
        steps.append(Step(tokens, [] if step else [request.index for request, _ in batch.preempted]))
        if step < asked - 1 and arrive(coming, roster.waiting, len(steps)) and may_cut:
            return step + 1
    return asked


def arrive(coming, waiting, step):
    """Move who has arrived to *waiting*; tell whether anybody has."""
    some = False
    while coming and coming[0].arrival <= step:
        waiting.append(coming.popleft())
        some = True
    return some


class Rules:
    """The two schedulers written down step by step, blocks being mere numbers."""

    def __init__(self, load):
        self.load = load
        self.free = load.num_blocks
        self.waiting, self.running = [], []
        self.have, self.computed, self.held = {}, {}, {}
        """Tokens a request has, those of them computed, blocks it holds; by request."""

    def continuous(self):
        """Play vLLM v1: running first, in order; preempt from the end; then who waits, if nobody was preempted."""
        step, budget = Step([]), self.load.budget
        for request in list(self.running):
            if request in step.preempted or budget == 0:
                continue
            tokens = min(self.have[request] - self.computed[request], budget)
            while request not in step.preempted and not self.reserve(request, self.computed[request] + tokens):
                self.preempt(step)
            if request not in step.preempted:
                step.tokens.append((request, tokens))
                budget -= tokens
        while not step.preempted and self.waiting and budget and len(self.running) < self.load.max_num_seqs:
            request = self.waiting[0]
            tokens = min(self.have[request], budget)
            if not self.reserve(request, tokens):
                break
            self.running.append(self.waiting.pop(0))
            step.tokens.append((request, tokens))
            budget -= tokens
        return step

    def static(self):
        """Take a batch when there is none, with all its blocks; compute all prompts, then all outputs."""
        if not self.running:
            while self.waiting and len(self.running) < self.load.max_num_seqs:
                _, prompt, output = self.load.arrivals[self.waiting[0]]
                if not self.reserve(self.waiting[0], prompt + output - 1):
                    break
                self.running.append(self.waiting.pop(0))
        step, budget = Step([]), self.load.budget
        for request in self.running:
            prompt = self.load.arrivals[request][1]
            tokens = min(max(0, prompt - self.computed[request]), budget)
            budget -= tokens
            step.tokens += [(request, tokens)] if tokens else []
        step.tokens = step.tokens or [(request, 1) for request in self.running]
        return step

    def reserve(self, request, num_tokens):
        needed = max(0, -(-num_tokens // self.load.block_size) - self.held.get(request, 0))
        if needed > self.free:
            return False
        self.free -= needed
        self.held[request] = self.held.get(request, 0) + needed
        return True

    def preempt(self, step):
        victim = self.running.pop()
        self.free += self.held.pop(victim)
        self.computed[victim] = 0
        self.waiting.insert(0, victim)
        step.preempted.append(victim)

    def play(self, rule):
        """Play all steps by *rule*, each decided anew."""
        steps, coming = [], list(enumerate(self.load.arrivals))
        while coming or self.waiting or self.running:
            while coming and coming[0][1][0] <= len(steps):
                request, (_, prompt, _) = coming.pop(0)
                self.waiting.append(request)
                self.have[request], self.computed[request] = prompt, 0
            steps.append(rule())
            for request, tokens in steps[-1].tokens:
                self.compute(request, tokens)
        return steps

    def compute(self, request, tokens):
        _, prompt, output = self.load.arrivals[request]
        self.computed[request] += tokens
        if self.computed[request] == self.have[request]:
            self.have[request] += 1
        if self.have[request] == prompt + output:
            self.running.remove(request)
            self.free += self.held.pop(request)


def describe(steps):
    """Say who computed how much in each step; decodes and chunks of a step are in one order here."""
    return [(sorted(step.tokens), step.preempted) for step in steps]


@settings(max_examples=300)
@given(load=loads())
def test_continuous_is_the_rule_of_vllm(load):
    """Batches, chunks and preemptions of every step are those of the rule applied anew in each step."""
    rules = Rules(load)
    expected = rules.play(rules.continuous)
    event(f"preemption: {any(step.preempted for step in expected)}")
    assert describe(play(load, ContinuousScheduler(load.spec()))) == describe(expected)


@settings(max_examples=150)
@given(load=loads())
def test_static_takes_one_batch_after_another(load):
    """Nobody joins a batch, all its prompts come before any of its outputs' steps, none is preempted."""
    rules = Rules(load)
    expected = rules.play(rules.static)
    assert describe(play(load, StaticScheduler(load.spec("static")))) == describe(expected)


@settings(max_examples=150)
@given(load=loads(), kind=st.sampled_from(KINDS), longest=st.integers(1, 4))
def test_a_batch_holds_for_as_long_as_it_says(load, kind, longest):
    """Deciding anew after each step, or after at most a few, gives the same steps as letting every batch run out."""
    whole = play(load, make_scheduler(load.spec(kind)))
    assert play(load, make_scheduler(load.spec(kind)), longest=longest) == whole


@settings(max_examples=150)
@given(load=loads(), kind=st.sampled_from(KINDS))
def test_limits_hold_in_every_step(load, kind):
    """No step has more sequences than seats or more tokens than its budget; every token is computed."""
    steps = play(load, make_scheduler(load.spec(kind)))
    assert all(len(step.tokens) <= load.max_num_seqs for step in steps)
    if kind == "continuous":
        assert all(sum(tokens for _, tokens in step.tokens) <= load.budget for step in steps)
    computed = sum(tokens for step in steps for _, tokens in step.tokens)
    needed = sum(prompt + output - 1 for _, prompt, output in load.arrivals)
    assert computed >= needed
    if not any(step.preempted for step in steps):
        assert computed == needed


def test_a_long_prompt_is_prefilled_in_chunks_beside_decodes():
    """With a budget of 8 a decoding request takes one token of each step and a prompt of 20 the other seven."""
    load = Load([(0, 4, 9), (1, 20, 1)], max_num_seqs=2, budget=8, num_blocks=99, block_size=4)
    steps = play(load, ContinuousScheduler(load.spec()))
    assert [step.tokens for step in steps[:4]] == [[(0, 4)], [(0, 1), (1, 7)], [(0, 1), (1, 7)], [(0, 1), (1, 6)]]


def test_who_came_last_is_preempted_and_comes_back_first():
    """When the second of two runs out of blocks it gives way, and recomputes before a third that waits."""
    load = Load([(0, 4, 6), (0, 4, 6), (1, 1, 1)], max_num_seqs=2, budget=64, num_blocks=5, block_size=2)
    steps = play(load, ContinuousScheduler(load.spec()))
    (step,) = [number for number, step in enumerate(steps) if step.preempted]
    assert steps[step].preempted == [1]
    assert steps[step].tokens == [(0, 1)]
    later = [request for step in steps[step:] for request, _ in step.tokens]
    assert later.index(1) < later.index(2)


def test_a_preempted_request_returns_as_soon_as_there_is_room():
    """The step after a preemption admits again: the victim's first chunk fits into the blocks it gave back."""
    load = Load([(0, 1, 12), (0, 9, 4)], max_num_seqs=2, budget=3, num_blocks=6, block_size=2)
    steps = play(load, ContinuousScheduler(load.spec()))
    first = next(number for number, step in enumerate(steps) if step.preempted)
    assert (1, 2) in steps[first + 1].tokens


@pytest.mark.parametrize(("running", "waiting"), [(0, 0), (1, 0), (2, 0), (1, 1)])
def test_only_a_free_seat_lets_an_arrival_in(running, waiting):
    """A continuous engine of two seats looks at arrivals while one is free and nobody waits, a static one while empty."""
    roster = Roster(4, 9)
    roster.running = [build_request(i) for i in range(running)]
    roster.waiting.extend(build_request(9 + i) for i in range(waiting))
    assert ContinuousScheduler(ServingSpec(max_num_seqs=2)).admits(roster) == (running < 2 and not waiting)
    assert StaticScheduler(ServingSpec(max_num_seqs=2)).admits(roster) == (running == 0)


def described(batch):
    """What the engine does with a batch."""
    events = (batch.chunks, batch.admitted, batch.begun, batch.preempted)
    return batch.num_decodes, batch.decode_context, [list(each) for each in events]


@settings(max_examples=150)
@given(load=loads(), kind=st.sampled_from(KINDS))
def test_only_a_hungry_batch_misses_somebody(load, kind):
    """Unless it says it is hungry, a batch is the same with one more small request at the end of those who wait."""

    def decide_twice(scheduler, roster):
        other = roster.copy()
        other.waiting.append(build_request(99, prompt=1, output=1))
        fuller = scheduler.next_batch(other)
        batch = scheduler.next_batch(roster)
        assert batch.is_hungry or described(fuller) == described(batch)
        assert batch.is_hungry <= (not roster.waiting)
        return batch

    play(load, make_scheduler(load.spec(kind)), decide=decide_twice)


@settings(max_examples=150)
@given(load=loads(), kind=st.sampled_from(KINDS), extra=st.integers(0, 60))
def test_who_does_not_run_short_takes_no_more(load, kind, extra):
    """A batch that was not called short needs at most those blocks in its first step, and preempts nobody."""
    load.num_blocks += extra
    sure = []

    def decide_and_count(scheduler, roster):
        is_short, free = scheduler.runs_short(roster, roster.free_blocks), roster.free_blocks
        batch = scheduler.next_batch(roster)
        sure.append(not is_short)
        if not is_short:
            copy = roster.copy()
            finished = copy.advance(batch, 1)
            released = sum(copy.blocks_for(request.most_cached_tokens) for request in finished)
            assert not batch.preempted
            assert copy.free_blocks - released >= 0
            assert free >= roster.free_blocks
        return batch

    play(load, make_scheduler(load.spec(kind)), decide=decide_and_count)
    event(f"sure: {any(sure)}")

"""Schedulers, against the rules they follow written step by step."""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from builders import build_request
from gpusim.serving.kv_cache import KvCache
from gpusim.serving.scheduler import ContinuousScheduler, StaticScheduler, make_scheduler
from gpusim.spec.serving import ServingSpec


@dataclass
class Load:
    """Requests with the step before which each arrives, for an engine of some size."""

    arrivals: list[tuple[int, int, int]]
    """(step, prompt, output), in order of arrival."""
    max_num_seqs: int
    budget: int
    num_blocks: int
    block_size: int

    def spec(self, kind="continuous"):
        return ServingSpec(scheduler=kind, max_num_seqs=self.max_num_seqs, max_num_batched_tokens=self.budget)


@st.composite
def loads(draw):
    """Loads in which every request fits alone, but seldom all of them together."""
    max_num_seqs, block_size = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    lengths = st.tuples(st.integers(0, 25), st.integers(1, 20), st.integers(1, 12))
    arrivals = sorted(draw(st.lists(lengths, min_size=1, max_size=9)), key=lambda row: row[0])
    most = max(-(-(prompt + output - 1) // block_size) for _, prompt, output in arrivals)
    return Load(
        arrivals,
        max_num_seqs,
        budget=draw(st.integers(max_num_seqs, 30)),
        num_blocks=most + draw(st.integers(0, 6)),
        block_size=block_size,
    )


@dataclass
class Step:
    """What one step computed: tokens by request in order, and who was preempted for it."""

    tokens: list[tuple[int, int]]
    preempted: list[int] = field(default_factory=list)


def play(load, scheduler, *, longest=10**9):
    """Play *load* as an engine does, in runs of at most *longest* steps that arrivals may cut; return every step."""
    kv = KvCache(load.num_blocks, load.block_size)
    coming = deque(build_request(i, prompt=p, output=o, arrival=step) for i, (step, p, o) in enumerate(load.arrivals))
    waiting, running, steps = deque(), [], []
    while coming or waiting or running:
        arrive(coming, waiting, len(steps))
        if not waiting and not running:
            steps.append(Step([]))
            continue
        batch = scheduler.next_batch(waiting, running, kv)
        assert not batch.is_empty
        asked = min(batch.steps, longest)
        taken = kv.extend(batch.decodes, asked)
        done = play_run(batch, asked, coming, waiting, steps, may_cut=scheduler.admits(running))
        kv.trim(batch.decodes, taken, done)
        commit(batch, done, running, kv)
    assert kv.used == 0
    return steps


def play_run(batch, asked, coming, waiting, steps, *, may_cut):
    """Note the steps of a run, up to the one in which a request arrives that could join; return how many."""
    for step in range(asked):
        tokens = [(request.index, 1) for request in batch.decodes] + [(r.index, n) for r, n in batch.chunks]
        steps.append(Step(tokens, [] if step else [request.index for request in batch.preempted]))
        if step < asked - 1 and arrive(coming, waiting, len(steps)) and may_cut:
            return step + 1
    return asked


def arrive(coming, waiting, step):
    """Move who has arrived to *waiting*; tell whether anybody has."""
    some = False
    while coming and coming[0].arrival <= step:
        waiting.append(coming.popleft())
        some = True
    return some


def commit(batch, done, running, kv):
    completed = [request for request, tokens in batch.chunks if tokens == request.missing]
    for request, tokens in batch.chunks:
        request.computed += tokens
    for request in batch.decodes:
        request.computed += done
    for request in (*batch.decodes, *completed):
        request.got_tokens(0, done)
        if request.generated == request.output_tokens:
            running.remove(request)
            kv.release(request)


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
@given(load=loads(), kind=st.sampled_from(["static", "continuous"]), longest=st.integers(1, 4))
def test_a_batch_holds_for_as_long_as_it_says(load, kind, longest):
    """Deciding anew after each step, or after at most a few, gives the same steps as letting every batch run out."""
    whole = play(load, make_scheduler(load.spec(kind)))
    assert play(load, make_scheduler(load.spec(kind)), longest=longest) == whole


@settings(max_examples=150)
@given(load=loads(), kind=st.sampled_from(["static", "continuous"]))
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


@pytest.mark.parametrize(("running", "admits"), [(0, True), (1, True), (2, False)])
def test_only_a_free_seat_lets_an_arrival_in(running, admits):
    """A continuous engine of two seats looks at arrivals while one is free, a static one only while it is empty."""
    requests = [build_request(i) for i in range(running)]
    assert ContinuousScheduler(ServingSpec(max_num_seqs=2)).admits(requests) == admits
    assert StaticScheduler(ServingSpec(max_num_seqs=2)).admits(requests) == (running == 0)

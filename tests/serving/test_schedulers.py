"""Schedulers, against the rules they follow written step by step."""

from collections import deque

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from builders import build_request
from gpusim.serving.decodes import Decodes
from gpusim.serving.roster import Roster
from loads import KINDS, Load, loads
from rules import Rules, Step


def decide(scheduler, roster):
    """Return the next batch; stands for functions that also check it."""
    return scheduler.next_batch(roster)


def play(load, kind, *, longest=10**9, decide=decide):
    """Play *load* as an engine does, in runs of at most *longest* steps that arrivals may cut; return every step."""
    scheduler = load.scheduler(kind)
    roster, coming, steps, tokens_of = load.roster(scheduler), deque(load.requests()), [], {}
    while coming or not roster.is_idle:
        arrive(coming, roster, len(steps))
        if roster.is_idle:
            steps.append(Step([]))
            continue
        batch = decide(scheduler, roster)
        for request, _ in batch.preempted:
            request.generated = tokens_of.get(request.index, 0)
            # Of one that decodes, the last token is not among those that go to host memory.
            request.generated -= request.generated > 0 and roster.swapped.get(request) == request.target - 1
        decodes = [request for *_, request in sorted(roster.decodes.ends, key=lambda end: end[1])]
        assert batch.num_decodes in (0, len(decodes))
        decodes = decodes[: batch.num_decodes]
        assert decodes or batch.chunks
        done = play_run(decodes, batch, longest, coming, roster, steps, may_cut=scheduler.admits(roster))
        for request in (*decodes, *(r for r, computed, new in batch.chunks if computed + new == r.target)):
            tokens_of[request.index] = tokens_of.get(request.index, 0) + done
        for request in roster.advance(batch, done):
            assert tokens_of[request.index] == request.output_tokens + request.overtime
            assert request not in roster.running
    assert roster.free_blocks == load.num_blocks
    return steps


def play_run(decodes, batch, longest, coming, roster, steps, *, may_cut):
    """Note the steps of a run, up to the one in which a request arrives that could join; return how many."""
    asked = min(batch.steps, longest)
    for step in range(asked):
        tokens = [(request.index, 1) for request in decodes] + [(r.index, new) for r, _, new in batch.chunks]
        steps.append(Step(tokens, [] if step else [request.index for request, _ in batch.preempted], batch.num_idle))
        if step < asked - 1 and arrive(coming, roster, len(steps)) and may_cut:
            return step + 1
    return asked


def arrive(coming, roster, step):
    """Have those wait who have arrived; tell whether anybody has."""
    some = False
    while coming and coming[0].arrival <= step:
        roster.join(coming.popleft())
        some = True
    return some


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_that_of_the_rule(kind):
    """Tokens, preemptions and idle decodes of every step are those of the rule applied anew in each step."""

    @settings(max_examples=100)
    @given(load=loads())
    def check(load):
        load = load.fit(kind)
        expected = Rules(load, kind).play()
        event(f"preemption: {any(step.preempted for step in expected)}")
        assert [step.described() for step in play(load, kind)] == [step.described() for step in expected]

    check()


@settings(max_examples=200)
@given(load=loads(), kind=st.sampled_from(KINDS), longest=st.integers(1, 4))
def test_a_batch_holds_for_as_long_as_it_says(load, kind, longest):
    """Deciding anew after each step, or after at most a few, gives the same steps as letting every batch run out."""
    load = load.fit(kind)
    assert play(load, kind, longest=longest) == play(load, kind)


@settings(max_examples=150)
@given(load=loads(), kind=st.sampled_from(KINDS))
def test_limits_hold_in_every_step(load, kind):
    """No step has more sequences than seats or more tokens than its budget; every token is computed."""
    load = load.fit(kind)
    steps = play(load, kind)
    assert all(len(step.tokens) <= load.max_num_seqs for step in steps)
    if not kind.startswith(("static", "orca")):
        assert all(sum(tokens for _, tokens in step.tokens) <= load.budget for step in steps)
    computed = sum(tokens for step in steps for _, tokens in step.tokens)
    needed = sum(prompt + output - 1 for _, prompt, output in load.arrivals)
    assert computed >= needed
    if (load.host_blocks == 99 or not any(step.preempted for step in steps)) and "padded" not in kind:
        assert computed == needed


def test_a_long_prompt_is_prefilled_in_chunks_beside_decodes():
    """With a budget of 8 a decoding request takes one token of each step and a prompt of 20 the other seven."""
    load = Load([(0, 4, 9), (1, 20, 1)], max_num_seqs=2, budget=8, num_blocks=99, block_size=4)
    steps = play(load, "continuous")
    assert [step.tokens for step in steps[:4]] == [[(0, 4)], [(0, 1), (1, 7)], [(0, 1), (1, 7)], [(0, 1), (1, 6)]]


def test_who_came_last_is_preempted_and_comes_back_first():
    """When the second of two runs out of blocks it gives way, and recomputes before a third that waits."""
    load = Load([(0, 4, 6), (0, 4, 6), (1, 1, 1)], max_num_seqs=2, budget=64, num_blocks=5, block_size=2)
    steps = play(load, "continuous")
    (step,) = [number for number, step in enumerate(steps) if step.preempted]
    assert steps[step].preempted == [1]
    assert steps[step].tokens == [(0, 1)]
    later = [request for step in steps[step:] for request, _ in step.tokens]
    assert later.index(1) < later.index(2)


def test_a_preempted_request_returns_as_soon_as_there_is_room():
    """The step after a preemption admits again: the victim's first chunk fits into the blocks it gave back."""
    load = Load([(0, 1, 12), (0, 9, 4)], max_num_seqs=2, budget=3, num_blocks=6, block_size=2)
    steps = play(load, "continuous")
    first = next(number for number, step in enumerate(steps) if step.preempted)
    assert (1, 2) in steps[first + 1].tokens


@pytest.mark.parametrize("waiting", [0, 1])
@pytest.mark.parametrize("running", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_only_a_free_seat_lets_an_arrival_in(kind, running, waiting):
    """An engine of two seats looks at arrivals while one is free and nobody is before them, a static one while empty."""
    scheduler = Load([(0, 1, 1)], max_num_seqs=2, budget=2, num_blocks=9, block_size=4).scheduler(kind)
    roster = Roster(Decodes(4), 9)
    roster.running = [build_request(i) for i in range(running)]
    roster.waiting.extend(build_request(9 + i) for i in range(waiting))
    is_open = running < 2 and not (waiting and kind.endswith("fcfs"))
    assert scheduler.admits(roster) == (running == 0 if kind.startswith("static") else is_open)


def described(batch):
    """What the engine does with a batch."""
    events = (batch.chunks, batch.admitted, batch.begun, batch.preempted, batch.swapped_in)
    return batch.num_decodes, batch.decode_context, [list(each) for each in events]


@settings(max_examples=300)
@given(load=loads(), kind=st.sampled_from(KINDS))
def test_only_a_hungry_or_picky_batch_misses_somebody(load, kind):
    """Any other is the same with one more small request, first among those who wait by the policy, if it has one."""

    def decide_twice(scheduler, roster):
        other = roster.copy()
        other.join(build_request(99, prompt=1, output=1))
        fuller = scheduler.next_batch(other)
        waiting = len(roster.waiting)
        batch = scheduler.next_batch(roster)
        assert batch.is_hungry or batch.is_picky or described(fuller) == described(batch)
        assert batch.is_hungry <= (waiting == len(batch.admitted))
        assert batch.is_picky <= (roster.key is not None)
        return batch

    play(load.fit(kind), kind, decide=decide_twice)


@settings(max_examples=300)
@given(load=loads(), kind=st.sampled_from(KINDS))
def test_only_a_picky_batch_depends_on_who_is_left_waiting(load, kind):
    """Any other is the same without the request that came last, unless that one is admitted."""

    def decide_twice(scheduler, roster):
        other, last = roster.copy(), max(roster.waiting, key=lambda r: (r.arrival, r.index), default=None)
        emptier = None
        if last is not None and (roster.running or len(roster.waiting) > 1):
            other.waiting.remove(last)
            emptier = scheduler.next_batch(other)
        batch = scheduler.next_batch(roster)
        if emptier is not None and last not in batch.admitted and not batch.preempted:
            assert batch.is_picky or described(emptier) == described(batch)
        return batch

    play(load.fit(kind), kind, decide=decide_twice)


@settings(max_examples=200)
@given(load=loads(), kind=st.sampled_from(KINDS), extra=st.integers(0, 60))
def test_who_does_not_run_short_takes_no_more(load, kind, extra):
    """A batch that was not called short needs at most those blocks in its first step, and preempts nobody."""
    load = load.fit(kind)
    load.num_blocks += extra
    sure = []

    def decide_and_count(scheduler, roster):
        is_short, free = scheduler.runs_short(roster, roster.free_blocks), roster.free_blocks
        batch = scheduler.next_batch(roster)
        sure.append(not is_short)
        if not is_short:
            copy = roster.copy()
            finished = copy.advance(batch, 1)
            released = sum(copy.blocks_held(request, request.most_cached_tokens) for request in finished)
            assert not batch.preempted
            assert copy.free_blocks - released >= 0
            assert free >= roster.free_blocks
        return batch

    play(load, kind, decide=decide_and_count)
    event(f"sure: {any(sure)}")


@settings(max_examples=200)
@given(load=loads(), kind=st.sampled_from(KINDS), blocks=st.integers(0, 9), extra=st.integers(0, 60))
def test_what_is_said_to_suffice_does(load, kind, blocks, extra):
    """A batch that was not called short of fewer *blocks* than are free takes no more than those, whatever is released."""
    load = load.fit(kind)
    load.num_blocks += extra

    def decide_and_count(scheduler, roster):
        free = roster.free_blocks
        is_short = scheduler.runs_short(roster, min(blocks, free))
        batch = scheduler.next_batch(roster)
        if not is_short:
            copy = roster.copy()
            finished = copy.advance(batch, 1)
            released = sum(copy.blocks_held(request, request.most_cached_tokens) for request in finished)
            assert free + released - copy.free_blocks <= min(blocks, free)
        return batch

    play(load, kind, decide=decide_and_count)


def test_v0_stalls_decodes_for_prompts():
    """Whoever arrives is computed at once and whole, and meanwhile nobody decodes."""
    load = Load([(0, 4, 5), (1, 3, 3), (2, 5, 1)], max_num_seqs=3, budget=9, num_blocks=99, block_size=4)
    steps = [step.tokens for step in play(load, "vllm-v0")]
    assert steps[:4] == [[(0, 4)], [(1, 3)], [(2, 5)], [(0, 1), (1, 1)]]
    mixed = [step.tokens for step in play(load, "continuous")]
    assert mixed[:3] == [[(0, 4)], [(0, 1), (1, 3)], [(0, 1), (1, 1), (2, 5)]]


def test_orca_admits_as_many_as_could_be_longest():
    """Of 12 blocks of 4 each request gets those of 16 tokens, though it never has more than 6: three fit, and none at continuous."""
    load = Load([(0, 4, 3)] * 5 + [(0, 15, 1)], max_num_seqs=9, budget=99, num_blocks=12, block_size=4)
    assert [len(step.tokens) for step in play(load, "orca")[:3]] == [3, 3, 3]
    assert len(play(load, "continuous")[0].tokens) == 6


def test_sarathi_waits_for_the_blocks_of_a_whole_prompt():
    """Where vLLM v1 begins a prompt of 20 with what fits, Sarathi-Serve lets it wait until all of its blocks are free."""
    load = Load([(0, 8, 6), (1, 20, 1)], max_num_seqs=2, budget=6, num_blocks=6, block_size=4)
    first = {
        kind: next(i for i, s in enumerate(play(load, kind)) if dict(s.tokens).get(1))
        for kind in ("continuous", "sarathi")
    }
    assert first["continuous"] < first["sarathi"] == len(play(load, "sarathi")) - 4


def test_sarathi_needs_a_free_block_for_every_decode():
    """With all blocks taken vLLM v1 fills the last ones; Sarathi-Serve has the one who came last give way."""
    load = Load([(0, 3, 2), (0, 3, 2)], max_num_seqs=2, budget=9, num_blocks=2, block_size=4)
    assert not any(step.preempted for step in play(load, "continuous"))
    assert [step.preempted for step in play(load, "sarathi")][:2] == [[], [1]]


def test_a_padded_batch_goes_on_until_its_last_token():
    """Prompts of 2 and 5 are computed as 5, and outputs of 4 and 2 as 4; two of the tokens are for nobody."""
    load = Load([(0, 2, 4), (0, 5, 2)], max_num_seqs=2, budget=99, num_blocks=9, block_size=4)
    steps = play(load, "static padded")
    assert [sum(tokens for _, tokens in step.tokens) for step in steps] == [10, 2, 2, 2]
    assert [step.num_idle for step in steps] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("policy", "order"), [("fcfs", [0, 1, 2, 3]), ("sjf", [2, 1, 3, 0]), ("priority", [3, 0, 1, 2])]
)
def test_the_policy_says_who_goes_first(policy, order):
    """By arrival; by prompt and output together; by priority, which falls from the first to the last but for the fourth."""
    scheduler = Load([(0, 1, 1)], max_num_seqs=1, budget=99, num_blocks=99, block_size=4).scheduler(
        f"continuous {policy}"
    )
    roster = Roster(Decodes.of(4, scheduler.reserve), 99, scheduler.reserve, scheduler.key)
    for number, (prompt, output, priority) in enumerate([(9, 9, 1), (2, 9, 2), (4, 4, 2), (3, 9, 0)]):
        roster.join(build_request(number, prompt=prompt, output=output, priority=priority, arrival=number))
    assert [request.index for request in roster.waiting] == order


@pytest.mark.parametrize("kind", ["continuous priority", "sarathi priority", "continuous sjf", "vllm-v0 sjf"])
def test_who_goes_last_by_the_policy_is_preempted(kind):
    """The first of three, less urgent and longer than the others, gives way to them, wherever it stands among those who run."""
    load = Load([(0, 5, 20), (1, 1, 14), (1, 1, 15)], max_num_seqs=3, budget=30, num_blocks=14, block_size=2).fit(kind)
    assert [request.priority for request in load.requests()] == [2, 2, 0]
    steps = play(load, kind)
    assert next(step.preempted for step in steps if step.preempted)[0] == (0 if "sjf" in kind else 1)


@pytest.mark.parametrize("kind", ["vllm-v0", "sarathi"])
def test_what_could_never_go_on_is_refused(kind):
    """A request that would fill all ten blocks could not decode: one must be free."""
    scheduler = Load([(0, 1, 1)], max_num_seqs=1, budget=99, num_blocks=10, block_size=4).scheduler(kind)
    assert scheduler.refuse(build_request(prompt=36, output=1)) is None
    assert "more KV blocks than the 9 with which" in scheduler.refuse(build_request(prompt=36, output=2))


def test_v0_refuses_what_it_could_not_compute_in_one_step():
    """Preempted at its last token, a request computes all it has in one step: no more than 12 tokens here."""
    scheduler = Load([(0, 1, 1)], max_num_seqs=1, budget=12, num_blocks=10, block_size=4).scheduler("vllm-v0")
    assert scheduler.refuse(build_request(prompt=8, output=5)) is None
    assert "max_num_batched_tokens = 12" in scheduler.refuse(build_request(prompt=9, output=5))


def test_what_a_victim_was_given_goes_to_others():
    """The first of three takes the last block, and gives it and its own back to the two that go before it."""
    load = Load([(0, 3, 9), (1, 4, 3), (1, 4, 4)], max_num_seqs=3, budget=30, num_blocks=4, block_size=4)
    step = play(load, "continuous sjf")[2]
    assert (step.tokens, step.preempted) == ([(1, 1), (2, 1)], [0])

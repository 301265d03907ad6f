"""Steps in flight: a batch is fixed when the step before it starts."""

from itertools import cycle

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusim.serving.planner import Horizon
from loads import Load, loads, shared_loads
from planned import TICKS, Planned, steps_of
from vllm_blocks import CUTS, SlowEngine, check_blocks, computed_in

durations = st.lists(st.integers(1, 3 * TICKS), min_size=1, max_size=12)


def run_to_end(load, horizon, steps_take, *, expected=TICKS, ticks=TICKS, kind="continuous"):
    """Play *load* where step *i* takes ``steps_take[i % n]`` ticks."""
    engine = Planned(
        load,
        kind,
        duration=lambda i: steps_take[i % len(steps_take)],
        expected=expected,
        ticks=ticks,
        lags=True,
    )
    while not engine.is_over:
        engine.play_on(horizon)
    return engine


@settings(max_examples=200)
@given(
    load=loads() | loads(spare=60, longest=40) | shared_loads(spare=20),
    steps_take=durations,
    expected=st.sampled_from([1, 100, TICKS, 10**5]),
    ticks=st.sampled_from([1, 333, TICKS]),
    kind=st.sampled_from(["continuous", "continuous sjf", "continuous priority"]),
)
def test_far_plans_are_near_ones(load, steps_take, expected, ticks, kind):
    """Plans of many steps on any guess give the tokens, waits and runs of decisions made one by one in their time."""
    far = run_to_end(load, Horizon(64), steps_take, expected=expected, ticks=ticks, kind=kind)
    near = run_to_end(load, Horizon(1, decisions=1), steps_take, ticks=ticks, kind=kind)
    assert far.tokens() == near.tokens()
    assert far.log.runs.tobytes() == near.log.runs.tobytes()
    assert far.kv.peak_used == near.kv.peak_used
    assert [r.scheduled for r in far.requests] == [r.scheduled for r in near.requests]


@settings(max_examples=200)
@given(
    load=loads() | shared_loads() | shared_loads(spare=40, longest=30),
    steps_take=durations,
    ticks=st.sampled_from([1, 333, TICKS]),
    cuts=CUTS,
)
def test_every_step_is_that_of_a_slow_engine(load, steps_take, ticks, cuts):
    """Who takes part, who is preempted, what is shared and where it lies, decided step by step a step ahead."""
    load.contents, load.watermark_blocks = load.contents or [()] * len(load.arrivals), 0
    duration = lambda i: steps_take[i % len(steps_take)]
    engine = Planned(load, "continuous", duration=duration, ticks=ticks, lags=True)
    slow, preempted = SlowEngine(load, ticks=ticks), False
    for horizon, cut in cycle(cuts):
        if engine.is_over:
            break
        fixed = engine.roster.fixed
        outlook, planned = engine.plan(Horizon(horizon))
        engine.place(outlook)
        starts, _ = engine.times(outlook)
        right = engine.planner.confirmed(outlook, starts, engine.roster.fixed)
        steps = min(cut, right)
        for number, step in enumerate(steps_of(outlook)[:steps]):
            now = int(starts[number])
            done, lost = slow.step_in_flight(fixed, now)
            assert computed_in(step) == done
            assert lost == ([request.index for request, _ in outlook.preempted] if not number else [])
            preempted |= bool(lost)
            fixed = now
        engine.keep(outlook, planned, steps)
        if not slow.leaving:
            check_blocks(engine, slow)
    event(f"preempted: {preempted}")
    assert sorted(sequence.index for sequence in slow.over) == list(range(len(load.arrivals)))


@pytest.mark.parametrize("horizon", [Horizon(1, decisions=1), Horizon(64)])
@pytest.mark.parametrize(("arrival", "first"), [(0, 0), (1, 2), (999, 2), (1000, 2), (1001, 3), (2000, 3), (2001, 4)])
def test_an_arrival_in_step_k_runs_in_step_k_plus_2(horizon, arrival, first):
    """Steps take 1000 ticks and one request decodes; who comes in the tick in which step k starts runs in step k + 1."""
    load = Load([(0, 4, 9), (arrival, 4, 2)], 4, 99, 99, 4)
    engine = run_to_end(load, horizon, [1000], ticks=1)
    assert engine.requests[1].scheduled == 1000 * first


@pytest.mark.parametrize("horizon", [Horizon(1, decisions=1), Horizon(64)])
def test_a_seat_is_free_a_step_late(horizon):
    """The first is over with step 2; the one that waits for its seat runs in step 4 beside another, alone in step 3."""
    beside = Load([(0, 4, 3), (0, 4, 9), (1, 4, 2)], 2, 99, 99, 4)
    alone = Load([(0, 4, 3), (1, 4, 2)], 1, 99, 99, 4)
    assert run_to_end(beside, horizon, [1000], ticks=1).requests[2].scheduled == 4000
    assert run_to_end(alone, horizon, [1000], ticks=1).requests[1].scheduled == 3000

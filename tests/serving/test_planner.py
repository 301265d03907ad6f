"""Planning ahead: guesses cost time and change nothing."""

from itertools import cycle

import numpy as np
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from builders import build_simulation, scenario_data, token_ticks
from gpusim.errors import SimulationError
from gpusim.serving import planner as planner_module
from gpusim.serving.forecast import Forecast
from gpusim.serving.planner import Horizon
from gpusim.simulation import Simulation
from loads import KINDS, Load, loads, shared_loads
from planned import TICKS, Expected, Planned
from scenarios import ARRIVALS, MACHINES, plan_of, scenarios

ANY = st.sampled_from(KINDS)
ONE_STEP = Horizon(1, decisions=1)


def numbers(seed):
    """Yield random ticks from far too few to far too many, negative ones too, as long as a step is not over before it began."""
    generator = np.random.default_rng(seed)
    while True:
        yield float(generator.choice([0.0, 1.0, generator.exponential(1e8), 1e12]))


NONSENSE = {
    "nothing": lambda _honest, _: lambda *_shape: 0.0,
    "ten times": lambda honest, _: lambda *shape: 10.0 * honest(*shape),
    "a tenth": lambda honest, _: lambda *shape: 0.1 * honest(*shape),
    "random": lambda _honest, random: lambda *_shape: next(random),
    "a day": lambda _honest, _: lambda *_shape: 8.64e16,
}


def played(data, detail, nonsense=None):
    """Run a scenario, with guesses that are *nonsense*; return ticks of tokens, or None if no request can run."""
    simulation = Simulation(plan_of(data, detail))
    with pytest.MonkeyPatch.context() as patch:
        if nonsense is not None:
            step, decodes, random = Forecast.step, Forecast.decodes, numbers(3)
            guess = NONSENSE[nonsense]

            def wrong_decodes(self, num_decodes, context, steps, left):
                honest = lambda: decodes(self, num_decodes, context, 1, None)[1]
                return Expected(guess(honest, random)()).decodes(num_decodes, context, steps, left)

            patch.setattr(Forecast, "step", lambda self, *shape: guess(lambda *s: step(self, *s), random)(*shape))
            patch.setattr(Forecast, "decodes", wrong_decodes)
        try:
            simulation.run()
        except SimulationError:
            return None
    return token_ticks(simulation)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("nonsense", NONSENSE)
def test_wrong_guesses_change_no_token(machine, nonsense):
    """Whatever a forecast says, every token comes in the tick in which it comes kernel by kernel."""

    @settings(max_examples=8)
    @given(data=st.sampled_from(ARRIVALS).flatmap(lambda kind: scenarios(kind, machine)))
    def check(data):
        assert played(data, "step", nonsense) == played(data, "kernel")

    check()


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("scheduler", ["continuous", "vllm-v0", "sarathi", "orca", "static"])
def test_wrong_guesses_change_no_token_of_a_busy_engine(nonsense, scheduler):
    """Neither with eight seats that come and go, outputs of up to 60 tokens, and too few blocks for all of them."""
    ruled = {
        "scheduler": scheduler,
        "max_model_len": 101,
        "scheduling_policy": "fcfs" if scheduler == "continuous" else "sjf",
    }
    budget = 100 if scheduler == "vllm-v0" else 24
    data = scenario_data(
        serving={**ruled, "max_num_seqs": 8, "max_num_batched_tokens": budget, "block_size": 4},
        serving__num_gpu_blocks_override=60,
        workload__arrivals={"kind": "poisson", "rate": "2000 /s"},
        workload__prompt_tokens={"kind": "uniform", "low": 1, "high": 40},
        workload__output_tokens={"kind": "uniform", "low": 1, "high": 60},
        workload__num_requests=30,
    )
    assert played(data, "step", nonsense) == played(data, "kernel")


durations = st.lists(st.integers(1, 3 * TICKS), min_size=1, max_size=12)


def run_to_end(load, kind, horizon, steps_take, *, expected=TICKS, ticks=TICKS):
    """Play *load* where step *i* takes ``steps_take[i % n]`` ticks; return the engine and steps planned in vain."""
    engine = Planned(load, kind, duration=lambda i: steps_take[i % len(steps_take)], expected=expected, ticks=ticks)
    vain = 0
    while not engine.is_over:
        vain += engine.play_on(horizon)
    return engine, vain


@settings(max_examples=200)
@given(
    load=loads() | loads(spare=60, longest=40) | shared_loads(spare=20),
    kind=ANY,
    steps_take=durations,
    expected=st.sampled_from([1, 100, TICKS, 10**5]),
    ticks=st.sampled_from([1, 333, TICKS]),
)
def test_what_is_confirmed_is_what_would_have_been_decided(load, kind, steps_take, expected, ticks):
    """Plans of many steps on any guess give the tokens, waits and runs of decisions made one by one in their time."""
    assume(load.contents is None or kind.startswith("continuous"))
    far, vain = run_to_end(load, kind, Horizon(64), steps_take, expected=expected, ticks=ticks)
    near, _ = run_to_end(load, kind, ONE_STEP, steps_take, ticks=ticks)
    event(f"in vain: {vain > 0}")
    assert far.tokens() == near.tokens()
    assert far.log.runs.tobytes() == near.log.runs.tobytes()
    assert far.kv.peak_used == near.kv.peak_used
    assert far.log.total("num_tokens") == sum(len(tokens) for tokens in far.tokens())
    for one, other in zip(far.requests, near.requests, strict=True):
        assert (one.scheduled, one.preempted_ticks, one.num_preemptions) == (
            other.scheduled,
            other.preempted_ticks,
            other.num_preemptions,
        )


@settings(max_examples=100)
@given(load=loads(spare=60, longest=40), steps_take=durations, ticks=st.sampled_from([1, 333, TICKS]))
def test_arrivals_at_the_very_boundary_are_confirmed_to_the_tick(load, steps_take, ticks):
    """A request that comes in the tick in which a step ends, one before or one after it, joins the step it should."""
    alone, _ = run_to_end(load, "continuous", ONE_STEP, steps_take, ticks=ticks)
    boundary = int(alone.log.ends[len(alone.log.ends) // 2])
    tokens = []
    for horizon in (Horizon(64), ONE_STEP):
        engine = Planned(load, "continuous", duration=lambda i: steps_take[i % len(steps_take)], ticks=ticks)
        for late in (-1, 0, 1):
            request = Load([(0, 1, 1)], 1, 1, 1, 1).requests()[0]
            request.arrival, request.index = boundary + late, 100 + late
            engine.requests.append(request)
        engine.requests.sort(key=lambda request: request.arrival)
        engine.feed.requests, engine.feed.ticks = [], []
        for request in engine.requests:
            engine.feed.put(request)
        while not engine.is_over:
            engine.play_on(horizon)
        tokens.append(engine.tokens())
    assert tokens[0] == tokens[1]


def fields_of(thing, *left_out):
    """Return the fields of a dataclass by their names."""
    return {name: getattr(thing, name) for name in thing.__dataclass_fields__ if name not in left_out}


def state_of(roster):
    """Return what a roster holds but who waits, its heap in order."""
    progress = [(r.index, r.order, r.slot, r.prompt_step) for r in roster.running]
    held = fields_of(roster, "waiting", "decodes", "mark") | fields_of(roster.decodes, "ends")
    return held | {
        "ends": sorted(roster.decodes.ends),
        "progress": progress,
        "cached": [roster.cached(r) for r in roster.running],
    }


@settings(max_examples=100)
@given(
    load=loads() | loads(spare=60) | shared_loads(spare=30),
    kind=ANY,
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
)
@example(load=Load([(0, 1, 3)] * 2, 2, 2, 4, 1, contents=[(), ()]), kind="continuous", cuts=[1])
def test_a_replay_is_the_plan(load, kind, cuts):
    """All of a plan passes on the roster it was made on as it was planned; a part of it, as that part planned alone."""
    assume(load.contents is None or kind.startswith("continuous"))
    engine = Planned(load, kind)
    for cut in cycle(cuts):
        if engine.is_over:
            break
        before = engine.roster
        outlook, planned = engine.plan(Horizon(40))
        expected = state_of(planned)
        joined = outlook.num_joined
        if not outlook.preempted:
            whole = engine.planner.replay(before, outlook, outlook.num_steps)
            assert state_of(whole) == expected
            # Those who join behind the last step are not in it.
            assert list(whole.waiting) == [request for request in planned.waiting if request in whole.waiting]
            assert len(planned.waiting) - len(whole.waiting) == joined - outlook.num_joined
            outlook.num_joined = joined
        steps = min(cut, outlook.num_steps)
        if steps < outlook.num_steps:
            replayed = state_of(engine.planner.replay(before, outlook, steps))
            before.rewind()
            short = before.copy()
            engine.planner.look_ahead(short, engine.now, Horizon(steps))
            assert replayed == state_of(short)
        if not outlook.preempted:
            before.rewind()
            outlook, planned = engine.plan(Horizon(40))
        engine.place(outlook)
        engine.keep(outlook, planned, steps)


@pytest.mark.parametrize("expected", [1, TICKS, 10**9])
def test_an_idle_engine_is_woken_within_a_plan(expected):
    """Requests that come long after one another are planned together, and each starts when it comes."""
    load = Load([(1, 4, 3), (50, 4, 2), (51, 4, 1), (90, 4, 2)], 1, 99, 99, 4)
    engine = Planned(load, "continuous", expected=expected, ticks=TICKS)
    outlook, _ = engine.plan(Horizon(64))
    starts, _ = engine.times(outlook)
    assert bool(outlook.wakes) == (expected < 10**9)
    right = engine.planner.confirmed(outlook, starts, 0)
    if expected == TICKS:
        assert (outlook.num_steps, right) == (8, 8)
    while not engine.is_over:
        engine.play_on(Horizon(64))
    assert [request.scheduled for request in engine.requests] == [n * TICKS for n in (1, 50, 52, 90)]


@pytest.mark.parametrize("steps", [1, 3, 64])
@pytest.mark.parametrize("kind", ["continuous", "static"])
def test_a_request_is_scheduled_with_its_first_chunk(kind, steps):
    """Also where a static batch takes it in some steps before, because prompts of others fill the budget."""
    load = Load([(0, 5, 2), (0, 11, 2), (0, 9, 2)], 3, 4, 99, 4)
    engine = Planned(load, kind)
    while not engine.is_over:
        engine.play_on(Horizon(steps))
    # Chunks of 4, of 1 and 3; of 4 and 4 for the second alone, or 3 beside a decode, 4, and 1; then the third's.
    assert [request.scheduled for request in engine.requests] == [0, TICKS, 4 * TICKS]


def test_nobody_joins_a_tick_early_late_in_time():
    """Beyond 2⁵³ ticks, where floats skip some, one that comes a tick later than a step begins is not in it."""
    for late in range(2**53, 2**53 + 4):
        load = Load([(late, 4, 3), (late + 1, 4, 3)], 2, 99, 99, 4)
        engine = Planned(load, "continuous", ticks=1)
        outlook, _ = engine.plan(ONE_STEP)
        assert [request.index for _, request in outlook.admitted] == [0]
        assert engine.now == late


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_more_arrivals_than_are_fetched_at_a_time_are_known(monkeypatch, detail):
    """Of 40 requests that come at once all begin in the first step, though only two are asked for ahead."""
    monkeypatch.setattr(planner_module, "ARRIVALS_AHEAD", 2)
    changes = {"workload__arrivals": {"kind": "at_once"}, "workload__num_requests": 40}
    serving = {"max_num_seqs": 64, "max_num_batched_tokens": 4096}
    simulation = build_simulation(serving=serving, detail=detail, **changes)
    simulation.run()
    assert not simulation.requests.rows["scheduled_ps"].any()


@settings(max_examples=10)
@given(data=st.sampled_from(["constant", "poisson"]).flatmap(lambda kind: scenarios(kind, "single")))
def test_few_arrivals_ahead_are_enough(data):
    """However few requests are fetched ahead, plans ask for more as they need them: no token comes at another tick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner_module, "ARRIVALS_AHEAD", 1)
        assert played(data, "step") == played(data, "kernel")

"""What steps read through windows, against a count request by request and query by query."""

from itertools import cycle

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from builders import build_simulation, token_ticks
from gpusim.serving.in_window import InWindow
from gpusim.serving.kv_cache import Tenures
from gpusim.serving.planner import Horizon
from gpusim.serving.windows import beyond_window, windows_of
from loads import Load, loads
from planned import TICKS, Expected, Planned, steps_of, windows_of_step

NAMES = ("decode_context", "chunk_context", "chunk_pairs")


@settings(max_examples=150)
@given(
    load=loads() | loads(spare=60),
    kind=st.sampled_from(["continuous", "static"]),
    windows=st.lists(st.integers(1, 35), min_size=1, max_size=3, unique=True),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=9),
)
def test_sums_over_requests_are_those_of_a_count(load, kind, windows, cuts):
    """Prefill in chunks, decodes that outgrow a window, preemption, plans that are cut: every step, every window."""
    engine, cut = Planned(load, kind), cycle(cuts)
    while not engine.is_over:
        outlook, planned = engine.plan(Horizon(40))
        engine.place(outlook)
        shapes = windows_of(outlook, outlook.runs(), windows)
        for number, step in enumerate(steps_of(outlook)):
            for window, counted in windows_of_step(step, windows).items():
                for name in NAMES:
                    assert getattr(shapes[window], name)[number] == getattr(counted, name)[0]
        event(f"preempted: {bool(outlook.preempted)}")
        engine.keep(outlook, planned, min(next(cut), outlook.num_steps))


class Follower(Expected):
    """A forecast that notes what it would know of one window at each of its guesses."""

    def __init__(self, window):
        super().__init__(TICKS)
        self.requests, self.seen = InWindow(window), []

    def begin(self, decoding):
        self.requests.restart(decoding)
        self.seen.clear()

    def look_at(self, batch, step):
        self.requests.look_at(batch, step)
        self.seen.append((self.requests.read, self.requests.growth))


@settings(max_examples=80)
@given(
    load=loads(spare=60),
    kind=st.sampled_from(["continuous", "static"]),
    window=st.integers(1, 35),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=9),
)
def test_a_guess_knows_what_its_steps_read(load, kind, window, cuts):
    """While steps are planned, each run's first reads what it is found to read once the plan is made; later ones grow."""
    engine, cut, follower = Planned(load, kind), cycle(cuts), Follower(window)
    engine.planner.forecast = follower
    while not engine.is_over:
        outlook, planned = engine.plan(Horizon(40))
        engine.place(outlook)
        runs = outlook.runs()
        shapes = windows_of(outlook, runs, [window])[window]
        read = (shapes.decode_context + shapes.chunk_context).tolist()
        if not outlook.preempted:
            assert [first for first, _ in follower.seen] == [read[step] for step in runs.first.tolist()]
            for step, steps, (_, growth) in zip(runs.first.tolist(), runs.steps.tolist(), follower.seen, strict=True):
                event(f"grows: {growth > 0}")
                assert steps == 1 or 0 <= read[step + 1] - read[step] <= growth
        engine.keep(outlook, planned, min(next(cut), outlook.num_steps))


def test_full_attention_costs_nothing():
    """A model without windows is not asked for any."""
    outlook, _ = Planned(Load([(0, 5, 5)], 1, 9, 9, 4), "continuous").plan(Horizon(5))
    assert not windows_of(outlook, outlook.runs(), ())


def test_one_request_leaves_out_a_token_more_a_step():
    """From 3 tokens on a window of 5 holds its first two steps; a stretch that ends leaves nothing behind."""
    begun, end = np.array([0]), np.array([6])
    tenures = Tenures(slot=begun, order=begun, cached=np.array([3]), begin=begun, end=end)
    assert beyond_window(tenures, 8, 5).tolist() == [0, 0, 1, 2, 3, 4, 0, 0]


def run_with(window, detail="step", **changes):
    """Run the small scenario with a window in every layer of its model; return tokens and latencies."""
    group = {"count": 2, "mlp": {"intermediate_size": 512}}
    group["attention"] = {"num_heads": 8, "num_kv_heads": 4, "head_dim": 32} | ({"window": window} if window else {})
    model = {"schema": 1, "name": "local", "hidden_size": 256, "vocab_size": 1024, "max_model_len": 2048}
    changes = {"serving__max_model_len": 2048, "detail": detail} | changes
    simulation = build_simulation(model=model | {"layers": [group]}, **changes)
    result = simulation.run()
    return token_ticks(simulation), result


def test_a_window_as_long_as_every_request_changes_nothing():
    """46 tokens are the longest request: a window of 46 gives the ticks of full attention.

    On an H100: FlashAttention 2, which an A100 has, packs no heads where there is a window, whether or not it cuts anything.
    """
    for detail in ("step", "kernel"):
        full = run_with(None, detail, topology="h100-sxm")[0]
        assert run_with(46, detail, topology="h100-sxm")[0] == full


def test_a_narrower_window_is_never_slower_on_a_roofline():
    """Peak rates: the mean gap between tokens grows with the window up to full attention."""
    changes = {
        "efficiency": "ideal",
        "workload__prompt_tokens": {"kind": "fixed", "value": 1000},
        "serving__max_num_batched_tokens": 512,
    }
    gaps = [run_with(window, **changes)[1].itl.mean for window in (1, 30, 300, 900, None)]
    assert gaps == sorted(gaps)
    assert gaps[0] < gaps[-1]

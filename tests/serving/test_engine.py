"""The engine loop: what it asks to be computed, and what it keeps of the answer."""

import numpy as np
import pytest

from builders import build_simulation
from gpusim.core.probe import RecordingProbe
from gpusim.model.lower import Lowering
from gpusim.model.step import StepShapes


class Recorder:
    """A lowering that remembers the shapes it was asked for."""

    def __init__(self, engine):
        self.inner, self.asked, self.model = engine.lowering, [], engine.lowering.model
        engine.lowering = self

    def lower(self, shape, steps, windows):
        self.asked.append((shape, steps))
        return self.inner.lower(shape, steps, windows)


def run_recorded(**changes):
    """Run a scenario; return its engine and what it asked for."""
    simulation = build_simulation(**changes)
    engine = simulation.engines["engine"]
    recorder = Recorder(engine)
    simulation.run()
    return simulation, engine, recorder.asked


def watch_slots(engine):
    """Return a list that gets, for each plan, its requests with the slots they have in it."""
    take, seen = engine.kv.take, []

    def watched(outlook, tenures):
        begun = [request for _, request in outlook.begun]
        prefilling = [request for _, request, *_ in outlook.chunks]
        seen.append({request: request.slot for request in (*outlook.decoding, *begun, *prefilling)})
        take(outlook, tenures)

    engine.kv.take = watched
    return seen


ONE = {"workload__arrivals": {"kind": "at_once"}, "workload__num_requests": 1}


def test_a_prompt_is_asked_for_in_chunks_with_its_context():
    """A prompt of 40 with a budget of 16: chunks of 16, 16, 8 after 0, 16, 32; only the last one samples a token."""
    _, _, asked = run_recorded(**ONE, serving__max_num_batched_tokens=16)
    assert [(shape.chunks, shape.num_sampled) for shape, _ in asked[:3]] == [
        (((16, 16),), 0),
        (((16, 32),), 0),
        (((8, 40),), 1),
    ]


def test_a_decode_reads_its_context_and_itself():
    """The first decode of a prompt of 40 has a context of 41; five go on together, one token more each."""
    _, _, asked = run_recorded(**ONE)
    (shape, steps), *rest = asked[1:]
    assert (shape.num_decodes, shape.decode_context, shape.num_sampled, steps) == (1, 41, 1, 5)
    assert not rest


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_every_running_request_has_a_row_of_its_own(detail):
    """Rows are never shared within a plan, and few; all of them, and all blocks, are free at the end."""
    simulation = build_simulation(
        detail=detail,
        workload__arrivals={"kind": "at_once"},
        workload__output_tokens={"kind": "fixed", "value": 20},
        serving__max_num_seqs=3,
        serving__num_gpu_blocks_override=10,
    )
    engine = simulation.engines["engine"]
    seen = watch_slots(engine)
    simulation.run()
    assert simulation.requests.rows["num_preemptions"].any()
    assert max(map(len, seen)) >= 3
    for slots in seen:
        assert len(set(slots.values())) == len(slots)
        assert min(slots.values()) >= 0
    if detail == "kernel":
        assert set().union(*(slots.values() for slots in seen)) == {0, 1, 2}
    assert sorted(engine.roster.free_slots) == list(range(engine.roster.num_slots))
    assert engine.kv.used == 0
    assert not any(held.any() for held in engine.channels.held_bytes)


SHAPE = ("num_tokens", "num_sampled", "num_sequences", "num_decodes", "decode_context", "chunk_context", "chunk_pairs")


def shapes_played(detail):
    """Run a scenario whose prompts are chunked and whose requests are preempted; return the shape of every step."""
    simulation = build_simulation(
        detail=detail,
        workload__arrivals={"kind": "at_once"},
        workload__output_tokens={"kind": "uniform", "low": 5, "high": 40},
        serving__max_num_batched_tokens=24,
        serving__num_gpu_blocks_override=12,
    )
    engine, played = simulation.engines["engine"], []
    commit = engine._commit.run

    def watched(advance):
        shapes, steps = advance.outlook.shapes(advance.runs), len(advance.played.ends)
        played.extend(zip(*(getattr(shapes, name)[:steps].tolist() for name in SHAPE), strict=True))
        return commit(advance)

    engine._commit.run = watched
    simulation.run()
    assert simulation.requests.rows["num_preemptions"].any()
    return played


def test_step_detail_asks_for_what_kernel_detail_plays():
    """Step by step the shapes that are timed all at once are those of the runs that are decided one by one."""
    assert shapes_played("step") == shapes_played("kernel")


def test_the_shapes_of_a_run_are_those_of_its_program():
    """What step detail would time of a run is what kernel detail has lowered."""
    simulation = build_simulation(serving__max_num_batched_tokens=24)
    engine = simulation.engines["engine"]
    asked, commit, compared = Recorder(engine).asked, engine._commit.run, []

    def watched(advance):
        shape, steps = asked[-1]
        shapes, expected = advance.outlook.shapes(advance.runs), StepShapes.of(shape, steps)
        compared.append(all(np.array_equal(getattr(shapes, name), getattr(expected, name)) for name in SHAPE))
        return commit(advance)

    engine._commit.run = watched
    simulation.run()
    assert len(compared) > 5
    assert all(compared)


def test_a_preempted_request_computes_all_it_had_again():
    """Of two that fill 3 blocks each the first takes the 7th; the second gives way, later recomputes prompt and tokens."""
    simulation, _, asked = run_recorded(
        workload__arrivals={"kind": "at_once"},
        workload__num_requests=2,
        workload__output_tokens={"kind": "fixed", "value": 30},
        serving__max_num_seqs=2,
        serving__max_num_batched_tokens=100,
        serving__num_gpu_blocks_override=7,
    )
    rows = simulation.requests.rows
    assert rows["num_preemptions"][rows["index"] == 1] == [1]
    assert rows["num_preemptions"][rows["index"] == 0] == [0]
    (again,) = [shape.chunks for shape, _ in asked[1:] if shape.chunks]
    assert again == ((49, 49),), "3 blocks hold 48 tokens: 40 of the prompt, 8 of the 9 that were generated"


@pytest.mark.parametrize("detail", ["kernel", "step"])
@pytest.mark.parametrize("scheduler", ["static", "continuous"])
def test_time_lost_to_preemption_is_counted(scheduler, detail):
    """Preempted time lies in the gaps between a request's tokens or before its first; static engines have none."""
    simulation, _, _ = run_recorded(
        detail=detail,
        workload__arrivals={"kind": "at_once"},
        workload__output_tokens={"kind": "fixed", "value": 30},
        serving__scheduler=scheduler,
        serving__num_gpu_blocks_override=8,
    )
    rows = simulation.requests.rows
    lost = rows[rows["num_preemptions"] > 0]
    assert (len(lost) > 0) == (scheduler == "continuous")
    assert (rows["preempted_ps"][rows["num_preemptions"] == 0] == 0).all()
    segments = simulation.requests.segments
    ends = simulation.logs["engine"].ends
    for row in range(len(rows)):
        mine = segments[segments["request"] == row]
        gaps = ends[mine["first_step"][1:]] - ends[mine["last_step"][:-1]]
        first = ends[mine["first_step"][0]] - rows["scheduled_ps"][row]
        assert rows["preempted_ps"][row] <= gaps.sum() + first


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_the_bound_of_an_engine_is_below_its_time(detail):
    """What its steps take at least adds up over runs, and no step was faster."""
    simulation, engine, _ = run_recorded(detail=detail)
    assert 0 < engine.bound_s < simulation.logs["engine"].step_time_ps * 1e-12


def test_lowering_is_asked_once_a_run():
    """A run of unchanged batch is one program of many steps."""
    simulation, engine, asked = run_recorded(**ONE, workload__output_tokens={"kind": "fixed", "value": 70})
    assert [steps for _, steps in asked] == [1, 32, 32, 5]
    assert len(simulation.logs["engine"]) == 70
    assert isinstance(engine.lowering.inner, Lowering)


def test_a_cut_run_gives_back_what_it_did_not_need():
    """With blocks of one token a run cut after k of its 19 decodes holds the prompt's 40 and k blocks, not 59."""
    probe = RecordingProbe()
    simulation = build_simulation(
        probes=[probe],
        workload__num_requests=2,
        workload__output_tokens={"kind": "fixed", "value": 20},
        serving__block_size=1,
    )
    simulation.run()
    prefill, steps, *_ = simulation.logs["engine"].run_lengths.tolist()
    held = [value for _, what, _, value in probe.counters if what == "kv_blocks"]
    assert prefill == 1
    assert 0 < steps < 19
    assert held[:2] == [40, 40 + steps]

"""Whole runs: who joins which batch, cuts that change nothing, engines side by side, runs that are stopped."""

import io
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from builders import build_plan, build_simulation, token_ticks
from gpusim.core.clock import TICKS_PER_S
from gpusim.core.clock import ticks as clock_ticks
from gpusim.core.probe import Probe
from gpusim.errors import SimulationError
from gpusim.plan import plan_document
from gpusim.report.terminal import print_summary
from gpusim.serving import advance as advance_module
from gpusim.serving.planner import Horizon
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from gpusim.workload.stream import requests
from scenarios import ARRIVALS, DEPENDENT, scenarios

TP = pytest.mark.parametrize(
    "machine", [{}, {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2}], ids=["TP 1", "TP 2"]
)


DETAIL = pytest.mark.parametrize("detail", ["kernel", "step"])


def run_trace(folder, rows, **changes):
    """Run requests given as (arrival tick, prompt, output); return the simulation."""
    lines = [f"{tick / TICKS_PER_S!r},{prompt},{output}" for tick, prompt, output in rows]
    (folder / "trace.csv").write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n")
    simulation = build_simulation(workload={"trace": str(folder / "trace.csv")}, **changes)
    simulation.run()
    return simulation


@pytest.fixture
def runs_of_four(monkeypatch):
    """Have at most four steps played together, so that short requests are several runs long."""
    monkeypatch.setattr(advance_module, "ONE_RUN", Horizon(4, decisions=1))
    monkeypatch.setattr(advance_module, "FEWEST_STEPS", 4)
    monkeypatch.setattr(advance_module, "MOST_STEPS", 4)


def scheduled_of(simulation, index):
    """Return the tick at which the first step of request *index* started."""
    rows = simulation.requests.rows
    return int(rows["scheduled_ps"][rows["index"] == index][0])


@DETAIL
@TP
@pytest.mark.parametrize("step", [0, 1, 3, 4, 5], ids=lambda step: f"step {step}")
def test_who_arrives_as_a_step_ends_joins_the_next(tmp_path, runs_of_four, machine, step, detail):
    """At the very tick of a boundary, also in the middle of a run of steps, a request joins the batch fixed there."""
    machine = machine | {"detail": detail}
    ends = run_trace(tmp_path, [(0, 8, 8)], **machine).logs["engine"].ends.tolist()
    for late, expected in [(-1, ends[step]), (0, ends[step]), (1, ends[step + 1])]:
        simulation = run_trace(tmp_path, [(0, 8, 8), (ends[step] + late, 8, 2)], **machine)
        assert scheduled_of(simulation, 1) == expected


@DETAIL
@TP
def test_who_arrives_with_the_last_token_starts_at_once(tmp_path, machine, detail):
    """A request that arrives in the tick in which the engine runs empty, or any later one, does not wait."""
    machine = machine | {"detail": detail}
    last = int(run_trace(tmp_path, [(0, 8, 8)], **machine).logs["engine"].ends[-1])
    for arrival in (last, last + 12_345):
        assert scheduled_of(run_trace(tmp_path, [(0, 8, 8), (arrival, 8, 2)], **machine), 1) == arrival


def test_arrivals_of_one_tick_keep_their_order(tmp_path):
    """Three requests at the same tick, for one seat: the first of the trace runs first."""
    rows = [(5_000_000, 8, 3), (5_000_000, 8, 2), (5_000_000, 8, 1)]
    simulation = run_trace(tmp_path, rows, serving__max_num_seqs=1)
    starts = [scheduled_of(simulation, index) for index in range(3)]
    assert starts[0] == 5_000_000
    assert starts == sorted(set(starts))


@DETAIL
@TP
@pytest.mark.parametrize("scheduler", ["continuous", "static"])
def test_a_client_joins_the_very_next_batch(machine, scheduler, detail):
    """In a closed loop with a seat for each client the next request arrives as one ends and starts with the next step."""
    arrivals = {"kind": "closed", "concurrency": 3}
    simulation = build_simulation(
        workload__arrivals=arrivals,
        workload__output_tokens={"kind": "uniform", "low": 1, "high": 9},
        serving__scheduler=scheduler,
        detail=detail,
        **machine,
    )
    simulation.run()
    rows, ends = simulation.requests.rows, {times[-1] for times in token_ticks(simulation).values()}
    later = rows[rows["index"] >= 3]
    assert set(later["arrival_ps"].tolist()) <= ends
    if scheduler == "continuous":
        assert later["scheduled_ps"].tolist() == later["arrival_ps"].tolist()


@DETAIL
@pytest.mark.parametrize("number", [1, 2])
def test_a_client_that_is_refused_goes_on_at_once(number, detail):
    """Requests of a closed loop come as another is finished or refused, not with its engine's next step."""
    engines = [{"name": f"e{i}", "gpus": [f"gpu{i}"], "serving": {"max_model_len": 40}} for i in range(number)]
    simulation = build_simulation(
        topology="dgx-a100-80gb",
        engines=engines,
        detail=detail,
        workload__arrivals={"kind": "closed", "concurrency": 3},
        workload__prompt_tokens={"kind": "uniform", "low": 1, "high": 60},
        workload__num_requests=30,
    )
    simulation.run()
    assert simulation.requests.has_status("rejected").sum() > 5
    ends = {0} | {times[-1] for times in token_ticks(simulation).values() if times}
    assert set(simulation.requests.rows["arrival_ps"].tolist()) <= ends


def run_in_pieces(data, steps):
    """Run with at most *steps* steps played together; return ticks of tokens, requests and summary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advance_module, "ONE_RUN", Horizon(steps, decisions=1))
        patch.setattr(advance_module, "FEWEST_STEPS", steps)
        patch.setattr(advance_module, "MOST_STEPS", steps)
        simulation = Simulation(plan_document(Document("test.yaml", data, folder=Path())))
        summary = simulation.run().summary()
    # Engines side by side log their requests as each commits its steps.
    return token_ticks(simulation), np.sort(simulation.requests.rows, order="index").tobytes(), summary


@settings(max_examples=8)
@given(
    data=st.sampled_from([*ARRIVALS, *DEPENDENT]).flatmap(lambda kind: scenarios(kind, "single"))
    | scenarios("gamma", "engines")
    | scenarios("sessions", "engines")
)
def test_the_length_of_runs_changes_nothing(data):
    """With runs of at most 1, 3 or 32 steps every token of every request has the same tick, and so has every wait."""
    try:
        outcomes = [run_in_pieces(data, steps) for steps in (1, 3, 32)]
    except SimulationError:
        return
    for ticks, rows, summary in outcomes[1:]:
        assert (ticks, rows) == outcomes[0][:2]
        for key in ("requests", "itl_s", "ttft_s", "queue_s", "e2e_s"):
            assert summary[key] == outcomes[0][2][key]
        assert summary["utilisation"] == pytest.approx(outcomes[0][2]["utilisation"], rel=1e-9)
        for name, engine in summary["engines"].items():
            assert engine["kv_blocks_peak"] == outcomes[0][2]["engines"][name]["kv_blocks_peak"]
        # The engine rounds the reasons of each run, at most one a step: the largest takes half a tick of every other.
        rounding_s = 8 * summary["attribution"]["num_steps"] / TICKS_PER_S
        expected_s = outcomes[0][2]["attribution"]["seconds"]
        assert summary["attribution"]["seconds"] == pytest.approx(expected_s, rel=1e-9, abs=rounding_s)


def ends_of(simulation):
    """Return the tick of the last token of every finished request, by its number."""
    return {index: ticks[-1] for (_, index), ticks in token_ticks(simulation).items() if ticks}


@DETAIL
@pytest.mark.parametrize("arrivals", [{"kind": "poisson", "rate": "300 /s"}, {"kind": "closed", "concurrency": 2}])
def test_turns_come_a_think_time_after_the_one_before(arrivals, detail):
    """Each arrives in the tick of the last token before it plus its think time, and starts as arrivals of sessions say."""
    simulation = build_simulation(
        detail=detail,
        workload__arrivals=arrivals,
        workload__sessions={
            "turns": {"kind": "uniform", "low": 1, "high": 4},
            "think_time": {"kind": "exponential", "mean": "2 ms"},
        },
        workload__num_requests=24,
    )
    simulation.run()
    ends, rows = ends_of(simulation), simulation.requests.rows
    arrived = dict(zip(rows["index"].tolist(), rows["arrival_ps"].tolist(), strict=True))
    shapes = list(requests(simulation.plan.workload, seed=0, folder=Path()))
    assert sum(shape.after is not None for shape in shapes) > 8
    for shape in shapes:
        if shape.after is not None:
            assert arrived[shape.index] == ends[shape.after] + clock_ticks(shape.think_s)
        elif shape.arrival_s is not None:
            assert arrived[shape.index] == clock_ticks(shape.arrival_s)


@DETAIL
def test_a_rejected_turn_ends_its_session(detail):
    """The turn that is too long is rejected as it comes, the rest of its session with it; others go on."""
    simulation = build_simulation(
        detail=detail,
        serving__max_model_len=150,
        workload__sessions={"turns": {"kind": "fixed", "value": 5}},
        workload__num_requests=13,
    )
    warnings = simulation.run().summary()["warnings"]
    assert warnings == [
        "2 requests rejected (number 3, 8): prompt and output are longer than max_model_len = 150",
        "2 requests rejected (number 4, 9): the turn before it was rejected",
    ]
    rows = {int(row["index"]): row for row in simulation.requests.rows}
    assert len(rows) == 13
    for turn in (3, 8):
        assert rows[turn]["arrival_ps"] == rows[turn + 1]["arrival_ps"] == ends_of(simulation)[turn - 1]


@DETAIL
def test_an_idle_engine_takes_a_turn_that_comes_unannounced(detail):
    """Between sessions that are known to come to it later, an engine serves turns of others in the tick they arrive."""
    engines = [{"name": f"engine{number}", "gpus": [f"gpu{number}"]} for number in range(2)]
    simulation = build_simulation(
        detail=detail,
        topology="dgx-a100-80gb",
        engines=engines,
        workload__arrivals={"kind": "constant", "rate": "100 /s"},
        workload__sessions={"turns": {"kind": "fixed", "value": 3}},
        workload__num_requests=18,
    )
    simulation.run()
    rows = simulation.requests.rows
    assert len(rows) == 18
    assert (rows["scheduled_ps"] == rows["arrival_ps"]).all()


def test_a_lone_client_thinks_between_its_requests():
    """One client's next request comes a think time after the last token; its first one at 0."""
    think = {"kind": "fixed", "value": "7 ms"}
    arrivals = {"kind": "closed", "concurrency": 1, "think_time": think}
    simulation = build_simulation(workload__arrivals=arrivals, detail="step")
    simulation.run()
    ends, rows = ends_of(simulation), simulation.requests.rows
    expected = [0, *(ends[index] + 7 * 10**9 for index in range(9))]
    assert rows["arrival_ps"].tolist() == expected


@DETAIL
def test_an_arrival_that_cannot_join_cuts_no_run(tmp_path, detail):
    """With all seats taken, requests that arrive in mid-run wait; the run of 39 steps, one batch, stays whole."""
    rows = [(0, 8, 40), *((1_000_000_000 + i, 8, 2) for i in range(5))]
    simulation = run_trace(tmp_path, rows, serving__max_num_seqs=1, detail=detail)
    assert simulation.logs["engine"].run_lengths.tolist()[:3] == [1, 39, 1]


WORKLOAD = {
    "arrivals": {"kind": "poisson", "rate": "3000 /s"},
    "prompt_tokens": {"kind": "uniform", "low": 1, "high": 90},
    "output_tokens": {"kind": "uniform", "low": 1, "high": 12},
    "num_requests": 12,
}


def test_two_engines_on_disjoint_gpus_are_twice_one():
    """Each of two engines with equal requests of its own gives every token at the tick at which one alone does."""
    serving = {"tensor_parallel_size": 2, "max_num_seqs": 4, "max_num_batched_tokens": 64}
    runs = {}
    for names in (["left"], ["left", "right"]):
        gpus = {"left": ["gpu0", "gpu1"], "right": ["gpu2", "gpu3"]}
        engines = [{"name": name, "gpus": gpus[name], "serving": serving, "workload": WORKLOAD} for name in names]
        simulation = build_simulation(topology="dgx-a100-80gb", engines=engines)
        runs[len(names)] = simulation, simulation.run().summary(), token_ticks(simulation)
    (_, one, alone), (_, two, both) = runs[1], runs[2]
    for name in ("left", "right"):
        assert {i: ticks for (engine, i), ticks in both.items() if engine == name} == {
            i: ticks for (_, i), ticks in alone.items()
        }
        assert two["engines"][name]["itl_s"] == one["engines"]["left"]["itl_s"]
    assert two["requests"]["finished"] == 2 * one["requests"]["finished"] == 24
    assert two["itl_s"]["count"] == 2 * one["itl_s"]["count"]
    assert two["itl_s"]["p99"] == one["itl_s"]["p99"]
    assert two["throughput"] == {key: 2 * value for key, value in one["throughput"].items()}
    assert two["attribution"]["step_time_s"] == 2 * one["attribution"]["step_time_s"]


def test_engines_share_a_workload_in_turn():
    """Requests of the scenario's workload go to its engines by number, one after the other."""
    engines = [{"name": f"e{i}", "gpus": [f"gpu{i}"]} for i in range(3)]
    simulation = build_simulation(topology="dgx-a100-80gb", engines=engines, workload__num_requests=7)
    simulation.run()
    assert sorted(token_ticks(simulation)) == sorted((f"e{i % 3}", i) for i in range(7))


class Interrupt(Probe):
    """Presses Ctrl-C when it has seen some counters."""

    def __init__(self, after, press):
        self.left, self.press = after, press

    def counter(self, *_seen):
        self.left -= 1
        if self.left == 0:
            self.press()


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def raise_interrupt():
    raise KeyboardInterrupt


def come_by(simulation):
    """Count the requests of the workload that have arrived by now."""
    shapes = requests(simulation.plan.workload, seed=simulation.plan.scenario.seed, folder=Path())
    return sum(clock_ticks(shape.arrival_s) <= simulation.clock.now for shape in shapes)


@pytest.mark.parametrize("press", [press_ctrl_c, raise_interrupt])
@pytest.mark.parametrize(("after", "detail"), [(1, "kernel"), (31, "kernel"), (60, "kernel"), (1, "step"), (9, "step")])
def test_a_stopped_run_says_what_had_finished(press, after, detail):
    """Ctrl-C, wherever it strikes, gives a result that is not complete and counts every request once."""
    simulation = build_simulation(probes=[Interrupt(after, press)], workload__num_requests=30, detail=detail)
    result = simulation.run()
    counts = result.metrics.counts
    assert result.summary()["complete"] is False
    assert counts.finished < 30
    assert counts.submitted == counts.finished + counts.running + counts.waiting + counts.rejected
    assert counts.submitted == come_by(simulation)
    log = simulation.logs["engine"]
    assert log.total("num_tokens") == sum(map(len, token_ticks(simulation).values()))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@DETAIL
def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(detail):
    """Pressed while the tokens of a step are handed out, it leaves none of them behind and no block unaccounted for."""
    simulation = build_simulation(workload__num_requests=30, detail=detail)
    engine, calls = simulation.engines["engine"], []
    extend, last = simulation.logs["engine"].extend, 9 if detail == "kernel" else 4

    def extend_and_press(*args, **counts):
        calls.append(extend(*args, **counts))
        if len(calls) == last:
            press_ctrl_c()
        return calls[-1]

    engine._commit._log = SimpleNamespace(extend=extend_and_press)
    counts = simulation.run().metrics.counts
    roster = engine.roster
    held = sum(engine.kv.blocks_for(roster.cached(request)) for request in roster.running)
    assert len(calls) == last
    assert counts.running == len(roster.running)
    assert held == engine.kv.used == engine.kv.num_blocks - roster.free_blocks
    assert simulation.logs["engine"].total("num_tokens") == sum(map(len, token_ticks(simulation).values()))


def test_a_stopped_run_is_the_beginning_of_the_whole(tmp_path):
    """Tokens up to the interrupt have the ticks they have in a run to the end, and the result can be saved."""
    whole = build_simulation(workload__num_requests=30)
    whole.run()
    stopped = build_simulation(probes=[Interrupt(40, press_ctrl_c)], workload__num_requests=30)
    stopped.run().save(tmp_path / "out")
    expected = token_ticks(whole)
    some = {key: ticks for key, ticks in token_ticks(stopped).items() if ticks}
    assert some
    assert all(ticks == expected[key][: len(ticks)] for key, ticks in some.items())


def test_no_request_that_can_run_is_an_error(tmp_path):
    """If all are rejected the error says how many and why."""
    with pytest.raises(SimulationError, match="2 rejected: prompt and output are longer than max_model_len = 20"):
        run_trace(tmp_path, [(0, 40, 6), (9, 41, 6)], serving__max_model_len=20)


def test_a_request_too_long_is_rejected_and_the_rest_run(tmp_path):
    """It is counted, named in a warning, and delays nobody."""
    simulation = run_trace(tmp_path, [(0, 40, 6), (0, 90, 20), (0, 40, 6)], serving__max_model_len=100)
    record = simulation._record(complete=True)
    assert record.warnings == ["1 request rejected (number 1): prompt and output are longer than max_model_len = 100"]
    counts = [simulation.requests.has_status(status).sum() for status in ("finished", "rejected")]
    assert counts == [2, 1]


@pytest.mark.parametrize(("output", "status"), [(9, "finished"), (10, "rejected")])
def test_a_request_that_just_fits_runs(tmp_path, output, status):
    """Three blocks of 16 hold 40 + 8 tokens; the last of 49 is never cached, so only a 50th is too many."""
    rows = [(0, 40, output), (0, 1, 1)]
    simulation = run_trace(tmp_path, rows, serving__num_gpu_blocks_override=3)
    assert simulation.requests.has_status(status).sum() == (2 if status == "finished" else 1)


def test_a_plan_runs_again_to_the_same_ticks():
    """Simulations of one plan do not touch each other, nor the plan."""
    plan = build_plan()
    first, second = Simulation(plan), Simulation(plan)
    first.run()
    second.run()
    assert token_ticks(first) == token_ticks(second)


def test_contexts_beyond_the_model_are_named():
    """A longer max_model_len than the model was trained for is allowed, said in a warning and on the screen."""
    summary = build_simulation(serving__max_model_len=4096).run().summary()
    (warning,) = summary["warnings"]
    assert "max_model_len = 4096 is beyond the 2048 tokens that tiny was trained for" in warning
    screen = Console(width=120, file=io.StringIO())
    print_summary(summary, screen)
    assert "engine: tiny on 1 × a100-sxm-80gb, max_model_len 4096" in screen.file.getvalue()
    assert not build_simulation().run().summary()["warnings"]


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_an_engine_without_requests_ends_nobody_elses_run(detail):
    """Of two engines with workloads of their own one has none within its microsecond; the other serves all of its five."""
    own = WORKLOAD | {"num_requests": 5}
    engines = [
        {"name": "busy", "gpus": ["gpu0"], "workload": own},
        {"name": "idle", "gpus": ["gpu1"], "workload": own | {"duration": "1 us"}},
    ]
    simulation = build_simulation(topology="dgx-a100-80gb", engines=engines, detail=detail)
    assert simulation.run().metrics.counts.finished == 5

"""`detail: step` gives the token times of `detail: kernel`, bit for bit, wherever nothing foreign is on the machine."""

import os
from collections import Counter
from hashlib import sha256
from itertools import cycle

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_simulation, token_ticks
from gpusim.core.clock import TICKS_PER_S, Clock
from gpusim.errors import SimulationError
from gpusim.results.request_log import STATUSES
from gpusim.serving import source
from gpusim.serving.forecast import Forecast
from gpusim.serving.lockstep import LockstepEngine
from gpusim.serving.planner import Planner
from gpusim.serving.request import Request
from gpusim.serving.source import NOT_SENT
from gpusim.simulation import Simulation
from gpusim.spec.model import MoeSpec
from scenarios import ARRIVALS, DEPENDENT, MACHINES, models, plan_of, rules, scenarios, servings, swapping
from scenarios import arrivals as arrivals_of

EVERYWHERE = {"continuous": 10, "static": 5, "preempted and resumed": 5, "prefill chunk beside decodes": 5}
EVERYWHERE |= {"vllm-v0": 5, "orca": 3, "sarathi": 5, "padded": 4, "fcfs": 20, "sjf": 10, "priority": 10}
EVERYWHERE |= {"block boundary crossed": 10, "rejected": 5, "idle between requests": 5, "steps in flight": 10}
EVERYWHERE |= {"layers of several kinds": 5, "experts": 20, "latent attention": 10}
MEANT = {
    "single": EVERYWHERE | {"TP 1": 50, "closed loop": 8},
    "split": EVERYWHERE | {"TP 2": 20, "TP 4": 20, "closed loop": 8, "plan given up": 1, "whole experts on ranks": 10},
    "engines": EVERYWHERE | {"several engines": 40, "TP 1": 20, "TP 2": 15, "closed loop": 8, "plan given up": 1},
}
"""The special cases that examples are meant for, with how many of them must show each."""
ON_BUSY = {
    "eight seats or more": 15,
    "KV beyond one stripe": 15,
    "preempted and resumed": 10,
    "block boundary crossed": 30,
}
ON_BUSY |= {
    "layers of several kinds": 20,
    "experts": 10,
    "latent attention": 5,
    "TP 1": 20,
    "TP 2": 5,
    "TP 4": 5,
    "TP 8": 5,
    "continuous": 20,
    "static": 5,
    "vllm-v0": 3,
    "orca": 3,
    "sarathi": 3,
    "padded": 2,
    "sjf": 5,
    "priority": 5,
    "vllm-v0 preempted": 1,
    "sarathi preempted": 1,
    "decodes paused": 2,
    "prefill chunk beside decodes": 20,
    "plan given up": 3,
}


SHARE = float(os.environ.get("GPUSIM_EXAMPLES", "0.3"))
"""Of the examples that are compared, and of what must be seen in them: 1 takes two minutes more on two cores."""


def compare_all(strategy, number, meant):
    """Compare `SHARE` of *number* examples; assert that what they are *meant* for occurred as often, and print how often."""
    seen = Counter()
    meant = {what: int(0.5 * least * SHARE) for what, least in meant.items()}

    @settings(max_examples=round(number * SHARE))
    @given(data=strategy)
    def check(data):
        seen.update(compare(data))

    check()
    print("", *(f"{count:5} x {what}" for what, count in sorted(seen.items())), sep="\n")  # noqa: T201 - for -s
    assert {what: seen[what] for what, least in meant.items() if seen[what] < least} == {}


def played(data, detail):
    """Run a scenario at *detail*; None if none of its requests can run."""
    simulation = Simulation(plan_of(data, detail))
    try:
        simulation.run()
    except SimulationError:
        return None
    return simulation


def requests_of(simulation):
    """Return the rows of all requests, those of several engines in one order."""
    rows = simulation.requests.rows
    reasons = [simulation.requests.reasons[code] if code >= 0 else None for code in rows["reason"]]
    columns = [rows[name].tolist() for name in rows.dtype.names if name != "reason"]
    return sorted(zip(*columns, reasons, strict=True), key=lambda row: (row[1], row[0]))


def prioritised(index, arrival, prompt, output, content, _priority, is_followed):
    """Return a request as a source makes it, of one of three priorities."""
    return Request(index, arrival, prompt, output, content, 7 * index % 3, is_followed)


def compare(data):
    """Compare all that both details tell about a scenario; return what was special about it."""
    with pytest.MonkeyPatch.context() as patch:
        # Guesses are good enough here to be right nearly always; a third of them is made wrong.
        given_up, replay, step, wrong = [], Planner.replay, Forecast.step, cycle((1.0, 1.0, 1.7))
        patch.setattr(Forecast, "step", lambda self, *shape: next(wrong) * step(self, *shape))
        patch.setattr(source, "Request", prioritised)
        patch.setattr(Planner, "replay", lambda *args: (given_up.append(1), replay(*args))[1])
        step = played(data, "step")
        was_given_up = bool(given_up)
        kernel = played(data, "kernel")
    if kernel is None or step is None:
        assert kernel is step
        return set()
    assert token_ticks(step) == token_ticks(kernel)
    assert requests_of(step) == requests_of(kernel)
    for name, log in kernel.logs.items():
        other = step.logs[name]
        np.testing.assert_array_equal(other.ends, log.ends)
        np.testing.assert_array_equal(other.run_lengths, log.run_lengths)
        assert other.runs.tobytes() == log.runs.tobytes()
    moved = [run.cluster.fabric.moved_bytes() for run in (kernel, step)]
    assert moved[1] == pytest.approx(moved[0], rel=1e-9)
    for name, engine in kernel.engines.items():
        other = step.engines[name]
        assert other.bound_s == engine.bound_s
        assert other.kv.peak_used == engine.kv.peak_used
        if engine.store is not None:
            stores = [(each.store.used, each.store.blocks_out, each.store.blocks_in) for each in (other, engine)]
            assert stores[0] == stores[1]
        if engine.host is not None:
            counts = [(each.host.num_swaps, each.host.blocks_out, each.host.peak_used) for each in (other, engine)]
            assert counts[0] == counts[1]
        free = [each.kv.free.take(each.kv.num_blocks).tolist() for each in (other, engine)]
        assert free[0] == free[1], "blocks are taken and released in the same order"
    return set(kinds_of(data, kernel)) | ({"plan given up"} if was_given_up else set())


def reason_of(simulation, text):
    """Return the code of a reason; one that no row has if it never came up."""
    reasons = simulation.requests.reasons
    return reasons.index(text) if text in reasons else -2


def kinds_of_replicas(simulation):
    """Name what was special about replicas that share experts."""
    engines = [engine for engine in simulation.engines.values() if isinstance(engine, LockstepEngine)]
    if engines:
        yield f"{len(engines)} replicas"
    if any(engine.replica.num_dummies for engine in engines):
        yield "step without work"


def kinds_of_engines(plan):
    """Name what was special about the engines and their models."""
    yield from (engine.serving.scheduler for engine in plan.engines)
    yield from (engine.serving.scheduling_policy for engine in plan.engines)
    yield from ("padded" for engine in plan.engines if engine.serving.pad)
    served = [(engine.serving, group) for engine in plan.engines for group in engine.model.layers]
    if any(isinstance(group.mlp, MoeSpec) for _, group in served):
        yield "experts"
    if any(serving.enable_expert_parallel and isinstance(group.mlp, MoeSpec) for serving, group in served):
        yield "whole experts on ranks"
    if any(group.attention.latent for _, group in served):
        yield "latent attention"
    yield from ("steps in flight" for engine in plan.engines if engine.serving.async_scheduling)
    yield from (f"TP {engine.serving.tensor_parallel_size}" for engine in plan.engines)


def kinds_of(data, simulation):
    """Name what was special about a run."""
    rows, plan = simulation.requests.rows, simulation.plan
    yield from kinds_of_engines(plan)
    yield from kinds_of_replicas(simulation)
    if ((rows["num_preemptions"] > 0) & (rows["status"] == STATUSES.index("finished"))).any():
        yield "preempted and resumed"
    yield from (f"{e.serving.scheduler} preempted" for e in plan.engines if (rows["num_preemptions"] > 0).any())
    yield from kinds_of_preemption(simulation)
    if (rows["reason"] >= 0).any():
        yield "rejected"
    if len(plan.engines) > 1:
        yield "several engines"
    if any(engine.prefix_hits[1] for engine in simulation.engines.values()):
        yield "prefix found"
    if data.get("workload", {}).get("arrivals", {}).get("kind") == "closed":
        yield "closed loop"
    if (rows["reason"] == reason_of(simulation, NOT_SENT)).any():
        yield "rest of a session rejected"
    sessions = data.get("workload", {}).get("sessions")
    if sessions is not None and simulation.requests.has_status("finished").sum() > 1:
        yield (
            "turn after a think time" if sessions.get("think_time", {}).get("kind") == "exponential" else "turn at once"
        )
    tokens = rows["prompt_tokens"] + rows["output_tokens"] - 1
    sizes = np.array([engine.serving.block_size for engine in plan.engines])[rows["engine"]]
    if ((rows["reason"] < 0) & (-(-tokens // sizes) > -(-rows["prompt_tokens"] // sizes))).any():
        yield "block boundary crossed"
    yield from kinds_of_steps(simulation)
    if any(is_bound_by_host(engine, simulation.logs[name]) for name, engine in simulation.engines.items()):
        yield "bound by the host"


def is_bound_by_host(engine, log):
    """Say whether a step took what the host does beside it."""
    host_ticks = engine.executor.timer.host.ticks(np.arange(20))
    return np.isin(log.ends - log.starts, host_ticks[host_ticks > 0]).any()


def kinds_of_preemption(simulation):
    """Name what became of the KV of those who were preempted."""
    swaps = sum(engine.host.num_swaps for engine in simulation.engines.values() if engine.host is not None)
    if swaps:
        yield "swapped"
    if 0 < swaps < simulation.requests.rows["num_preemptions"].sum():
        yield "swapped or not"
    stores = [engine.store for engine in simulation.engines.values() if engine.store is not None]
    if any(store.blocks_out for store in stores):
        yield "stored on hosts"
    if any(store.blocks_in for store in stores):
        yield "restored"


def kinds_of_steps(simulation):
    """Name what was special about its steps."""
    for log in simulation.logs.values():
        if ((log.runs["num_decodes"] > 0) & (log.runs["num_prefill_tokens"] > 0)).any():
            yield "prefill chunk beside decodes"
        if (log.runs["num_decodes"] >= 8).any():
            yield "eight seats or more"
        if (log.starts[1:] > log.ends[:-1]).any():
            yield "idle between requests"
        if simulation.engines[log.engine]._commit._pauses:
            yield "decodes paused"
        if len(log) and log.ends[-1] > 10**5 * TICKS_PER_S:
            yield "after 100,000 s"
    for engine in simulation.engines.values():
        stripe = engine.channels.channel_map.num_channels * engine.channels.channel_map.granule
        kinds = engine.lowering.kv_kinds
        if engine.kv.peak_used * engine.kv.block_size * kinds[0].token_bytes > stripe:
            yield "KV beyond one stripe"
        if len(kinds) > 1:
            yield "layers of several kinds"


@pytest.mark.parametrize("machine", MACHINES)
def test_step_and_kernel_detail_give_the_same_tokens(machine):
    """Every token of every request in the same tick: preemption, chunked prefill, all schedulers, TP, several engines."""
    compare_all(st.sampled_from(ARRIVALS).flatmap(lambda kind: scenarios(kind, machine)), 200, MEANT[machine])


AFTER_OTHERS = {"closed loop": 10, "turn after a think time": 10, "turn at once": 10, "rest of a session rejected": 10}
AFTER_OTHERS |= {"rejected": 10, "idle between requests": 10, "preempted and resumed": 3, "several engines": 40}


def test_requests_that_wait_for_others_get_the_same_tokens():
    """Turns of sessions and clients that think come in the same ticks, at whichever engine, known ahead or not."""
    machines = st.sampled_from(MACHINES) | st.just("engines")
    kinds = st.sampled_from([*DEPENDENT, "sessions"])
    strategy = st.tuples(kinds, machines).flatmap(lambda choice: scenarios(*choice))
    compare_all(strategy, 75, AFTER_OTHERS)


IN_STEP = {"2 replicas": 15, "4 replicas": 10, "step without work": 30, "continuous": 10, "static": 5, "closed loop": 3}
IN_STEP |= {
    "TP 1": 10,
    "TP 2": 3,
    "TP 4": 3,
    "steps in flight": 2,
    "preempted and resumed": 2,
    "prefill chunk beside decodes": 3,
}


def test_replicas_that_share_experts_give_the_same_tokens():
    """Where all wait for the slowest in every layer, with and without work, stretches added up are stretches played."""
    kinds = st.sampled_from([*ARRIVALS, "sessions"])
    compare_all(kinds.flatmap(lambda kind: scenarios(kind, "replicas")), 60, IN_STEP)


CACHED = {"closed loop": 3, "turn after a think time": 5, "preempted and resumed": 3, "prefix found": 20}
CACHED |= {"steps in flight": 10, "stored on hosts": 20, "restored": 3}


@st.composite
def cached(draw):
    """Sessions, or prompts that repeat, on engines that cache prefixes."""
    data = draw(st.sampled_from(MACHINES).flatmap(lambda machine: scenarios("sessions", machine)))
    if draw(st.booleans()):
        prefixes = {"groups": 2, "tokens": {"kind": "fixed", "value": draw(st.integers(2, 8))}}
        data["workload"] |= {"prefixes": prefixes}
    if draw(st.integers(0, 2)) == 0:
        data["workload"] = {key: value for key, value in data["workload"].items() if key != "sessions"}
        data["workload"] |= {"prompts": {"distinct": 3, "order": draw(st.sampled_from(["cycled", "random"]))}}
    for engine in data.get("engines", [data]):
        engine["serving"] |= {"scheduler": "continuous", "pad": False, "enable_prefix_caching": True}
        engine["serving"]["block_size"] = draw(st.sampled_from([2, 4, 1]))
        engine["serving"]["num_gpu_blocks_override"] = 28 // engine["serving"]["block_size"]
        engine["serving"]["kv_offload"] = draw(
            st.sampled_from([None, {"size": "1 MiB"}, {"size": "1 MiB"}, {"size": "16 KiB"}])
        )
    return data


def test_cached_prefixes_give_the_same_tokens():
    """What is found in the cache or on hosts, and when it is lost, is alike where requests say what they begin with."""
    compare_all(cached(), 60, CACHED)


HELD = {
    "bound by the host": 25,
    "2 replicas": 3,
    "several engines": 8,
    "TP 2": 3,
    "steps in flight": 30,
    "plan given up": 1,
}


@st.composite
def held(draw):
    """Engines, most with steps in flight, with host time beside the GPU: shorter than a step, about as long, or longer."""
    kinds = st.tuples(st.sampled_from(ARRIVALS), st.sampled_from([*MACHINES, "replicas"]))
    data = draw(kinds.flatmap(lambda choice: scenarios(*choice)))
    for engine in data.get("engines", [data]):
        step = draw(st.sampled_from(["60 us", "150 us", "400 us", "2 ms"]))
        host = {"overlapped_step": step, "overlapped_sequence": draw(st.sampled_from(["0 s", "17 us"]))}
        engine["serving"] |= {"engine": {"schema": 1, "name": "host", **host}, "scheduler": "continuous", "pad": False}
        engine["serving"] |= {"async_scheduling": draw(st.sampled_from([True, True, False]))}
    return data


def test_steps_bound_by_the_host_give_the_same_tokens():
    """The longer of GPU and host is the same to the tick, in runs that are cut, in plans given up, of replicas in step."""
    compare_all(held(), 130, HELD)


@st.composite
def busy(draw):
    """An engine with many seats and long outputs, with blocks for a part of them: much goes on in each step."""
    seats = draw(st.integers(8, 16))
    tp = draw(st.sampled_from([1, 1, 2, 4, 8]))
    block_size = draw(st.sampled_from([1, 4, 16]))
    blocks = draw(st.integers(90, 900)) // block_size
    ruled = draw(rules())
    whole = ruled["scheduler"] == "vllm-v0"  # which takes no longer prompts than a step has tokens
    serving = {
        "tensor_parallel_size": tp,
        **ruled,
        "max_num_seqs": seats,
        "max_num_batched_tokens": draw(st.sampled_from([64, 400] if whole else [seats, 24, 64, 400])),
        "max_model_len": 90,
        "block_size": block_size,
        "num_gpu_blocks_override": max(blocks, -(-90 // block_size)),
    }
    kind = draw(st.sampled_from(["poisson", "gamma", "closed", "at_once"]))
    arrivals = draw(arrivals_of(kind)) if kind != "closed" else {"kind": kind, "concurrency": draw(st.integers(4, 20))}
    workload = {
        "arrivals": arrivals,
        "prompt_tokens": {"kind": "uniform", "low": 1, "high": draw(st.sampled_from([8, 40]))},
        "output_tokens": {"kind": "uniform", "low": 1, "high": draw(st.sampled_from([10, 50]))},
        "num_requests": draw(st.integers(10, 30)),
    }
    topology = "dgx-a100-80gb" if tp > 1 else "single-gpu"
    return {"schema": 1, "model": draw(models()), "topology": topology, "serving": serving, "workload": workload}


def test_busy_engines_give_the_same_tokens():
    """Neither do eight to sixteen seats, long outputs and few blocks part the two details, on one GPU or split over eight."""
    compare_all(busy(), 180, ON_BUSY)


@pytest.mark.parametrize("machine", MACHINES)
def test_swaps_are_the_same_transfers_at_both_details(machine):
    """KV that goes to host memory and comes back, on one GPU, split over some, or beside other engines that swap."""
    kinds = st.sampled_from(["closed", "at_once", "gamma"]).flatmap(lambda kind: scenarios(kind, machine))
    compare_all(swapping(kinds), 25, {"swapped": 5})


def test_busy_engines_swap_alike():
    """With eight to sixteen seats, long prompts in chunks and host memory for a part of what is preempted."""
    compare_all(swapping(busy(), 40, 50), 25, {"swapped": 10, "swapped or not": 2})


@st.composite
def late_ones(draw, folder):
    """Scenarios with a trace that begins after 100,000 s."""
    first_s = draw(st.sampled_from([123_456.0, 987_654.321]))
    rows = draw(
        st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 24), st.integers(1, 30)), min_size=4, max_size=14)
    )
    after_us = np.cumsum([gap_us for gap_us, *_ in rows]).tolist()
    lines = [
        f"{first_s + us * 1e-6!r},{prompt},{output}" for us, (_, prompt, output) in zip(after_us, rows, strict=True)
    ]
    text = "\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n"
    path = folder / f"{sha256(text.encode()).hexdigest()}.csv"
    path.write_text(text)
    serving = draw(servings())
    return {
        "schema": 1,
        "model": "tiny",
        "topology": "single-gpu",
        "serving": serving,
        "workload": {"trace": str(path)},
    }


def test_late_in_time_they_give_the_same_tokens(tmp_path):
    """Beyond 100,000 s, where floats are coarser than ticks, arrivals, steps and waits are still the same to the tick."""
    compare_all(
        late_ones(tmp_path), 70, {"after 100,000 s": 40, "preempted and resumed": 4, "idle between requests": 5}
    )


def test_clients_late_in_time_get_the_same_tokens(monkeypatch):
    """Clients that have been at it for more than a day send their next requests at any tick, odd ones too."""
    start = lambda clock: setattr(clock, "env", simpy.Environment(initial_time=10**17 + 7))
    monkeypatch.setattr(Clock, "__init__", start)
    meant = {"after 100,000 s": 30, "closed loop": 30, "several engines": 10}
    compare_all(scenarios("closed", "single") | scenarios("closed", "engines"), 60, meant)


def test_accounts_agree():
    """Bytes by channel and link, FLOPs and busy fractions of a folded run are those of the events it stands for."""
    runs = [
        build_simulation(topology="dgx-a100-80gb", serving__tensor_parallel_size=2, detail=detail)
        for detail in ("kernel", "step")
    ]
    for run in runs:
        run.run()
    kernel, step = (run.cluster for run in runs)
    for name, bank in kernel.banks.items():
        np.testing.assert_allclose(step.banks[name].channel_bytes_out, bank.channel_bytes_out, rtol=1e-9)
    for name, moved in kernel.fabric.moved_bytes().items():
        assert step.fabric.moved_bytes()[name] == pytest.approx(moved, rel=1e-9)
    for name, busy in kernel.utilisation().items():
        assert step.utilisation()[name] == pytest.approx(busy, rel=1e-9)
    assert step.gpus["gpu1"].compute.flops == pytest.approx(kernel.gpus["gpu1"].compute.flops, rel=1e-12)


def test_what_is_shared_is_played_at_kernel_detail():
    """An engine whose memory or links others use is not folded; one beside it that shares nothing is."""
    engines = [{"name": "busy", "gpus": ["gpu0"]}, {"name": "quiet", "gpus": ["gpu1"]}]
    copy = {"kind": "copy", "from": "gpu0", "to": "gpu0", "size": "1 MiB"}
    simulation = build_simulation(topology="dgx-a100-80gb", engines=engines, background=[copy], detail="step")
    assert {name: engine.folding is None for name, engine in simulation.engines.items()} == {
        "busy": True,
        "quiet": False,
    }
    engines = simulation.run().summary()["engines"]
    assert [engines[name]["detail"] for name in ("busy", "quiet")] == ["kernel", "step"]


def test_engines_that_share_an_uplink_are_not_folded():
    """Two engines across both roots of a PCIe server meet on its uplinks."""
    engines = [{"name": "left", "gpus": ["gpu0", "gpu2"]}, {"name": "right", "gpus": ["gpu1", "gpu3"]}]
    changes = {"topology": "pcie-4gpu-2root", "serving__tensor_parallel_size": 2, "detail": "step"}
    simulation = build_simulation(engines=engines, **changes)
    assert all(engine.folding is None for engine in simulation.engines.values())

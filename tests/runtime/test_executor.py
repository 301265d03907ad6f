"""The executor on idle resources: the sum of the laws, to the tick, however many ranks and however it is cut."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, build_model, catalog_model
from gpusim.core.probe import RecordingProbe
from gpusim.machine import read_topology
from gpusim.runtime.attribution import WAITING
from gpusim.runtime.kernel_executor import (
    EVENTS_PER_COLLECTIVE,
    EVENTS_PER_KERNEL,
    EVENTS_PER_REMOTE_READ,
    EVENTS_PER_STEP,
)
from gpusim.runtime.program import TimedKernel
from machines import Machine, count_events, decode

HOLDERS = [f"neighbour{i}" for i in range(8)]


def ranks_of(tp):
    return [f"gpu{i}" for i in range(tp)]


@pytest.mark.parametrize("ideal", [False, True])
@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_every_step_is_the_sum_of_its_rounded_operations(tp, ideal):
    """Step ends are the running sum of the laws' ticks, and no time is left over to have been waited for."""
    machine = Machine("dgx-a100-80gb", ideal=ideal)
    executor, program = machine.executor(*ranks_of(tp)), decode(tp=tp, steps=5)
    timed = executor.timer.time(program, None)
    result = machine.play(executor, program)
    assert (np.cumsum(timed.step_ticks) == result.ends).all()
    rows = [[o.ticks[min(step, len(o.ticks) - 1)] for o in timed.operations] for step in range(5)]
    assert [sum(row) for row in rows] == timed.step_ticks.tolist()
    assert result.attribution_s[WAITING] == 0


def test_kv_on_few_channels_takes_its_fullest_channel():
    """Steps with KV spread unevenly are the sums of their laws too, and longer than with KV spread evenly."""
    machine = Machine()
    executor, program = machine.executor(), decode(batch=64, steps=4)
    spread = np.zeros((4, machine.cluster.banks["gpu0"].num_channels))
    spread[:, :20] = 1 / 20
    result = machine.play(executor, program, kv_channels=[spread])
    assert (np.cumsum(executor.timer.time(program, [spread]).step_ticks) == result.ends).all()
    assert (executor.timer.time(program, [spread]).step_ticks > executor.timer.time(program, None).step_ticks).all()


@settings(max_examples=15)
@given(latency_s=st.floats(1e-7, 1e-6), bandwidth=st.floats(1e11, 1e12), ideal=st.booleans())
def test_kv_read_over_idle_links_takes_its_law(latency_s, bandwidth, ideal):
    """Pooled KV gives the sums of the laws to the tick, also where latencies are no whole picoseconds."""
    topology = read_topology("thread-node", Path())
    change = {"latency": latency_s, "bandwidth": bandwidth}
    links = [link.model_copy(update=change) for link in topology.links]
    machine = Machine(topology.model_copy(update={"links": links}), ideal=ideal)
    executor = machine.executor("gpu0", remote=machine.remote("gpu0", HOLDERS))
    program = decode(batch=64, context=5000, steps=4)
    result = machine.play(executor, program)
    assert (np.cumsum(executor.timer.time(program, None).step_ticks) == result.ends).all()


def test_ranks_do_the_same_at_the_same_time():
    """On idle links every kernel starts and ends at one tick on all ranks."""
    machine, probe = Machine("dgx-a100-80gb"), RecordingProbe()
    machine.cluster.probes.append(probe)
    executor, program = machine.executor(*ranks_of(4)), decode(tp=4, steps=2)
    machine.play(executor, program)
    spans = defaultdict(list)
    for where, *span, _ in probe.spans:
        spans[where].append(tuple(span))
    of_ranks = [spans[gpu] for gpu in ranks_of(4)]
    assert len(of_ranks[0]) == 2 * (program.num_kernels + program.num_collectives)
    assert all(other == of_ranks[0] for other in of_ranks)
    assert {"qkv", "all_reduce attention", "all_reduce mlp", "all_gather logits"} <= {what for what, *_ in of_ranks[0]}


def test_ranks_move_and_compute_what_the_program_says():
    """Each rank's memory moves the bytes of its kernels and its processors do their FLOPs, step by step."""
    machine = Machine("dgx-a100-80gb", ideal=True)
    executor, program = machine.executor(*ranks_of(2)), decode(tp=2, steps=3)
    timed = executor.timer.time(program, None)
    machine.play(executor, program)
    kernels = [o for o in timed.operations if isinstance(o, TimedKernel)]
    moved = sum(k.size_bytes[min(step, len(k.size_bytes) - 1)] for k in kernels for step in range(3))
    flops = sum(k.flops[min(step, len(k.flops) - 1)] for k in kernels for step in range(3))
    for gpu in executor.gpus:
        assert gpu.memory.bytes_in == gpu.memory.bytes_out == pytest.approx(moved, rel=1e-12)
        assert gpu.compute.flops == pytest.approx(flops, rel=1e-12)


@settings(max_examples=40)
@given(when=st.floats(0, 1.2), tp=st.sampled_from([1, 2]))
def test_a_cut_ends_the_run_with_the_step_in_progress(when, tp):
    """Cut at any moment the run stops at the next end of a step; what it has done is the beginning of the whole run."""
    program = decode(tp=tp, steps=6)
    machine = Machine("dgx-a100-80gb")
    whole = machine.play(machine.executor(*ranks_of(tp)), program)
    cut_at = int(when * int(whole.ends[-1]))
    machine = Machine("dgx-a100-80gb")
    executor = machine.executor(*ranks_of(tp))
    machine.clock.timeout(cut_at).callbacks.append(lambda _: executor.cut())
    result = machine.play(executor, program)
    done = min(6, int(np.searchsorted(whole.ends, cut_at)) + 1)
    assert (result.ends == whole.ends[:done]).all()
    assert result.attribution_s.sum() == pytest.approx(int(result.ends[-1]) / 1e12, rel=1e-9)


def test_a_cut_between_runs_does_nothing():
    """Only a run that is under way is cut."""
    machine = Machine()
    executor, program = machine.executor(), decode(steps=3)
    executor.cut()
    assert len(machine.play(executor, program).ends) == 3
    executor.cut()
    assert len(machine.play(executor, program).ends) == 3


@pytest.mark.parametrize("tp", [1, 4])
def test_a_run_of_steps_is_as_many_runs_of_one(tp):
    """Five steps in one run end where five runs of one step with a context that grows end, and say the same of them."""
    whole_machine, machine = Machine("dgx-a100-80gb"), Machine("dgx-a100-80gb")
    whole = whole_machine.play(whole_machine.executor(*ranks_of(tp)), decode(tp=tp, steps=5))
    executor = machine.executor(*ranks_of(tp))
    single = [machine.play(executor, decode(tp=tp, context=500 + step)) for step in range(5)]
    assert whole.ends.tolist() == [int(result.ends[0]) for result in single]
    assert whole.attribution_s == pytest.approx(sum(result.attribution_s for result in single), rel=1e-9)
    assert whole.bound_s == pytest.approx(sum(result.bound_s for result in single), rel=1e-12)


@settings(max_examples=20)
@given(batch=st.integers(1, 200), context=st.integers(1, 2000), tp=st.sampled_from([1, 2]), ideal=st.booleans())
def test_no_step_beats_its_bound(batch, context, tp, ideal):
    """Weights, KV and FLOPs at peak, one kernel after the other, are a floor of every step."""
    machine = Machine("dgx-a100-80gb", ideal=ideal)
    result = machine.play(machine.executor(*ranks_of(tp)), decode(tp=tp, batch=batch, context=context))
    assert 0 < result.bound_s <= int(result.ends[-1]) / 1e12 * (1 + 1e-9)


def test_a_bound_of_pooled_kv_is_that_of_its_links():
    """KV that comes over links wider than the reader's memory is not bounded by that memory."""
    machine = Machine("thread-node", ideal=True)
    executor = machine.executor("gpu0", remote=machine.remote("gpu0", HOLDERS))
    result = machine.play(executor, decode(batch=64, context=50_000))
    assert 0.9 * int(result.ends[-1]) / 1e12 < result.bound_s <= int(result.ends[-1]) / 1e12


def events_of(*, steps, topology="dgx-a100-80gb", tp=1, pooled=False, folded=False):
    """Return the events of a run, and the operations of each of its steps."""
    machine = Machine(topology)
    remote = machine.remote("gpu0", HOLDERS) if pooled else None
    executor = machine.executor(*ranks_of(tp), remote=remote, folded=folded)
    program = decode(tp=tp, steps=steps)
    operations = executor.timer.time(program, None).operations
    return count_events(machine.clock, lambda: machine.play(executor, program)), operations


@pytest.mark.parametrize(
    "case",
    [
        {"tp": 1},
        {"tp": 2},
        {"tp": 8},
        {"tp": 8, "folded": True},
        {"topology": "thread-node", "pooled": True},
        {"topology": "dgx-h100", "tp": 4},
    ],
)
def test_a_further_step_costs_the_stated_events(case):
    """The constants times kernels and ranks played, those times collectives, and those of a step: not one event more or less."""
    (many, operations), (few, _) = events_of(steps=7, **case), events_of(steps=3, **case)
    kernels = [o for o in operations if isinstance(o, TimedKernel)]
    of_kernels = len(kernels) * EVENTS_PER_KERNEL
    of_kernels += EVENTS_PER_REMOTE_READ * sum(kernel.remote_bytes is not None for kernel in kernels)
    of_collectives = EVENTS_PER_COLLECTIVE * (len(operations) - len(kernels))
    played = 1 if case.get("folded") else case.get("tp", 1)
    assert many - few == 4 * (played * of_kernels + of_collectives + EVENTS_PER_STEP)


def faster(topology, factor):
    """Return *topology* with every rate *factor* times as high and every latency as much lower."""
    nodes = []
    for node in topology.nodes:
        if node.kind == "gpu":
            device = node.device
            memory = device.memory.model_copy(update={"bandwidth": factor * device.memory.bandwidth})
            peak = {dtype: factor * rate for dtype, rate in device.compute.peak.items()}
            compute = device.compute.model_copy(update={"peak": peak})
            device = device.model_copy(update={"memory": memory, "compute": compute})
            nodes.append(node.model_copy(update={"device": device}))
        else:
            nodes.append(node)
    links = [
        link.model_copy(update={"bandwidth": factor * link.bandwidth, "latency": link.latency / factor})
        for link in topology.links
    ]
    return topology.model_copy(update={"nodes": nodes, "links": links})


@pytest.mark.parametrize("tp", [1, 8])
def test_doubling_every_rate_halves_an_ideal_step(tp):
    """Memory, processors and links twice as fast, latencies half: half the time, but for rounding to the clock."""
    topology = read_topology("dgx-a100-80gb", Path())
    lowering = build_lowering(catalog_model("llama-3.1-8b"), tp=tp)
    once, twice = (Machine(spec, ideal=True) for spec in (topology, faster(topology, 2.0)))
    ends = [m.play(m.executor(*ranks_of(tp)), decode(lowering, steps=2)).ends for m in (once, twice)]
    assert ends[1] == pytest.approx(ends[0] / 2, rel=1e-6)


def test_gpu_order_does_not_matter_on_a_switch():
    """Behind switches any four GPUs in any order give the same step."""
    ends = []
    for gpus in (["gpu0", "gpu1", "gpu2", "gpu3"], ["gpu7", "gpu2", "gpu5", "gpu0"]):
        machine = Machine("dgx-h100")
        ends.append(machine.play(machine.executor(*gpus), decode(tp=4, steps=2)).ends.tolist())
    assert ends[0] == ends[1]


def test_naive_attention_takes_longer_by_its_scores():
    """Writing and reading the scores costs, ideal and bound by memory, 16 B a head and pair at the memory's rate."""
    model = build_model(layers=1)
    machine = Machine(ideal=True)
    executor = machine.executor()
    ends = [
        int(machine.play(executor, decode(build_lowering(model, attention_kernel=kind), batch=8)).ends[0])
        for kind in ("fused", "naive")
    ]
    scores_s = 16 * 8 * 8 * 500 / machine.cluster.banks["gpu0"].bandwidth
    assert (ends[1] - 2 * ends[0]) / 1e12 == pytest.approx(scores_s, rel=1e-6)

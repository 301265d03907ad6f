"""Collectives and remote reads beside foreign traffic on their links."""

from __future__ import annotations

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import seconds, ticks
from gpusim.hardware.fabric import Fabric
from gpusim.model.collectives import AllReduce
from gpusim.runtime.attribution import WAITING
from gpusim.units import MiB, us
from machines import Machine, decode
from predictions import kernels_of, law_s, predicted_s, service_s, step_s

SHARED = ("gpu0", "gpu2"), ("gpu1", "gpu3")
"""Pairs across the two roots of pcie-4gpu-2root: both load both uplinks."""


def check_two_engines(*, engines=2, slowdown=2.0):
    """Two engines in lock-step whose all-reduces cross the same two uplinks: the bytes of each take twice as long."""
    machine = Machine("pcie-4gpu-2root")
    program = decode(tp=2, batch=64, steps=2)
    executors = [machine.executor(*gpus) for gpus in SHARED[:engines]]
    expected = predicted_s(executors[0].timer.time(program, None), link_slowdown=slowdown)
    results = machine.play_together([(executor, program) for executor in executors])
    for result in results:
        assert step_s(result) == pytest.approx(expected, rel=1e-7)
    return results[0], expected


def test_two_engines_share_the_uplinks():
    """In lock-step every all-reduce takes its fixed time and twice its time on the link, and that is waiting."""
    result, expected = check_two_engines()
    alone, _ = check_two_engines(engines=1, slowdown=1.0)
    assert alone.attribution_s[WAITING] == 0.0
    assert result.attribution_s[WAITING] == pytest.approx(sum(expected) - sum(step_s(alone)), rel=1e-6)


@settings(max_examples=15)
@given(fraction=st.floats(0, 1), sizes=st.tuples(*[st.floats(1e5, 1e9)] * 2))
def test_two_all_reduces_on_one_uplink(fraction, sizes):
    """The one that is on the link alone has all of it, both together half each: the classic sum of remainders."""
    machine = Machine("pcie-4gpu-2root")
    groups = [machine.group(*gpus) for gpus in SHARED]
    first, second = (group.timed(AllReduce("", size)) for group, size in zip(groups, sizes, strict=True))
    delay_s = fraction * first.link_s
    noted = [machine.perform(groups[0], first), machine.perform(groups[1], second, at_s=delay_s)]
    machine.clock.run()
    left_s = first.link_s - delay_s  # of the first, when the second starts
    expected_first_s = first.link_s + min(left_s, second.link_s)
    expected_second_s = second.link_s + min(left_s, second.link_s)
    expected = [first.fixed_s + expected_first_s, second.fixed_s + expected_second_s]
    assert [seconds(n["end"] - n["start"]) for n in noted] == pytest.approx(expected, rel=1e-6)


@settings(max_examples=10)
@given(share=st.floats(1e-6, 1.0))
def test_a_collective_gets_what_a_stream_leaves(share):
    """With a share p of the uplink gone an all-reduce takes fixed + link / (1 - p), and keeps at least half."""
    machine = Machine("pcie-4gpu-2root")
    group, fabric = machine.group(*SHARED[0]), machine.cluster.fabric
    timed = group.timed(AllReduce("", 8 * MiB))
    capacity = min(fabric.capacity[fabric.route("gpu1", "gpu3").edges])
    machine.copy("gpu1", "gpu3", rate=share * capacity)
    noted = machine.perform(group, timed, at_s=1 * us)
    machine.clock.run(until=simpy.Timeout(machine.clock.env, ticks(1.0)))
    expected = timed.fixed_s + timed.link_s / (1 - min(share, 0.5))
    assert seconds(noted["end"] - noted["start"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_kv_read_over_a_shared_link(share):
    """Pooled KV takes its latency and its bytes over what a copy leaves of the link; the reader's own memory shares too."""
    machine = Machine("thread-node", ideal=True)
    holders = [f"neighbour{i}" for i in range(8)]
    executor = machine.executor("gpu0", remote=machine.remote("gpu0", holders))
    remote, bank = executor.timer.remote, machine.cluster.banks["gpu0"]
    program, rate = decode(batch=64, context=20_000), share * 1.6e12
    expected = 0.0
    for kernel in kernels_of(executor.timer.time(program, None)):
        local_s = service_s(kernel, 0) / (1 - rate / bank.bandwidth)
        if kernel.remote_bytes is not None:
            local_s = max(local_s, remote.latency_s + kernel.remote_bytes[0] * remote.per_byte_s / (1 - share))
        expected += law_s(kernel, 0, local_s)
    machine.copy("neighbour0", "gpu0", rate=rate)
    machine.clock.run(machine.clock.timeout(1))
    assert step_s(machine.play(executor, program)) == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize("gpus", [("gpu0",), ("gpu0", "gpu2")])
def test_traffic_of_rate_towards_zero_changes_nothing(gpus):
    """One byte a second, in the memory or on the uplink, moves no kernel by more than its rounding to the clock."""
    alone, beside = Machine("pcie-4gpu-2root"), Machine("pcie-4gpu-2root")
    beside.copy("gpu0", "gpu3" if len(gpus) > 1 else "gpu0", rate=1.0)
    program = decode(tp=len(gpus), batch=64, steps=3)
    first, second = (machine.play(machine.executor(*gpus), program) for machine in (alone, beside))
    operations = program.num_kernels + program.num_collectives
    assert abs(first.ends - second.ends).max() <= program.steps * operations
    assert second.ends == pytest.approx(first.ends, rel=1e-6)


def never_shared(fabric, loads, *, ideal_s=None, **_):
    """Stand for `Fabric.transfer` in a fabric whose flows do not meet."""
    flow = simpy.Event(fabric.clock.env)
    flow.done, flow.disturbed = fabric.clock.timeout(ticks(ideal_s)), False
    return flow


def test_without_the_fabric_the_predictions_fail(monkeypatch):
    """The check of two engines holds with the fabric and fails where flows do not meet."""
    check_two_engines()
    monkeypatch.setattr(Fabric, "transfer", never_shared)
    with pytest.raises(AssertionError):
        check_two_engines()

"""Kernels beside foreign traffic in their memory: what bytes really took enters the same law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import seconds, ticks
from gpusim.hardware.memory import MemoryBank
from gpusim.hardware.transfer import Transfer
from machines import Machine, decode
from predictions import kernels_of, law_s, predicted_s, service_s, step_s, uneven


def check_stream(*, share, ideal=False, seed=0):
    """Decode steps beside a copy that asks for *share* of the memory; kernels keep at least their fair half."""
    machine = Machine(ideal=ideal)
    bank, executor = machine.cluster.banks["gpu0"], machine.executor()
    program, spread = decode(batch=64, context=800, steps=3), uneven(3, bank.num_channels, seed)
    expected = predicted_s(executor.timer.time(program, [spread]), memory_left=1 - min(share, 0.5))
    machine.copy("gpu0", "gpu0", rate=share * bank.bandwidth / 2)
    machine.clock.run(machine.clock.timeout(1))  # the stream is under way
    result = machine.play(executor, program, kv_channels=[spread])
    assert step_s(result) == pytest.approx(expected, rel=1e-6)
    return result


@settings(max_examples=15)
@given(share=st.floats(1e-6, 1.0), ideal=st.booleans(), seed=st.integers(0, 99))
def test_kernels_get_what_a_stream_leaves(share, ideal, seed):
    """With a share p of the memory gone each kernel takes law(t_mem / (1 - p)), whatever channels its KV lies on."""
    check_stream(share=share, ideal=ideal, seed=seed)


@settings(max_examples=10)
@given(shares=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_more_foreign_traffic_never_helps(shares):
    """A step beside the faster of two streams takes at least as long as beside the slower one."""
    less, more = (check_stream(share=max(share, 1e-9)) for share in shares)
    assert (np.subtract(more.ends, more.start) >= np.subtract(less.ends, less.start)).all()


@pytest.mark.parametrize("size", [1e3, 7e6, 3e9])
def test_a_copy_inside_hbm_alone(size):
    """Alone it reads and writes at what the memory achieves: 2 size / bandwidth."""
    machine = Machine()
    copy = machine.copy("gpu0", "gpu0", size=size)
    machine.clock.run()
    ((start, end),) = copy.transfers
    assert end - start == ticks(2 * size / machine.cluster.banks["gpu0"].bandwidth)


def by_halves(timed, left_s):
    """Seconds of each step beside a copy that needs *left_s* of the memory alone, and when the copy ends.

    While a kernel's bytes move each of the two has half; the rest of the time the copy has all.
    """
    steps, now_s, copy_end_s = [], 0.0, None
    for step in range(timed.program.steps):
        start_s = now_s
        for kernel in kernels_of(timed):
            need_s = service_s(kernel, step)
            taken_s = min(need_s, left_s)
            duration_s = law_s(kernel, step, need_s + taken_s)
            if 0.0 < left_s <= duration_s - need_s:
                copy_end_s = now_s + taken_s + left_s
            left_s = max(0.0, left_s - (duration_s - need_s))
            now_s += duration_s
        steps.append(now_s - start_s)
    return steps, now_s + left_s if copy_end_s is None else copy_end_s


@settings(max_examples=20)
@given(size=st.floats(1e5, 1e9))
def test_a_sized_copy_beside_decode(size):
    """Steps take what halving the memory makes of the laws, and the copy ends when it has had its service."""
    machine = Machine()
    bank, executor = machine.cluster.banks["gpu0"], machine.executor()
    program = decode(batch=64, context=1500, steps=8)
    expected, copy_end_s = by_halves(executor.timer.time(program, None), 2 * size / bank.bandwidth)
    copy = machine.copy("gpu0", "gpu0", size=size)
    assert step_s(machine.play(executor, program)) == pytest.approx(expected, rel=1e-6)
    machine.clock.run()
    assert [seconds(end - start) for start, end in copy.transfers] == pytest.approx([copy_end_s], rel=1e-6)
    assert bank.bytes_in == pytest.approx(bank.bytes_out)
    assert bank.paced_bytes == pytest.approx(2 * size)


def test_the_slowest_rank_decides():
    """With one rank's memory shared, all ranks take the step that this rank predicts."""
    machine = Machine("dgx-a100-80gb")
    executor, program = machine.executor("gpu0", "gpu1"), decode(tp=2, batch=64, steps=2)
    expected = predicted_s(executor.timer.time(program, None), memory_left=0.6)
    machine.copy("gpu1", "gpu1", rate=0.2 * machine.cluster.banks["gpu1"].bandwidth)
    assert step_s(machine.play(executor, program)) == pytest.approx(expected, rel=1e-6)


def done_at_once(bank, demand_s, size_bytes):
    """Stand for `MemoryBank.stream` in a bank that does nothing."""
    transfer = Transfer(bank.clock.event(), bank.clock.now, float(np.max(demand_s)), size_bytes)
    transfer.done.succeed(transfer)
    return transfer


def test_without_the_bank_the_predictions_fail(monkeypatch):
    """The check of a stream holds with the bank and fails where the bank does nothing."""
    check_stream(share=0.3)
    monkeypatch.setattr(MemoryBank, "stream", done_at_once)
    with pytest.raises(AssertionError):
        check_stream(share=0.3)


@pytest.mark.parametrize("factor", [1.5, 3.0])
def test_a_kernel_ends_by_what_its_bank_reports(monkeypatch, factor):
    """A bank that needs longer for the same bytes makes every kernel take law(what it needed)."""
    machine = Machine()
    executor, program = machine.executor(), decode(batch=64, steps=2)
    expected = predicted_s(executor.timer.time(program, None), memory_left=1 / factor)
    stream = MemoryBank.stream

    def slow(bank, demand_s, size_bytes):
        transfer = stream(bank, factor * demand_s, size_bytes)
        transfer.disturbed = True
        return transfer

    monkeypatch.setattr(MemoryBank, "stream", slow)
    assert step_s(machine.play(executor, program)) == pytest.approx(expected, rel=1e-6)

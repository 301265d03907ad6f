"""Element-wise kernels: waves of CTAs, steps that wait for each other, elements an SM handles, and bytes."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.elementwise import KERNELS, ElementwiseRows, elementwise_time
from machines import catalog_device, figures_of

A100 = catalog_device("a100-sxm-80gb")
LAW = laws_of(A100).elementwise
RATE = 0.87 * 2.039e12
POINTWISE = KERNELS["vector"]["pointwise"]
LAUNCH_S = LAW.t0 + POINTWISE.chain * LAW.t_step


def seconds_of(kernel, total_bytes, rows=0.0, columns=0.0, hbm_bytes=0.0, device=A100):
    sizes = (np.atleast_1d(np.asarray(size, float)) for size in (total_bytes, hbm_bytes, rows, columns))
    timing = elementwise_time(
        ElementwiseRows(*np.broadcast_arrays(*sizes)), kernel, laws_of(device).elementwise, figures_of(device)
    )
    return timing.duration_s(timing.memory_s())


def test_a_small_kernel_is_served_by_l2():
    """A few MB take a launch and their bytes at L2's rate."""
    assert seconds_of(POINTWISE, 1e6)[0] == pytest.approx(LAUNCH_S + 1e6 / (LAW.l2_speedup * RATE), rel=1e-5)


def test_a_large_kernel_is_served_by_memory():
    """A hundred GB take their bytes at the rate of long reads."""
    assert seconds_of(POINTWISE, 1e11)[0] == pytest.approx(LAUNCH_S + 1e11 / RATE, rel=1e-3)


def test_some_bytes_are_never_in_l2():
    """Embedding rows and cache lines go to memory, however few."""
    assert seconds_of(POINTWISE, 1e6, hbm_bytes=1e6)[0] == pytest.approx(LAUNCH_S + 1e6 / RATE, rel=1e-9)


def test_nothing_to_move_takes_the_launch():
    """No bytes: the launch and the accesses that wait for each other."""
    assert seconds_of(POINTWISE, 0)[0] == LAUNCH_S


@given(tokens=st.integers(1, 5000), columns=st.sampled_from([4096, 8192]))
def test_a_norm_of_2023_written_out(tokens, columns):
    """CTAs of 1,024 threads, two on an SM; every thread reads its elements one by one, twice; an SM handles its rows' elements."""
    kernel = KERNELS["scalar"]["norm"]
    fixed_s = LAW.t0 + ceil(tokens / (2 * 108)) * (kernel.chain + 2 * columns / 1024) * LAW.t_step
    handled_s = ceil(tokens / 108) * columns * kernel.cycles / (LAW.issue_efficiency * 1.41e9)
    size = 4.0 * tokens * columns
    cached = size / (1 + (size / (LAW.l2_fraction * 40 * 2**20)) ** 4) ** 0.25
    memory_s = cached / (LAW.l2_speedup * RATE) + (size - cached) / RATE
    expected = fixed_s + (handled_s**4 + memory_s**4) ** 0.25
    assert seconds_of(kernel, size, tokens, columns)[0] == pytest.approx(expected, rel=1e-9)


def test_waves_make_steps():
    """The 217th row waits for a slot on 108 SMs that hold two CTAs, the 109th on SMs that hold one."""
    kernel = KERNELS["scalar"]["norm"]
    times = seconds_of(kernel, 0.0, np.array([1, 216, 217]), 4096.0)
    assert times[2] - times[1] > 8 * LAW.t_step
    narrow = A100.model_copy(update={"compute": A100.compute.model_copy(update={"threads_per_sm": 1536})})
    times = seconds_of(kernel, 0.0, np.array([108, 109, 216]), 4096.0, device=narrow)
    assert times[1] - times[0] > 8 * LAW.t_step
    assert times[2] == times[1]


def test_vectors_take_fewer_steps():
    """Today's kernels are faster for a few wide rows, where steps decide."""
    for kind in ("norm", "activation"):
        old, new = (seconds_of(KERNELS[written][kind], 1e5, 4, 8192.0)[0] for written in ("scalar", "vector"))
        assert new < old


def test_few_rows_are_looked_up_one_by_one():
    """Sixteen embeddings take longer than thirty-two, which have another kernel (measured: 12 and 4 us on H100)."""
    kernel = KERNELS["scalar"]["embedding"]
    one, sixteen, more = seconds_of(kernel, 1e5, np.array([1, 16, 32]), 4096.0)
    assert sixteen - one == pytest.approx(15 * kernel.per_row * LAW.t_step, rel=1e-9)
    assert more < sixteen / 2


@pytest.mark.parametrize("written", KERNELS)
def test_more_rows_never_take_less(written):
    """From one size to a larger one of the same kernel, time does not fall."""
    rows = np.arange(300, 5000.0, 17)
    for kernel in KERNELS[written].values():
        times = seconds_of(kernel, 4 * rows * 4096, rows, 4096.0)
        assert (np.diff(times) >= -1e-15).all()

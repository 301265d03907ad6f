"""Element-wise kernels: a fixed time and bytes, from L2 as far as it holds them."""

from __future__ import annotations

import numpy as np
import pytest

from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.elementwise import ElementwiseRows, elementwise_time
from machines import catalog_device, figures_of

A100 = catalog_device("a100-sxm-80gb")
LAW = laws_of(A100).elementwise
RATE = LAW.memory_factor * 0.87 * 2.039e12


def seconds_of(total_bytes, hbm_bytes=0.0):
    rows = ElementwiseRows(np.array([float(total_bytes)]), np.array([float(hbm_bytes)]))
    timing = elementwise_time(rows, LAW, figures_of(A100))
    return timing.duration_s(timing.memory_s())[0]


def test_a_small_kernel_is_served_by_l2():
    """A few MB take t0 and their bytes at L2's rate."""
    assert seconds_of(1e6) == pytest.approx(LAW.t0 + 1e6 / (LAW.l2_speedup * RATE), rel=1e-9)


def test_a_large_kernel_is_served_by_memory():
    """A GB takes t0 and its bytes at the kernel's rate of memory."""
    assert seconds_of(1e9) == pytest.approx(LAW.t0 + 1e9 / RATE, rel=1e-6)


def test_some_bytes_are_never_in_l2():
    """Embedding rows and cache lines go to memory, however few."""
    assert seconds_of(1e6, hbm_bytes=1e6) == pytest.approx(LAW.t0 + 1e6 / RATE, rel=1e-9)
    assert seconds_of(1e6, hbm_bytes=4e5) == pytest.approx(LAW.t0 + (4e5 + 6e5 / LAW.l2_speedup) / RATE, rel=1e-9)


def test_nothing_to_move_takes_the_launch():
    """No bytes: t0."""
    assert seconds_of(0) == LAW.t0

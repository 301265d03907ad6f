"""Products on devices nobody measured: what an SM takes in, what L2 and memory give, which kernels are lent."""

from __future__ import annotations

import pytest

from gpusim.hardware.memory import achieved_fraction
from gpusim.runtime.carried_matrix import WHOLE_L2, matrix_of
from gpusim.runtime.default_laws import carried_over, laws_of
from machines import catalog_device


def test_an_sm_takes_in_what_its_matrix_units_use():
    """Of another generation: bf16 FLOP/s / 32 where matrix units are narrow (A40, L40S), at most 107 bytes a cycle (MI300X)."""
    for name in ("a40", "l40s"):
        device = catalog_device(name)
        expected = device.compute.peak["bf16"] / device.compute.sm_count / 32
        assert laws_of(device).physics.matrix.sm_bandwidth == pytest.approx(expected, rel=1e-12)
    assert matrix_of(catalog_device("h100-sxm"), catalog_device("b200-sxm")).sm_bandwidth == pytest.approx(107 * 1.98e9)


def test_matrix_figures_of_a_sibling():
    """An H200 has an H100's L2 and SMs: as many bytes a second between them, although its memory is faster, which it strains more."""
    h100, h200 = (catalog_device(name) for name in ("h100-sxm", "h200-sxm"))
    own, donors = (laws_of(device).physics.matrix for device in (h200, h100))

    def rate(device, matrix):
        return matrix.streaming * achieved_fraction(device.memory) * device.memory.bandwidth

    assert own.l2_speedup * rate(h200, own) == pytest.approx(donors.l2_speedup * rate(h100, donors), rel=1e-9)
    assert own.sm_bandwidth == pytest.approx(donors.sm_bandwidth)
    assert own.streaming * achieved_fraction(h200.memory) < donors.streaming * achieved_fraction(h100.memory)


def test_which_kernels_take_a_single_row_is_not_lent_to_another_generation():
    """GB200 has B200's kernels for one row; H100, were it unmeasured, would not."""
    b200, h100, gb200 = (catalog_device(name) for name in ("b200-sxm", "h100-sxm", "gb200"))
    assert laws_of(gb200).gemm["fp8"].t_single_row == b200.laws.of("vllm").gemm["fp8"].t_single_row > 0
    assert carried_over(b200, h100).of("vllm").gemm["fp8"].t_single_row == 0


def test_l2_without_halves_counts_whole():
    """A GDDR die, were its only donor one with HBM, would have twice the usable part of L2, at most all of it."""
    matrix = matrix_of(catalog_device("rtx-pro-6000-server"), catalog_device("b200-sxm"))
    assert matrix.l2_fraction == WHOLE_L2

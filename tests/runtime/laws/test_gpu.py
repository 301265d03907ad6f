"""Which matrix rate and which law serve a type that a device does not state."""

from __future__ import annotations

import pytest

from gpusim.runtime.laws.gpu import law_for
from machines import catalog_device, figures_of


def figures_with(**peak):
    device = catalog_device("a100-sxm-80gb")
    return figures_of(device.model_copy(update={"compute": device.compute.model_copy(update={"peak": peak})}))


@pytest.mark.parametrize(
    ("dtype", "peak", "expected"),
    [
        ("bf16", {"bf16": 4.0, "fp16": 3.0}, 4.0),
        ("bf16", {"fp16": 3.0}, 3.0),
        ("fp16", {"bf16": 4.0}, 4.0),
        ("fp8", {"fp8": 8.0, "bf16": 4.0}, 8.0),
        ("fp8", {"bf16": 4.0}, 4.0),
        ("int8", {"int8": 8.0, "bf16": 4.0}, 4.0),
        ("int4", {"fp16": 3.0}, 3.0),
        ("fp32", {"fp32": 1.0, "bf16": 4.0}, 1.0),
        ("fp32", {"bf16": 4.0}, 2.0),
    ],
)
def test_the_matrix_rate_of_a_type(dtype, peak, expected):
    """16-bit types stand for each other, quantised weights are expanded to 16 bit, fp8 runs at its own rate if any."""
    assert figures_with(**peak).peak_flops(dtype) == expected


def test_figures_are_those_of_the_device():
    """SMs, L2 and peak bandwidth are the device's; the bandwidth is what it achieves."""
    figures = figures_of(catalog_device("a100-sxm-80gb"))
    assert (figures.sm_count, figures.l2_bytes) == (108, 40 * 2**20)
    assert figures.peak_bandwidth == pytest.approx(2.039e12, rel=1e-15)
    assert figures.bandwidth == 0.87 * figures.peak_bandwidth


@pytest.mark.parametrize(
    ("dtype", "laws", "expected"),
    [
        ("fp8", {"bf16": "b", "fp8": "f"}, "f"),
        ("fp8", {"bf16": "b"}, "b"),
        ("fp16", {"fp8": "f", "bf16": "b"}, "b"),
        ("bf16", {"fp16": "h", "fp8": "f"}, "h"),
        ("bf16", {"fp8": "f"}, "f"),
    ],
)
def test_a_type_without_a_law_uses_the_16_bit_one(dtype, laws, expected):
    """Its own law, else the 16-bit one, else what there is."""
    assert law_for(dtype, laws) == expected

"""Mixtures of experts: the law written out, and where it comes from the donor."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import catalog_model
from gpusim.model.experts import expert_kernels
from gpusim.model.layout import Layout
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.kernels import CalibratedLaws, RooflineLaws
from gpusim.runtime.laws.moe import GroupedRows, grouped_time, moe_law
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"]


def seconds_of(timing):
    return timing.duration_s(timing.memory_s())


def written_out(device, law, rows, experts, n, k):
    """The law for one product of 16-bit weights in plain floats."""
    bandwidth, sms = device.memory.efficiency * device.memory.bandwidth, device.compute.sm_count
    memory = experts * n * k * 2 / (law.memory_factor * bandwidth)
    memory += rows * (n + k) * 2 / (law.pass_factor * bandwidth)
    tiles = []
    for tile_m in (16, 64, 128):
        row_tiles = max(experts, experts / 2 + rows / tile_m)
        compute = 2 * row_tiles * tile_m * n * k / (law.compute_efficiency * device.compute.peak["bf16"])
        tiles.append(compute + ceil(row_tiles * ceil(n / 128) / sms) * law.t_wave)
    return law.t0 / 2 + (min(tiles) ** 3 + memory**3) ** (1 / 3)


@settings(max_examples=40)
@given(
    name=st.sampled_from(GPUS),
    experts=st.floats(1, 256),
    each=st.floats(1, 500),
    n=st.integers(64, 30_000),
    k=st.integers(64, 8000),
)
def test_the_law_written_out(name, experts, each, n, k):
    """The vectorised law is the formula."""
    device, rows = catalog_device(name), experts * each
    law = laws_of(device).moe["bf16"]
    sizes = (rows, experts, n, k, experts * n * k * 2, rows * (n + k) * 2)
    timing = grouped_time(GroupedRows(*(np.array([float(x)]) for x in sizes)), law, figures_of(device), "bf16")
    assert seconds_of(timing)[0] == pytest.approx(written_out(device, law, rows, experts, n, k), rel=1e-12)


@pytest.mark.parametrize("name", GPUS)
def test_a_layer_pays_its_launches_once(name):
    """Two products pay half of t0 each, sorting, activation and sum nothing."""
    device, model = catalog_device(name), catalog_model("mixtral-8x7b")
    laws = CalibratedLaws(figures_of(device), laws_of(device))
    moe = model.layers[0].mlp
    layer = expert_kernels(moe, model.hidden_size, 8, layout=Layout(), weights="bf16", width=2.0, skew=0.0)
    fixed = [float(laws.time(kernel).fixed_s[0]) for kernel in layer]
    assert sum(fixed) == pytest.approx(laws_of(device).moe["bf16"].t0, rel=1e-12)
    assert sorted(fixed)[:4] == [0, 0, 0, 0]


def test_mixtral_streams_its_experts():
    """32 tokens of Mixtral on H100 touch all experts: 0.9 ms of a layer's 2.8 GB at 0.91 of the bandwidth, 6 % beside."""
    device, model = catalog_device("h100-sxm"), catalog_model("mixtral-8x7b")
    laws = CalibratedLaws(figures_of(device), laws_of(device))
    moe = model.layers[0].mlp
    layer = expert_kernels(moe, model.hidden_size, 32, layout=Layout(), weights="bf16", width=2.0, skew=0.0)
    weights_s = 8 * 3 * 4096 * 14336 * 2 / (0.909 * 3.35e12)
    assert sum(float(seconds_of(laws.time(kernel))[0]) for kernel in layer) == pytest.approx(weights_s, rel=0.06)


def test_the_roofline_knows_experts():
    """Ideally a product takes its bytes at peak bandwidth or its FLOPs at peak rate."""
    device, model = catalog_device("h100-sxm"), catalog_model("mixtral-8x7b")
    laws = RooflineLaws(figures_of(device, ideal=True))
    for tokens, bound in ((1, "bytes"), (100_000, "flops")):
        layer = expert_kernels(model.layers[0].mlp, 4096, tokens, layout=Layout(), weights="bf16", width=2.0, skew=0.0)
        product = layer[2]
        moved_s = (product.weight_bytes + product.activation_bytes) / 3.35e12
        expected = moved_s if bound == "bytes" else product.flops / 989.4e12
        assert float(seconds_of(laws.time(product))[0]) == pytest.approx(expected, rel=1e-12)


def test_fp8_experts_are_scaled_in_blocks():
    """Where both were measured, fp8 weights take the law of block scales, as published checkpoints have them."""
    laws = laws_of(catalog_device("h100-sxm")).moe
    assert moe_law("fp8", laws) is laws["fp8_block"]
    assert moe_law("int4", laws) is laws["bf16"]


def test_a_device_without_measured_experts_borrows_them():
    """Own laws without `moe` and `mla` are completed from the donor, the rest stays."""
    device = catalog_device("h100-sxm")
    engines = {name: laws.model_copy(update={"moe": {}, "mla": {}}) for name, laws in device.laws.engines.items()}
    bare = device.laws.model_copy(update={"engines": engines})
    laws, whole = laws_of(device.model_copy(update={"laws": bare})), laws_of(device)
    assert laws.moe.keys() == laws_of(catalog_device("b200-sxm")).moe.keys()
    assert laws.model_copy(update={"moe": whole.moe, "mla": whole.mla}) == whole

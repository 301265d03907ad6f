"""Mixtures of experts: the law written out, which kernels there are, and where their laws come from."""

from __future__ import annotations

from math import ceil, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import catalog_model
from gpusim.model.experts import expert_kernels
from gpusim.model.layout import Layout
from gpusim.model.work import ExpertKernels, ExpertPass, GroupedGemm
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.kernels import CalibratedLaws, RooflineLaws
from gpusim.runtime.laws.moe import moe_law
from gpusim.runtime.laws.moe_tiles import Routed, tiles_of
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"]
RULES = ["triton", "triton_blocks", "triton_0_14", "cutlass", "cutlass_narrow", "trtllm"]
BF16 = ExpertKernels("bf16")


def seconds_of(timing):
    return float(timing.duration_s(timing.memory_s())[0])


def laws(name):
    device = catalog_device(name)
    return CalibratedLaws(figures_of(device), laws_of(device))


def layer(tokens, layout=Layout(), model="mixtral-8x7b"):  # noqa: B008  immutable
    moe, hidden = catalog_model(model).layers[-1].mlp, catalog_model(model).hidden_size
    return expert_kernels(moe, hidden, tokens, layout=layout, weights="bf16", width=2.0, skew=0.0)


def written_out(device, rows, experts, n, k, tokens):
    """The law for one product of 16-bit weights in plain floats, all experts on one rank."""
    law, physics = next(iter(laws_of(device).moe["bf16"].values())), laws_of(device).physics
    sms, bandwidth = device.compute.sm_count, device.memory.efficiency * device.memory.bandwidth
    routed = Routed(*(np.array([float(value)]) for value in (tokens, rows, experts)))
    m, c = (float(size[0]) for size in tiles_of(law.tiles, routed))
    tiles = max(experts, experts / 2 + rows / m) * ceil(n / c)
    odd = law.is_triton and k % 16
    taken_in = (10 * 64 * ceil(k / 64) if odd else k) * (c + m) * 2
    fed = law.t_tile + taken_in / (law.sm_factor * physics.matrix.sm_bandwidth)
    computed = 2 * m * c * k * sms / (law.compute_efficiency * device.compute.peak["bf16"])
    memory = experts * n * k * 2 / (law.memory_factor * bandwidth)
    return law.t0 / 2 + ((ceil(tiles / sms) * max(fed, computed)) ** 2 + memory**2) ** 0.5


@settings(max_examples=40)
@given(
    name=st.sampled_from(GPUS),
    experts=st.integers(1, 256),
    each=st.floats(1, 500),
    n=st.integers(64, 30_000),
    k=st.integers(64, 8000),
    tokens=st.integers(1, 2000),
)
def test_the_law_written_out(name, experts, each, n, k, tokens):
    """The vectorised law is the formula."""
    sizes = (experts * each, float(experts), 0.0, 0.0, experts, n, k)
    product = GroupedGemm("up", tokens, *sizes, "bf16", experts * n * k * 2.0, 0.0, BF16)
    expected = written_out(catalog_device(name), experts * each, experts, n, k, tokens)
    assert seconds_of(laws(name).time(product)) == pytest.approx(expected, rel=1e-12)


@given(tokens=st.integers(1, 4096), chosen=st.integers(1, 16), held=st.integers(1, 256), rule=st.sampled_from(RULES))
def test_tiles_are_powers_of_two(tokens, chosen, held, rule):
    """And more tokens never have smaller ones."""
    sizes = [
        tiles_of(rule, Routed(*(np.array([float(value)]) for value in (number, number * chosen, held))))
        for number in (tokens, 2 * tokens)
    ]
    assert all(log2(side[0]) == round(log2(side[0])) and 8 <= side[0] <= 128 for size in sizes for side in size)
    assert all(more[0] >= few[0] for few, more in zip(*sizes, strict=True))


@pytest.mark.parametrize("name", GPUS)
def test_a_layer_pays_its_launches_once(name):
    """Two products pay half of t0 each, sorting, activation and sum nothing."""
    fixed = [float(laws(name).time(kernel).fixed_s[0]) for kernel in layer(8)]
    law = next(iter(laws_of(catalog_device(name)).moe["bf16"].values()))
    assert sum(fixed) == pytest.approx(law.t0, rel=1e-12)
    assert sorted(fixed)[:4] == [0, 0, 0, 0]


def test_mixtral_streams_its_experts():
    """32 tokens of Mixtral on H100 touch all experts: 2.8 GB at 0.96 of the bandwidth, and a tenth of that beside."""
    weights_s = 8 * 3 * 4096 * 14336 * 2 / (0.96 * 3.35e12)
    assert sum(seconds_of(laws("h100-sxm").time(kernel)) for kernel in layer(32)) == pytest.approx(
        1.1 * weights_s, rel=0.05
    )


@given(tokens=st.integers(1, 1000))
@settings(max_examples=20)
def test_triton_passes_over_the_rows_of_other_ranks(tokens):
    """With experts on 8 ranks CUTLASS's kernels have an eighth of the rows, Triton's all, and tiles that write zeros."""
    split, whole = layer(tokens, Layout(8, enable_expert_parallel=True)), layer(tokens)
    for name in ("h100-sxm", "rtx-pro-6000-server"):
        own, all_rows = (
            sum(seconds_of(laws(name).time(k)) for k in kernels if isinstance(k, ExpertPass))
            for kernels in (split, whole)
        )
        assert own == pytest.approx(all_rows, rel=1e-9) if name == "h100-sxm" else own < all_rows
    fixed = [float(laws("h100-sxm").time(k).fixed_s[0]) for k in split if isinstance(k, GroupedGemm)]
    assert all(one > laws_of(catalog_device("h100-sxm")).moe["bf16"]["triton"].t0 / 2 for one in fixed)


def test_odd_slices_are_read_slowly_by_triton():
    """A slice of 232 hidden units of an expert takes longer than one of 240, which is more."""
    slow, fast = (
        GroupedGemm("down", 64, 64.0, 32.0, 0.0, 0.0, 128, 4096, k, "bf16", 32 * 4096 * k * 2.0, 0.0, BF16)
        for k in (232, 240)
    )
    assert seconds_of(laws("h100-sxm").time(slow)) > 1.5 * seconds_of(laws("h100-sxm").time(fast))
    assert seconds_of(laws("b200-sxm").time(slow)) < seconds_of(laws("b200-sxm").time(fast))


def test_the_roofline_knows_experts():
    """Ideally a product takes its bytes at peak bandwidth or its FLOPs at peak rate, a pass its bytes."""
    roofline = RooflineLaws(figures_of(catalog_device("h100-sxm"), ideal=True))
    for tokens, bound in ((1, "bytes"), (100_000, "flops")):
        product, activation = layer(tokens)[2:4]
        moved_s = (product.weight_bytes + product.activation_bytes) / 3.35e12
        expected = moved_s if bound == "bytes" else product.flops / 989.4e12
        assert seconds_of(roofline.time(product)) == pytest.approx(expected, rel=1e-12)
        assert seconds_of(roofline.time(activation)) == pytest.approx(activation.row_bytes / 3.35e12, rel=1e-12)


def test_which_law_kernels_have():
    """Their own; of the other kind of fp8; of the first library; of 16 bit."""
    known = laws_of(catalog_device("h100-sxm")).moe
    assert moe_law(ExpertKernels("fp8_block", "cutlass"), known) is known["fp8_block"]["cutlass"]
    assert moe_law(ExpertKernels("fp8_block"), known) is known["fp8_block"]["triton"]
    assert moe_law(ExpertKernels("fp8"), known) is known["fp8"]["cutlass"]
    assert moe_law(ExpertKernels("fp8", "triton"), known) is known["fp8_block"]["triton"]
    assert moe_law(ExpertKernels("fp8", "trtllm"), known) is known["fp8_block"]["triton"]
    assert moe_law(ExpertKernels("bf16", "trtllm"), known) is known["bf16"]["triton"]
    assert moe_law(ExpertKernels("int4"), known) is known["bf16"]["triton"]
    assert moe_law(ExpertKernels("fp8"), {"bf16": known["bf16"]}) is known["bf16"]["triton"]


def test_a_run_has_fp8_experts_scaled_in_blocks():
    """As published checkpoints have them."""
    moe = catalog_model("mixtral-8x7b").layers[0].mlp
    kernels = expert_kernels(moe, 4096, 8, layout=Layout(), weights="fp8", width=2.0, skew=0.0)
    assert {kernel.kernels.stored for kernel in kernels} == {"fp8_block"}


def test_a_device_without_measured_experts_borrows_them():
    """Own laws without `moe` and `mla` are completed from the donor, the rest stays."""
    device = catalog_device("h100-sxm")
    engines = {name: laws.model_copy(update={"moe": {}, "mla": {}}) for name, laws in device.laws.engines.items()}
    bare = device.laws.model_copy(update={"engines": engines})
    completed = laws_of(device.model_copy(update={"laws": bare}))
    assert completed.gemm == laws_of(device).gemm
    assert set(completed.moe) >= {"bf16", "fp8", "fp8_block"}
    assert completed.mla

"""The kernels of mixtures of experts: bytes and FLOPs add up to the model's."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_lowering, build_model, catalog_model
from gpusim.model.collectives import AllReduce
from gpusim.model.footprint import weight_bytes
from gpusim.model.layout import Layout
from gpusim.model.step import BatchShape
from gpusim.model.work import ExpertPass, Gemm, GroupedGemm
from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec, MoeSpec

ATTENTION = AttentionSpec(num_heads=8, num_kv_heads=8, head_dim=64)


def build_moe(**changes):
    """Return a small model with experts."""
    moe = MoeSpec(**{"num_experts": 8, "experts_per_token": 2, "expert_intermediate_size": 256, **changes})
    return build_model(group=LayersSpec(count=2, attention=ATTENTION, mlp=moe))


def step(model, tokens, **layout):
    """Return the kernels of a step of so many decodes, each as often as it runs."""
    lowering = build_lowering(model, layout=Layout(**layout))
    program = lowering.lower(BatchShape(tokens, 100 * tokens, (), tokens))
    return [kernel for count, part in program.parts for kernel in part for _ in range(count)]


def of_kind(kernels, kind):
    return [kernel for kernel in kernels if isinstance(kernel, kind)]


@pytest.mark.parametrize("shared", [0, 2])
def test_a_large_batch_reads_every_weight_but_the_embedding(shared):
    """Where all experts are touched, all matrices are read once."""
    model = build_moe(num_shared_experts=shared)
    kernels = step(model, 4000)
    read = sum(kernel.weight_bytes for kernel in of_kind(kernels, Gemm | GroupedGemm))
    embedding = model.vocab_size * model.hidden_size * 2
    norms = (2 * 2 + 1) * model.hidden_size * 2
    assert read == pytest.approx(weight_bytes(model, "bf16") - embedding - norms, rel=1e-9)


def test_one_token_reads_its_experts():
    """Two of eight experts, whole."""
    model = build_moe()
    read = sum(kernel.weight_bytes for kernel in of_kind(step(model, 1), GroupedGemm))
    assert read == pytest.approx(2 * 2 * 3 * model.hidden_size * 256 * 2, rel=1e-9)


@given(tokens=st.integers(1, 300), chosen=st.integers(1, 8))
def test_flops_are_those_of_the_chosen_experts(tokens, chosen):
    """As many as a dense block with the hidden units of the chosen experts has."""
    model = build_moe(experts_per_token=chosen)
    dense = build_model(group=LayersSpec(count=2, attention=ATTENTION, mlp=MlpSpec(intermediate_size=256 * chosen)))
    routed = sum(kernel.flops for kernel in of_kind(step(model, tokens), GroupedGemm))
    plain = sum(kernel.flops for kernel in of_kind(step(dense, tokens), Gemm) if kernel.name in {"gate_up", "down"})
    assert routed == pytest.approx(plain, rel=1e-9)


@given(tokens=st.integers(1, 300), tp=st.sampled_from([2, 4, 8]), parallel=st.booleans())
def test_ranks_share_the_work_evenly(tokens, tp, parallel):
    """Slices of all experts or all of some: a rank has its share of FLOPs and weight bytes, and the same all-reduces."""
    model = build_moe()
    alone, split = step(model, tokens), step(model, tokens, tensor_parallel_size=tp, enable_expert_parallel=parallel)
    for of in ("flops", "weight_bytes"):
        whole, own = (sum(getattr(k, of) for k in of_kind(kernels, GroupedGemm)) for kernels in (alone, split))
        assert tp * own == pytest.approx(whole, rel=1e-9)
    assert Counter(k.name for k in of_kind(split, AllReduce)) == {"embedding": 1, "attention": 2, "mlp": 2}


def test_skew_makes_one_rank_read_more():
    """With whole experts on ranks and one of them popular, the fullest rank decides: more than an even share of rows."""
    model = build_moe()
    layout = Layout(4, enable_expert_parallel=True)
    even, skewed = (
        [
            kernel
            for _, kernel in build_lowering(model, layout=layout, expert_skew=skew).token_kernels(64)
            if isinstance(kernel, GroupedGemm)
        ]
        for skew in (0.0, 1.5)
    )
    assert skewed[0].rows > 1.2 * even[0].rows == 1.2 * 64 * 2 / 4


def test_layers_of_several_kinds_have_their_own_kernels():
    """DeepSeek's first three layers are dense, the other 58 have experts and a shared one."""
    kernels = step(catalog_model("deepseek-v3"), 1)
    names = [kernel.name for kernel in kernels]
    assert (names.count("gate_up"), names.count("experts_gate_up"), names.count("shared_gate_up")) == (3, 58, 58)
    assert names.index("experts_gate_up") > len(names) - 1 - names[::-1].index("gate_up")


def test_routed_kernels_say_so():
    """Sorting, activation and sum of routed experts belong to their law; those of shared experts do not."""
    kernels = of_kind(step(build_moe(num_shared_experts=1), 4), ExpertPass)
    assert {kernel.name for kernel in kernels} == {"top_k", "permute", "experts_activation", "combine"}


def test_a_model_without_experts_has_none_to_place():
    """`enable_expert_parallel` on a dense model is a slip."""
    assert "has no experts" in Layout(2, enable_expert_parallel=True).problem(build_model())


@pytest.mark.parametrize(("tp", "fits"), [(2, True), (8, True), (16, False)])
def test_experts_must_be_dealt_out_evenly(tp, fits):
    """Eight experts go on 2, 4 or 8 ranks; on 16 the error names what works."""
    problem = Layout(tp, enable_expert_parallel=True).problem(build_moe())
    assert (problem is None) == fits
    if not fits:
        assert "16 ranks do not divide num_experts = 8" in problem
        assert "try 1, 2, 4, 8, or leave" in problem

"""Weights and KV bytes against published counts and closed forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_model, catalog_model
from gpusim.model.attention import with_attention
from gpusim.model.footprint import kv_bytes_per_token, num_parameters, weight_bytes
from gpusim.model.layout import Layout


@pytest.mark.parametrize(
    ("name", "published"),
    [("llama-2-7b", 6_738_415_616), ("llama-2-70b", 68_976_648_192), ("llama-3.1-8b", 8_030_261_248)],
)
def test_parameters_equal_the_published_count(name, published):
    """The layer arithmetic counts every parameter of a released model, exactly."""
    assert num_parameters(catalog_model(name)) == published


def test_mha_keeps_half_a_megabyte_per_token():
    """Llama-7B with multi-head attention keeps 524,288 bytes of 16-bit KV per token: 2 · 32 layers · 4096 · 2 B."""
    assert kv_bytes_per_token(catalog_model("llama-2-7b"), "fp16") == 524_288


@given(dtype=st.sampled_from([("fp32", 4), ("bf16", 2), ("fp8", 1), ("int8", 1), ("int4", 0.5)]))
def test_kv_bytes_follow_the_dtype(dtype):
    """A token's KV is its element count times the width of the type."""
    name, width = dtype
    assert kv_bytes_per_token(build_model(layers=3, heads=8, kv_heads=2), name) == 2 * 3 * 2 * 64 * width


@given(tp=st.sampled_from([1, 2, 4, 8]))
def test_shards_hold_the_whole_model(tp):
    """Over all ranks there are as many weights as in the model, norms (which every rank keeps) counted once."""
    model = build_model(heads=8, kv_heads=8)
    norms = (2 * 2 + 1) * model.hidden_size
    assert tp * (num_parameters(model, Layout(tp)) - norms) + norms == num_parameters(model)


def test_few_kv_heads_are_replicated():
    """With more ranks than KV heads every rank keeps one whole head, so the ranks together keep copies."""
    model = build_model(heads=8, kv_heads=2)
    assert kv_bytes_per_token(model, "bf16", Layout(8)) == kv_bytes_per_token(model, "bf16", Layout(2))


def test_mqa_shrinks_cache_and_projections():
    """`attention: mqa` leaves one KV head, in the cache and in the weights."""
    mha = build_model(heads=8, kv_heads=8)
    mqa = with_attention(mha, "mqa")
    assert kv_bytes_per_token(mqa, "bf16") * 8 == kv_bytes_per_token(mha, "bf16")
    assert num_parameters(mha) - num_parameters(mqa) == 2 * 2 * 7 * 64 * mha.hidden_size


def test_kept_weights_shrink_the_cache_only():
    """With the thread's assumption MQA reads the weights of MHA."""
    mha = build_model()
    mqa = with_attention(mha, "mqa", keep_weights=True)
    assert weight_bytes(mqa, "bf16") == weight_bytes(mha, "bf16")
    assert kv_bytes_per_token(mqa, "bf16") < kv_bytes_per_token(mha, "bf16")


def test_gqa_must_divide_the_heads():
    """A number of KV heads that leaves a rest is refused with both numbers."""
    with pytest.raises(ValueError, match="3 KV heads do not divide num_heads = 8"):
        with_attention(build_model(), "gqa:3")


@pytest.mark.parametrize(("heads", "kv_heads", "tp", "fits"), [(8, 8, 3, False), (8, 2, 8, True), (12, 4, 6, False)])
def test_layout_knows_what_can_be_split(heads, kv_heads, tp, fits):
    """Heads must be divided evenly, KV heads be divided or replicated evenly."""
    model = build_model(heads=heads, kv_heads=kv_heads)
    assert (Layout(tp).problem(model) is None) == (fits and 1024 % tp == 0)


def test_embedding_and_head_are_never_quantised():
    """int4 weights of Llama-3.1-8B take 5.6 GB, not 4.0: its two 128 k-row matrices and its norms stay in 16 bit."""
    model = catalog_model("llama-3.1-8b")
    kept = 2 * 128_256 * 4096 + 65 * 4096
    assert weight_bytes(model, "int4") == (num_parameters(model) - kept) / 2 + 2 * kept
    assert weight_bytes(model, "int4") == pytest.approx(5.6e9, rel=0.01)

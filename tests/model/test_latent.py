"""Multi-head latent attention: what is cached, read and computed, absorbed and expanded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_lowering, catalog_model
from gpusim.model.attention import with_attention
from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.model.layout import Layout
from gpusim.model.step import BatchShape
from gpusim.model.work import Attention, Gemm, GroupedGemm

V3 = catalog_model("deepseek-v3")
TINY = catalog_model("tiny-mla")


def kernels(model, shape, tp=1):
    program = build_lowering(model, tp=tp).lower(shape)
    return [kernel for count, part in program.parts for kernel in part for _ in range(count)]


def attention_of(model, shape, tp=1):
    return next(kernel for kernel in kernels(model, shape, tp) if isinstance(kernel, Attention))


@pytest.mark.parametrize("tp", [1, 8, 16])
def test_the_latent_is_cached_on_every_rank(tp):
    """DeepSeek V3 keeps 61 x (512 + 64) elements of a token, however it is split: 70,272 bytes in 16 bit."""
    assert kv_bytes_per_token(V3, "bf16", Layout(tp)) == 61 * 576 * 2 == 70_272


def test_all_weights_are_read_by_a_step_of_decodes():
    """Projections, absorbed ones included, dense layers and all experts: every matrix but the embedding, once."""
    tokens = 4000
    step = kernels(TINY, BatchShape(tokens, 9 * tokens, (), tokens))
    read = sum(kernel.weight_bytes for kernel in step if isinstance(kernel, Gemm | GroupedGemm))
    read += sum(float(kernel.latent.weight_bytes[0]) for kernel in step if isinstance(kernel, Attention))
    hidden, layers, latent = TINY.hidden_size, 2, 64 + 128
    vectors = ((2 * layers + 1) * hidden + layers * latent) * 2
    assert read == pytest.approx(weight_bytes(TINY, "bf16") - vectors - TINY.vocab_size * hidden * 2, rel=1e-9)


@given(decodes=st.integers(1, 64), context=st.integers(1, 4000), tp=st.sampled_from([1, 8]))
def test_decodes_attend_to_one_head_of_576(decodes, context, tp):
    """Absorbed: 128/TP heads, 576 elements of key and 512 of value a token, and two small products a head and decode."""
    work = attention_of(V3, BatchShape(decodes, decodes * context, (), decodes), tp)
    heads = 128 // tp
    attended = 2 * heads * (576 + 512) * decodes * context
    absorbed = 2 * heads * 512 * (128 + 128) * decodes
    assert work.flops[0] == pytest.approx(attended + absorbed, rel=1e-12)
    assert work.kv_bytes[0] == decodes * context * 576 * 2


@given(new=st.integers(1, 500), before=st.integers(0, 3000))
def test_chunks_expand_their_whole_context(new, before):
    """Prefill: keys of 192 and values of 128 a head are made of every cached token, and attended to."""
    context = new + before
    work = attention_of(V3, BatchShape(0, 0, ((new, context),), 1))
    pairs = sum(context - new + 1 + i for i in range(new))
    assert work.prefill_flops[0] == pytest.approx(2 * 128 * (192 + 128) * pairs, rel=1e-12)
    assert work.latent.projection_flops[0] == pytest.approx(2 * 512 * 128 * 256 * context, rel=1e-12)
    assert work.latent.expanded_bytes[0] == 2 * 2 * 128 * (192 + 128) * context
    assert work.decode_flops[0] == 0


@given(decodes=st.integers(0, 20), new=st.integers(0, 60))
def test_a_mixed_batch_is_both(decodes, new):
    """A batch of decodes and a chunk has the work of either by itself."""
    chunk = ((new, new + 9),) if new else ()
    both = attention_of(TINY, BatchShape(decodes, 7 * decodes, chunk, decodes))
    alone = [
        attention_of(TINY, shape)
        for shape in (BatchShape(decodes, 7 * decodes, (), decodes), BatchShape(0, 0, chunk, 0))
    ]
    for of in ("flops", "kv_bytes", "activation_bytes"):
        assert getattr(both, of)[0] == pytest.approx(sum(getattr(work, of)[0] for work in alone), rel=1e-12)
    for of in ("weight_bytes", "projection_flops", "expanded_bytes"):
        expected = sum(getattr(work.latent, of)[0] for work in alone)
        assert getattr(both.latent, of)[0] == pytest.approx(expected, rel=1e-12)


def test_steps_grow_by_a_token_a_decode():
    """Over several steps of one batch the absorbed context grows, the projections do not."""
    work = next(k for _, k in build_lowering(TINY).attention(shapes_of(3, 30, 4)))
    np.testing.assert_array_equal(work.latent.decode_context, [30, 33, 36, 39])
    assert len(set(work.latent.projection_flops.tolist())) == 1


def shapes_of(decodes, context, steps):
    from gpusim.model.step import StepShapes

    return StepShapes.of(BatchShape(decodes, context, (), decodes), steps)


def test_queries_without_a_latent_are_projected_at_once():
    """DeepSeek V2-Lite has no q_lora_rank: a query projection instead of two."""
    names = {kernel.name for kernel in kernels(catalog_model("deepseek-v2-lite"), BatchShape(1, 9, (), 1))}
    assert {"q", "kv_a"} <= names
    assert not {"qkv_a", "q_b"} & names


def test_latent_attention_cannot_be_replaced():
    """`attention: mqa` makes no sense of a model whose heads share a latent."""
    with pytest.raises(ValueError, match="latent attention has no KV heads"):
        with_attention(V3, "mqa")

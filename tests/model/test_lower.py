"""The kernels of a step: their bytes and FLOPs add up to the model's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_lowering, build_model, catalog_model
from gpusim.model.collectives import AllReduce
from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.model.step import BatchShape
from gpusim.model.work import Attention, Elementwise, Gemm

shapes = st.builds(
    lambda decodes, context, chunks: BatchShape(
        num_decodes=decodes,
        decode_context=decodes * context,
        chunks=tuple((new, new + before) for new, before in chunks),
        num_sampled=decodes + len(chunks),
    ),
    decodes=st.integers(0, 64),
    context=st.integers(1, 4000),
    chunks=st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 3000)), min_size=1, max_size=3),
)


def kernels(program):
    """Yield every kernel of a step as often as it runs."""
    for count, part in program.parts:
        for kernel in part:
            yield from [kernel] * count


def of_kind(program, kind):
    return [kernel for kernel in kernels(program) if isinstance(kernel, kind)]


@given(shape=shapes)
def test_every_weight_but_the_embedding_is_read_once(shape):
    """The matrix products of a step read all matrices of the model, except the input embedding."""
    model = build_model()
    program = build_lowering(model).lower(shape)
    embedding = model.vocab_size * model.hidden_size * 2
    norms = (2 * 2 + 1) * model.hidden_size * 2
    assert sum(k.weight_bytes for k in of_kind(program, Gemm)) == weight_bytes(model, "bf16") - embedding - norms


@given(shape=shapes, steps=st.integers(1, 5))
def test_attention_reads_each_context_once_a_step(shape, steps):
    """KV bytes are the context of all sequences, growing by a token a decode and step."""
    model = build_model(kv_heads=2)
    program = build_lowering(model).lower(shape, steps)
    prefill = sum(context for _, context in shape.chunks)
    tokens = shape.decode_context + prefill + shape.num_decodes * np.arange(steps)
    total = sum(k.kv_bytes for k in of_kind(program, Attention))
    np.testing.assert_allclose(total, tokens * kv_bytes_per_token(model, "bf16"), rtol=1e-12)


@given(first=st.integers(1, 500), rest=st.integers(1, 500))
def test_prefill_in_chunks_computes_the_same_pairs(first, rest):
    """Chunked prefill does the FLOPs of attention over the whole prompt: every token with all up to itself."""
    lower = build_lowering().lower
    whole = lower(BatchShape(0, 0, ((first + rest, first + rest),), 1))
    parts = [lower(BatchShape(0, 0, ((first, first),), 0)), lower(BatchShape(0, 0, ((rest, first + rest),), 1))]
    flops = sum(k.prefill_flops for part in parts for k in of_kind(part, Attention))
    assert flops == pytest.approx(sum(k.prefill_flops for k in of_kind(whole, Attention)), rel=1e-12)


@given(tp=st.sampled_from([2, 4, 8]), shape=shapes)
def test_ranks_share_the_flops(tp, shape):
    """Tensor parallelism divides the FLOPs of every product; together the ranks do the work of one GPU."""
    model = build_model(heads=8, kv_heads=8)
    alone, split = build_lowering(model).lower(shape), build_lowering(model, tp=tp).lower(shape)
    assert tp * sum(k.flops for k in of_kind(split, Gemm)) == sum(k.flops for k in of_kind(alone, Gemm))
    assert tp * sum(k.flops for k in of_kind(split, Attention)) == sum(k.flops for k in of_kind(alone, Attention))


def test_two_all_reduces_a_layer_and_one_after_the_embedding():
    """A Llama layer joins the ranks twice, a Falcon layer (attention beside MLP) once; a single rank never."""
    shape = BatchShape(4, 400, (), 4)
    llama = build_lowering(build_model(layers=3), tp=2).lower(shape)
    group = build_model(layers=3).layers[0].model_copy(update={"parallel": True, "num_norms": 1})
    falcon = build_lowering(build_model(group=group), tp=2).lower(shape)
    assert [len(of_kind(p, AllReduce)) for p in (llama, falcon)] == [7, 4]
    assert not of_kind(build_lowering().lower(shape), AllReduce)


def test_naive_attention_moves_the_scores():
    """The naive kernel writes and reads scores and probabilities in fp32: 16 bytes a head and pair of tokens."""
    shape = BatchShape(3, 300, ((50, 50),), 4)
    fused, naive = (build_lowering(attention_kernel=k).lower(shape) for k in ("fused", "naive"))
    extra = of_kind(naive, Attention)[0].activation_bytes - of_kind(fused, Attention)[0].activation_bytes
    assert extra[0] == 4 * 4.0 * 8 * (300 + 50 * 51 / 2)


@pytest.mark.parametrize(("dtype", "width"), [("bf16", 2), ("fp8", 1), ("int4", 0.5)])
def test_quantised_weights_are_read_in_their_width(dtype, width):
    """A projection reads n · k elements of the stored type."""
    gemm = of_kind(build_lowering(weights=dtype).lower(BatchShape(1, 10, (), 1)), Gemm)[0]
    assert gemm.weight_bytes == gemm.n * gemm.k * width


def test_a_batch_without_finished_prompts_samples_nothing():
    """A step of unfinished prefill chunks has no LM head."""
    program = build_lowering().lower(BatchShape(0, 0, ((64, 64),), 0))
    assert "lm_head" not in {kernel.name for kernel in kernels(program)}


def test_falcon_has_one_norm_a_layer_and_one_kv_head():
    """The catalog's Falcon-7B: parallel blocks, MQA."""
    program = build_lowering(catalog_model("falcon-7b")).lower(BatchShape(1, 100, (), 1))
    names = [kernel.name for kernel in of_kind(program, Elementwise)]
    assert names.count("norm0") == 32
    assert "norm1" not in names
    assert of_kind(program, Attention)[0].num_kv_heads == 1


def names_of(model, **changes):
    """Return the names of the kernels of a decode step in order, those of a layer once."""
    program = build_lowering(model, **changes).lower(BatchShape(2, 200, (), 2))
    return [kernel.name for _, part in program.parts for kernel in part]


def test_families_differ_in_their_small_kernels():
    """Qwen3 normalises Q and K before it rotates them; BLOOM rotates nothing and normalises what it looks up."""
    qwen, bloom = names_of(catalog_model("qwen3-0.6b")), names_of(catalog_model("bloom-176b"), tp=8)
    assert qwen[qwen.index("qkv") :][:4] == ["qkv", "q_norm", "k_norm", "rope"]
    assert bloom[:4] == ["embedding", "embedding", "embedding_norm", "norm0"]
    assert "rope" not in bloom


def test_learned_positions_are_looked_up_from_memory():
    """GPT-3 reads a row of its table of positions for every token, and adds it."""
    program = build_lowering(catalog_model("gpt-3-125m")).lower(BatchShape(3, 300, (), 3))
    looked_up = next(kernel for kernel in of_kind(program, Elementwise) if kernel.name == "position_embedding")
    assert (looked_up.hbm_bytes, looked_up.bytes_read, looked_up.bytes_written) == (4608, 9216, 4608)


def test_query_norms_move_the_heads_of_a_rank():
    """A norm of Q reads and writes what the rank's heads have: 16 heads of 128, 2 bytes, 2 tokens, on 2 ranks."""
    program = build_lowering(catalog_model("qwen3-0.6b"), tp=2).lower(BatchShape(2, 200, (), 2))
    moved = {k.name: (k.bytes_read, k.bytes_written) for k in of_kind(program, Elementwise)}
    assert (moved["q_norm"], moved["k_norm"]) == ((4096, 4096), (2048, 2048))

"""Multi-head latent attention: its projections, and what decodes and chunks do with one latent vector a token.

Every rank caches the latent and the rotated part of the key, which all heads share: replicated, not divided. Decodes are
absorbed: queries are projected into the latent space head by head, attend to the cache as one KV head of `head_dim`, and
their outputs are projected back. For a chunk, keys and values of its whole context are expanded from the cache, head by
head, and attended to as in multi-head attention (vLLM gathers and expands cached context in pieces of its workspace).

Reference: DeepSeek-AI, 2024, "DeepSeek-V2: a strong, economical, and efficient mixture-of-experts language model".
"""

from __future__ import annotations

import numpy as np

from gpusim.model.arrays import Count
from gpusim.model.layout import Layout
from gpusim.model.step import StepShapes
from gpusim.model.work import Attention, Elementwise, Gemm, Kernel, LatentWork
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import AttentionSpec, LatentSpec

PROJECTED_BYTES = 2.0
"""Of an element of the absorbed projections, of expanded keys and values: 16 bit whatever the weights are stored in."""


def latent_elements(attention: AttentionSpec, latent: LatentSpec, hidden: int, layout: Layout) -> int:
    """Weights of the projections on one rank; those into latent space are on every rank."""
    heads = layout.heads(attention)
    into_latent = hidden * (latent.kv_lora_rank + latent.qk_rope_head_dim)
    query = heads * latent.qk_head_dim
    queries = hidden * query if latent.q_lora_rank is None else latent.q_lora_rank * (hidden + query)
    output = heads * latent.v_head_dim * hidden
    return into_latent + queries + _expansion(heads, latent) + output


def latent_norms(latent: LatentSpec) -> int:
    """Weights of the norms of the latent vectors."""
    return latent.kv_lora_rank + (latent.q_lora_rank or 0)


def _expansion(heads: int, latent: LatentSpec) -> int:
    """Weights that make keys and values of all heads from the latent."""
    return latent.kv_lora_rank * heads * (latent.qk_nope_head_dim + latent.v_head_dim)


def projections(
    attention: AttentionSpec, latent: LatentSpec, hidden: int, num_tokens: Count, *, layout: Layout, weights: Dtype
) -> tuple[tuple[Kernel, ...], Gemm]:
    """Return what comes before the attention of *num_tokens*, rotation and cache left out, and the output projection."""
    heads, cached = layout.heads(attention), latent.kv_lora_rank + latent.qk_rope_head_dim
    width = 4.0 if weights == "fp32" else 2.0

    def gemm(name: str, n: int, k: int) -> Gemm:
        return Gemm(name, num_tokens, n, k, weights, n * k * DTYPE_BYTES[weights], num_tokens * ((n + k) * width))

    def norm(size: int) -> Elementwise:
        size_bytes = num_tokens * (size * width)
        return Elementwise("latent_norm", size_bytes, size_bytes, "norm", num_tokens, size)

    query = heads * latent.qk_head_dim
    output = gemm("o", hidden, heads * latent.v_head_dim)
    if latent.q_lora_rank is None:
        return (gemm("q", query, hidden), gemm("kv_a", cached, hidden), norm(latent.kv_lora_rank)), output
    first = gemm("qkv_a", latent.q_lora_rank + cached, hidden)
    return (first, norm(latent_norms(latent)), gemm("q_b", query, latent.q_lora_rank)), output


def latent_attention(
    attention: AttentionSpec,
    latent: LatentSpec,
    shapes: StepShapes,
    *,
    layout: Layout,
    dtype: Dtype,
    token_bytes: float,
    kv_kind: int,
) -> Attention:
    """Return the attention of one layer over steps, expansion and absorption included.

    Args:
        attention: Of the layer.
        latent: The same.
        shapes: What the steps compute.
        layout: How heads are split.
        dtype: Stored type of the cache.
        token_bytes: That a token keeps in it, in one layer.
        kv_kind: See `Attention.kv_kind`.
    """
    heads = layout.heads(attention)
    decodes, chunks = shapes.num_decodes.astype(np.float64), shapes.chunk_context.astype(np.float64)
    decode = shapes.decode_context.astype(np.float64)
    in_latent = attention.head_dim + latent.kv_lora_rank
    expanded = latent.qk_head_dim + latent.v_head_dim
    weights = _expansion(heads, latent)
    chunk_tokens = shapes.num_tokens - decodes
    kv_tokens = decode + chunks
    work = LatentWork(
        num_decodes=decodes,
        decode_context=decode,
        chunk_context=chunks,
        latent_dim=latent.kv_lora_rank,
        rope_dim=latent.qk_rope_head_dim,
        weight_bytes=PROJECTED_BYTES * weights * ((decodes > 0) + 1.0 * (chunks > 0)),
        projection_flops=2.0 * weights * (decodes + chunks),
        expanded_bytes=2 * PROJECTED_BYTES * chunks * heads * expanded,
    )
    return Attention(
        name="attention",
        num_sequences=shapes.num_sequences.astype(np.float64),
        num_heads=heads,
        num_kv_heads=1,
        head_dim=attention.head_dim,
        dtype=dtype,
        kv_tokens=kv_tokens,
        kv_bytes=kv_tokens * token_bytes,
        activation_bytes=PROJECTED_BYTES * heads * (decodes * in_latent + chunk_tokens * expanded),
        decode_flops=2.0 * heads * in_latent * decode,
        prefill_flops=2.0 * heads * expanded * shapes.chunk_pairs,
        latent=work,
        kv_kind=kv_kind,
    )

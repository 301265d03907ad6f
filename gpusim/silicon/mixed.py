"""Attention of whole steps: a prefill chunk with decodes in one call, and decodes of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from gpusim.core.arrays import FloatArray
from gpusim.model.chunks import ChunkWork
from gpusim.model.work import Attention
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.tables import columns
from gpusim.spec.device import DeviceSpec

WIDTH = 2.0
"""Bytes of an element: all rows are of 16-bit models and caches."""
SKEWED_CALLS: Final = 3
"""Calls whose times a row of the skewed table adds up: its uniform batches take three times what the mixed table has for them."""
_HEADS = ("n_heads", "n_kv_heads", "head_dim")


def _attention(
    table: pl.DataFrame,
    decodes: FloatArray,
    decode_context: FloatArray,
    chunk: tuple[FloatArray, FloatArray],
    longest: FloatArray,
) -> Attention:
    """Return the calls of rows.

    Args:
        table: Says the heads.
        decodes: (rows,) Sequences that decode.
        decode_context: (rows,) Tokens of all of them together.
        chunk: (rows,) each, its new tokens and the context up to and including them; 0 for none.
        longest: (rows,) Tokens of the longest decode.
    """
    heads, kv_heads, head_dim = columns(table, *_HEADS)
    new, context = chunk
    token_bytes = 2 * kv_heads * head_dim * WIDTH
    pairs = new * (context - (new - 1) / 2)
    is_any = (new > 0).astype(np.float64)
    tokens = decode_context + context
    return Attention(
        "attention",
        num_sequences=decodes + is_any,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        dtype="bf16",
        kv_tokens=tokens,
        kv_bytes=tokens * token_bytes,
        activation_bytes=2 * (decodes + new) * heads * head_dim * WIDTH,
        decode_flops=4 * heads * head_dim * decode_context,
        prefill_flops=4 * heads * head_dim * pairs,
        chunks=ChunkWork(is_any, new, pairs, context, context * token_bytes),
        longest=np.maximum(context, longest),
    )


def _calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    """Calls inside a forward pass, whose other kernels leave nothing of the KV in L2; contexts are those before the call."""
    new, before, decodes, each = columns(table, "prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    chunk = new, (before + new) * (new > 0)
    work = _attention(table, decodes, decodes * (each + 1), chunk, (each + 1) * (decodes > 0))
    return [Calls(table["row"].to_numpy(), (work,), ("engines", "vllm", "prefill"))]


def _skewed_calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    sequences, long, short_context, long_context = columns(table, "n", "nb", "kvs", "kv_big")
    context = long * (long_context + 1) + (sequences - long) * (short_context + 1)
    nothing, longest = np.zeros_like(context), 1 + np.where(long > 0, long_context, short_context)
    work = _attention(table, sequences, context, (nothing, nothing), longest)
    return [Calls(table["row"].to_numpy(), (work,) * SKEWED_CALLS, ("engines", "vllm", "attention", "bf16"))]


def _region() -> pl.Expr:
    return (
        pl.when(pl.col("prefill_chunk") == 0)
        .then(pl.lit("decodes"))
        .when((pl.col("n_decode") == 0) & (pl.col("kv_prefill") == 0))
        .then(pl.lit("whole prompt"))
        .when(pl.col("n_decode") == 0)
        .then(pl.lit("chunk"))
        .otherwise(pl.lit("chunk and decodes"))
    )


MIXED = Family(
    kind="sattn",
    file="attention_mixed_lss",
    words=(),
    numbers=("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", *_HEADS),
    calls=_calls,
    core=lambda *_: pl.lit(value=True),
    shape=(*_HEADS, "prefill_chunk", "n_decode"),
    region=_region,
    reasons=(("no tokens", (pl.col("prefill_chunk") == 0) & (pl.col("n_decode") == 0)),),
)
SKEWED = Family(
    kind="skew",
    file="attention_skew_lss",
    words=(),
    numbers=("n", "nb", "kvs", "kv_big", *_HEADS),
    calls=_skewed_calls,
    core=lambda *_: pl.lit(value=True),
    shape=(*_HEADS, "n", "nb"),
    region=lambda: pl.lit("decodes of two lengths"),
    reasons=(("no tokens", pl.col("n") == 0),),
)

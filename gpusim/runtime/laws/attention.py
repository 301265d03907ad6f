"""Attention over a paged KV cache: work items, context splits, memory.

    U      = sequences · kv_heads · ceil(heads / kv_heads / 64)        work items
    S      = splits of the context, to fill SMs · occupancy
    waves  = ceil(U · S / (SMs · occupancy))
    other  = waves · (t_cta + chunk · 2 · head_dim · width / cta_bandwidth)
    memory = (KV + Q + O) / rate + split buffers in L2
    t      = t0 + smooth_max(other, memory) + [S > 1] t_split

A batch of mixed lengths takes what a uniform one with the same total takes (measured: 1.02 times, median).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpusim.core.clock import FloatArray
from gpusim.model.work import Attention
from gpusim.runtime.laws.gpu import GpuFigures, law_for
from gpusim.runtime.laws.timing import KernelTime, l2_hit
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.laws import AttentionLawSpec

HEADS_PER_ITEM = 64
MAX_SPLITS = 128
_MOST_BLOCKS = 2.0**24
"""More context blocks than any sequence has; so far apart, two whole numbers share one float exactly."""
SPLIT_BUFFER_BYTES = 8.0
"""Written and read per head and split: an fp32 partial output element."""


@dataclass(frozen=True, slots=True)
class AttentionRows:
    """Attention calls, one a row; all arrays (rows,)."""

    sequences: FloatArray
    context: FloatArray
    """Mean tokens per sequence."""
    num_heads: FloatArray
    num_kv_heads: FloatArray
    head_dim: FloatArray
    kv_bytes: FloatArray
    activation_bytes: FloatArray
    reuse_distance: FloatArray | None = None
    """Bytes read between two readings of the same KV; None: L2 holds none of it."""


def attention_rows(work: Attention) -> AttentionRows:
    """Return *work* as rows, one a step."""
    ones = np.ones_like(work.kv_tokens)
    return AttentionRows(
        sequences=work.num_sequences,
        context=work.kv_tokens / work.num_sequences,
        num_heads=work.num_heads * ones,
        num_kv_heads=work.num_kv_heads * ones,
        head_dim=work.head_dim * ones,
        kv_bytes=work.kv_bytes,
        activation_bytes=work.activation_bytes,
        reuse_distance=work.reuse_distance,
    )


def attention_time(
    rows: AttentionRows, laws: dict[Dtype, AttentionLawSpec], gpu: GpuFigures, dtype: Dtype
) -> KernelTime:
    """Apply the law to *rows*.

    Args:
        rows: The calls.
        laws: Parameters by KV dtype.
        gpu: The GPU.
        dtype: Of the cache.
    """
    law = law_for(dtype, laws)
    slots = float(gpu.sm_count * law.occupancy)
    items = rows.sequences * rows.num_kv_heads * np.ceil(rows.num_heads / rows.num_kv_heads / HEADS_PER_ITEM)
    splits = _splits(items, rows.context, slots, law)
    waves = np.ceil(items * splits / slots)
    chunk_bytes = np.ceil(rows.context / splits) * 2 * rows.head_dim * DTYPE_BYTES[dtype]
    rate = law.memory_factor * gpu.bandwidth
    is_split = splits > 1
    buffers = is_split * SPLIT_BUFFER_BYTES * rows.sequences * rows.num_heads * rows.head_dim * splits
    hit = l2_hit(rows.reuse_distance, law.l2_fraction * gpu.l2_bytes)
    return KernelTime(
        fixed_s=np.where(is_split, law.t0 + law.t_split, law.t0),
        other_s=waves * (law.t_cta + chunk_bytes / law.cta_bandwidth),
        l2_s=(buffers + hit * rows.kv_bytes) / (law.l2_speedup * rate),
        even_bytes=rows.activation_bytes,
        kv_bytes=(1 - hit) * rows.kv_bytes,
        memory_rate=rate,
        smoothness=law.smoothness,
    )


def _splits(items: FloatArray, context: FloatArray, slots: float, law: AttentionLawSpec) -> FloatArray:
    """Splits of each context."""
    if law.split_rule == "flash":
        return flash_splits(items, np.ceil(context / law.min_split), slots)
    most = np.maximum(1.0, context / law.min_split)
    result: FloatArray = np.floor(np.clip(np.floor(slots / items), 1.0, most))
    return result


def flash_splits(items: FloatArray, blocks: FloatArray, slots: float) -> FloatArray:
    """FlashAttention's choice: the fewest splits that fill the last wave to 85 % of the best possible.

    Args:
        items: (rows,) Work items before splitting.
        blocks: (rows,) Context blocks that can be dealt out.
        slots: Work items that run at once.

    Reference: Dao, 2023, "Flash-Decoding for long-context inference".
    """
    # Calls alike in both take the same splits: deciding for each kind once is most of the saving of a long run.
    kinds, of = np.unique(items * _MOST_BLOCKS + blocks, return_inverse=True)
    chosen: FloatArray = _flash_splits(kinds // _MOST_BLOCKS, kinds % _MOST_BLOCKS, slots)[of]
    return chosen


def _flash_splits(items: FloatArray, blocks: FloatArray, slots: float) -> FloatArray:
    candidates = np.arange(1.0, min(MAX_SPLITS, max(1.0, blocks.max(initial=1.0))) + 1)
    per_split = np.ceil(blocks[:, None] / candidates)
    # More splits than before must shorten the longest piece, or they only add work.
    useful = np.ones_like(per_split, dtype=bool)
    useful[:, 1:] = per_split[:, 1:] < per_split[:, :-1]
    useful &= candidates <= np.minimum(slots, np.maximum(blocks[:, None], 1.0))
    waves = items[:, None] * candidates / slots
    fill = np.where(useful, waves / np.ceil(waves), 0.0)
    good = fill >= 0.85 * fill.max(axis=1, keepdims=True)
    chosen: FloatArray = np.where(items >= 0.8 * slots, 1.0, candidates[np.argmax(good, axis=1)])
    return chosen

"""Decode attention over a paged KV cache: work items, context splits, memory.

    U      = sequences · kv_heads · ceil(group / heads_per_item)       work items, of the heads that share KV
    S      = splits of the context, by the kernel's own rule (`splits`)
    n      = ceil(U · S / (SMs · items_per_sm))                        items that each place on an SM runs one after the other
    start  = n · (t_item + t_head · heads of an item)
    pass   = n · chunk · 2 · head_dim · width / item_bandwidth         chunk: ceil(blocks / S) whole blocks of tokens
    memory = (KV + Q + O) / rate + (KV found in L2 + split buffers) / L2 rate        rate: no more than SMs · sm_bandwidth
    t      = t0 + start + smooth_max(pass, memory) + [S > 1] (t_split + S · t_per_split)

Kernels that hide the start of an item behind the loads of others have ``start`` inside the smooth maximum. FlashAttention 2
adds two copies (t_copy, and the bytes of Q and O twice) where it must transpose.

A batch of mixed lengths takes what a uniform one with the same total takes, and, where FlashAttention 2 does not split contexts,
as much longer as `dealing` says of items that differ. FlashAttention 3 takes less: its SMs go on from item to item, alike ones in
step, so that all start an item at once and memory waits; others drift apart, and all but the first start of an SM passes while
other SMs read. (Serving runs of Llama-2-7B on H100, 32 KV heads, show it: at 80 sequences a step is 9 % shorter.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray
from gpusim.model.work import Attention
from gpusim.runtime.laws.attention_kernels import KERNELS, DecodeKernel, DecodeRows
from gpusim.runtime.laws.dealing import tail_s
from gpusim.runtime.laws.gpu import GpuFigures, law_for
from gpusim.runtime.laws.timing import KernelTime, l2_hit
from gpusim.spec.attention_law import AttentionKernelSpec, AttentionLawSpec
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.laws import LawsSpec

SMOOTHNESS = 3.0
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
    is_windowed: BoolArray | bool = False
    """Layers that attend to a window."""
    longest: FloatArray | None = None
    """Tokens of the longest sequence; None, or less than the mean: all are alike."""

    def decodes(self) -> DecodeRows:
        """Return what kernels decide on."""
        group = self.num_heads / self.num_kv_heads
        windowed = np.broadcast_to(np.asarray(self.is_windowed, dtype=bool), group.shape)
        return DecodeRows(self.sequences, self.context, self.num_kv_heads, group, self.head_dim, windowed)


@dataclass(frozen=True, slots=True)
class _Terms:
    """Of one kernel; arrays (rows,)."""

    fixed_s: FloatArray
    other_s: FloatArray
    buffer_bytes: FloatArray
    """Of splits, in L2."""
    copied_bytes: FloatArray


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
        is_windowed=work.is_windowed,
        longest=None if work.longest is None else np.asarray(work.longest, dtype=np.float64),
    )


def attention_time(rows: AttentionRows, laws: LawsSpec, gpu: GpuFigures, dtype: Dtype) -> KernelTime:
    """Apply the law to *rows*.

    Args:
        rows: The calls.
        laws: Of the engine.
        gpu: The GPU.
        dtype: Of the cache.
    """
    law = law_for(dtype, laws.attention)
    terms = _terms(rows, law, gpu, dtype)
    hit = l2_hit(rows.reuse_distance, laws.physics.l2_fraction * gpu.l2_bytes)
    return KernelTime(
        fixed_s=terms.fixed_s,
        other_s=terms.other_s,
        l2_s=(terms.buffer_bytes + hit * rows.kv_bytes) / (laws.physics.l2_speedup * gpu.bandwidth),
        even_bytes=rows.activation_bytes + terms.copied_bytes,
        kv_bytes=(1 - hit) * rows.kv_bytes,
        memory_rate=_memory_rate(law, gpu),
        smoothness=SMOOTHNESS,
    )


def _memory_rate(law: AttentionLawSpec, gpu: GpuFigures) -> float:
    """Bytes/s that the kernel streams alone."""
    rate = law.memory_factor * gpu.bandwidth
    return rate if law.sm_bandwidth is None else min(rate, law.sm_bandwidth * gpu.sm_count)


def is_other(rows: DecodeRows, law: AttentionLawSpec, sm_count: float) -> BoolArray:
    """Say which calls run the engine's other kernel."""
    if law.other is None:
        return np.zeros_like(rows.is_windowed)
    return ~KERNELS[law.kernel].takes(rows, sm_count)


def _terms(rows: AttentionRows, law: AttentionLawSpec, gpu: GpuFigures, dtype: Dtype) -> _Terms:
    """Return the terms of the kernel that takes each row."""
    first = _terms_of(rows, law, gpu, dtype)
    if law.other is None:
        return first
    other, taken = _terms_of(rows, law.other, gpu, dtype), is_other(rows.decodes(), law, gpu.sm_count)
    names = ("fixed_s", "other_s", "buffer_bytes", "copied_bytes")
    return _Terms(*(np.where(taken, getattr(other, name), getattr(first, name)) for name in names))


def _terms_of(rows: AttentionRows, law: AttentionKernelSpec, gpu: GpuFigures, dtype: Dtype) -> _Terms:
    """Return the terms of one kernel for all rows."""
    kernel, calls = KERNELS[law.kernel], rows.decodes()
    heads = np.minimum(kernel.heads_per_item(calls), calls.group)
    items = calls.sequences * calls.num_kv_heads * np.ceil(calls.group / heads)
    splits = kernel.splits(calls, items, float(gpu.sm_count))
    is_split = splits > 1
    places = gpu.sm_count * np.where(is_split, kernel.split_items_per_sm, kernel.items_per_sm)
    in_turn = np.ceil(items * splits / places)
    start_s = in_turn * (law.t_item + law.t_head * heads)
    chunk_bytes = _chunk_bytes(kernel, calls, splits, dtype)
    pass_s = in_turn * chunk_bytes / law.item_bandwidth
    if kernel.heads_one_by_one:
        pass_s = pass_s * heads
    copies = kernel.copies_grouped & (heads > 1) & (calls.num_kv_heads > 1) & (calls.sequences > 1)
    fixed_s = law.t0 + is_split * (law.t_split + splits * law.t_per_split) + copies * law.t_copy
    if kernel.deals_in_order and rows.longest is not None:
        fixed_s = fixed_s + (in_turn > 1) * ~is_split * _late_s(rows, rows.longest, law, dtype)
    hidden_s = start_s if kernel.hides_start else np.zeros_like(start_s)
    if kernel.drifts_apart and rows.longest is not None:
        item_s = chunk_bytes * gpu.sm_count / gpu.bandwidth
        hidden_s = start_s * (1 - 1 / in_turn) * _apart(rows, item_s, start_s / in_turn)
    return _Terms(
        fixed_s=fixed_s + start_s - hidden_s,
        other_s=pass_s + hidden_s,
        buffer_bytes=is_split * SPLIT_BUFFER_BYTES * rows.sequences * rows.num_heads * rows.head_dim * splits,
        copied_bytes=copies * 2 * rows.activation_bytes,
    )


def _apart(rows: AttentionRows, item_s: FloatArray, start_s: FloatArray) -> FloatArray:
    """Return how far SMs are apart after an item, as a part of the fixed time of one, at most 1.

    Args:
        rows: The calls, with the tokens of the longest sequence.
        item_s: (rows,) Time to read a mean item at the SM's share of the memory's rate; the longest takes as much longer.
        start_s: (rows,) Fixed time of an item.
    """
    assert rows.longest is not None, "without lengths nothing drifts"
    more = np.maximum(rows.longest / rows.context - 1, 0.0)
    apart: FloatArray = np.minimum(more * item_s, start_s) / np.where(start_s > 0, start_s, 1.0)
    return apart


def _late_s(rows: AttentionRows, longest: FloatArray, law: AttentionKernelSpec, dtype: Dtype) -> FloatArray:
    """Time that whole contexts of different lengths take longer than as many of their mean."""
    kernel, calls = KERNELS[law.kernel], rows.decodes()
    start_s = law.t_item + law.t_head * np.minimum(kernel.heads_per_item(calls), calls.group)
    whole = np.ones_like(longest)
    longest_calls = replace(calls, context=np.maximum(longest, calls.context))
    mean_s, longest_s = (
        start_s + _chunk_bytes(kernel, each, whole, dtype) / law.item_bandwidth for each in (calls, longest_calls)
    )
    return tail_s(mean_s, longest_s)


def _chunk_bytes(kernel: DecodeKernel, calls: DecodeRows, splits: FloatArray, dtype: Dtype) -> FloatArray:
    """Bytes of the whole blocks that one item passes."""
    block = kernel.block_tokens(calls.head_dim)
    chunk = np.ceil(np.ceil(calls.context / block) / splits) * block
    result: FloatArray = chunk * 2 * calls.head_dim * DTYPE_BYTES[dtype]
    return result

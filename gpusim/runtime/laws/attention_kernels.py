"""The kernels of decode attention that engines have: what one work item is, and how contexts are split among them.

What stands here is the same on every GPU that runs a kernel. Times are in device files (`AttentionKernelSpec`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray
from gpusim.runtime.laws.splits import fill_splits, flash3_splits, flash_splits, overfill_splits, xqa_splits
from gpusim.spec.attention_law import AttentionKernelName

ALL_HEADS = 64.0
"""Query heads of a tile that holds all that share a KV head, in all but a few models."""
XQA_MOST_HEADS = 32
XQA_LEAST_FILL = 4.0
"""XQA is used if its items, with one split for 128 tokens, are more than a fourth of the SMs."""
TENSOR_CORE_HEADS = 4
"""Query heads that share a KV head, from which FlashInfer uses tensor cores."""


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """Attention calls as kernels see them; all arrays (rows,)."""

    sequences: FloatArray
    context: FloatArray
    """Mean tokens per sequence."""
    num_kv_heads: FloatArray
    group: FloatArray
    """Query heads that share a KV head."""
    head_dim: FloatArray
    is_windowed: BoolArray
    """Layers that attend to a window."""


@dataclass(frozen=True, slots=True)
class DecodeKernel:
    """One implementation; functions map arrays (rows,) to arrays (rows,)."""

    splits: Callable[[DecodeRows, FloatArray, float], FloatArray]
    """Splits of each context, given the work items before splitting and the SMs."""
    block_tokens: Callable[[FloatArray], FloatArray]
    """Tokens an item takes in at a time, by head dimension: pieces are whole blocks."""
    heads_per_item: Callable[[DecodeRows], FloatArray]
    """Query heads that one item computes, as far as they share a KV head."""
    items_per_sm: float = 1.0
    """At once, of items that are whole contexts."""
    split_items_per_sm: float = 1.0
    """At once, of items that are pieces of contexts."""
    hides_start: bool = False
    """Whether the fixed time of an item passes while others wait for memory; else memory waits too."""
    drifts_apart: bool = False
    """Whether SMs go on from item to item by themselves: where items differ they soon start at different times, and the
    fixed time of all but the first item passes while others wait for memory."""
    heads_one_by_one: bool = False
    """Without tensor cores: an item passes its keys once a query head."""
    copies_grouped: bool = False
    """Whether queries and outputs of several KV heads and sequences are transposed by copies."""
    deals_in_order: bool = False
    """Whether whole contexts are dealt out one by one in the order of the batch, however long they are."""
    takes: Callable[[DecodeRows, float], BoolArray] = lambda rows, _: np.ones_like(rows.is_windowed)
    """Which calls it is used for, given the SMs; the engine has another kernel for the rest."""


def _constant(tokens: float) -> Callable[[FloatArray], FloatArray]:
    return lambda head_dim: np.full_like(head_dim, tokens)


def _heads(number: float) -> Callable[[DecodeRows], FloatArray]:
    return lambda rows: np.full_like(rows.group, number)


def _flash2_block(head_dim: FloatArray) -> FloatArray:
    return np.where(head_dim <= 64, 256.0, np.where(head_dim <= 128, 128.0, 64.0))


def _flash2_splits(rows: DecodeRows, items: FloatArray, sms: float) -> FloatArray:
    """Only grouped heads without a window are laid out so that contexts can be split; two items an SM are planned for."""
    splits = flash_splits(items, np.ceil(rows.context / _flash2_block(rows.head_dim)), 2 * sms)
    return np.where((rows.group > 1) & ~rows.is_windowed, splits, 1.0)


def _flash3(block: float) -> DecodeKernel:
    return DecodeKernel(
        splits=lambda rows, items, sms: flash3_splits(items, np.ceil(rows.context / block), sms),
        block_tokens=_constant(block),
        heads_per_item=_heads(ALL_HEADS),
        drifts_apart=True,
    )


def _xqa_takes(rows: DecodeRows, sms: float) -> BoolArray:
    most = rows.sequences * rows.num_kv_heads * np.maximum(np.floor(rows.context / 128), 1.0)
    return _grouped(rows, sms) & (most * XQA_LEAST_FILL >= sms)


def _grouped(rows: DecodeRows, _: float) -> BoolArray:
    return (rows.group > 1) & (rows.group <= XQA_MOST_HEADS)


def _filling(slots_per_sm: float, least_tokens: float) -> Callable[[DecodeRows, FloatArray, float], FloatArray]:
    return lambda rows, items, sms: fill_splits(items, np.ceil(rows.context / least_tokens), slots_per_sm * sms)


KERNELS: Final[Mapping[AttentionKernelName, DecodeKernel]] = {
    "flash_attention_2": DecodeKernel(
        splits=_flash2_splits,
        block_tokens=_flash2_block,
        heads_per_item=lambda rows: np.where(rows.is_windowed, 1.0, ALL_HEADS),
        copies_grouped=True,
        deals_in_order=True,
    ),
    "flash_attention_3": _flash3(128.0),
    "flash_attention_3_ampere": _flash3(64.0),
    "trtllm_gen": DecodeKernel(
        splits=_filling(1.0, 512.0),
        block_tokens=_constant(128.0),
        heads_per_item=lambda rows: np.where(rows.group <= 8, 8.0, np.where(rows.group <= 16, 16.0, 32.0)),
        hides_start=True,
        takes=lambda rows, _: rows.group <= XQA_MOST_HEADS,
    ),
    "xqa": DecodeKernel(
        splits=lambda rows, items, sms: xqa_splits(items, rows.context, sms),
        block_tokens=_constant(128.0),
        heads_per_item=_heads(ALL_HEADS),
        hides_start=True,
        takes=_xqa_takes,
    ),
    "xqa_fp8": DecodeKernel(
        splits=lambda rows, items, sms: xqa_splits(items, rows.context, sms),
        block_tokens=_constant(64.0),
        heads_per_item=_heads(ALL_HEADS),
        items_per_sm=3.0,
        split_items_per_sm=3.0,
        takes=_grouped,
    ),
    "trtllm_unsplit": DecodeKernel(
        splits=lambda _rows, items, _sms: np.ones_like(items),
        block_tokens=_constant(64.0),
        heads_per_item=_heads(ALL_HEADS),
        hides_start=True,
        takes=_grouped,
    ),
    "mmha": DecodeKernel(
        splits=lambda rows, items, sms: overfill_splits(items, np.ceil(rows.context / 256), sms),
        block_tokens=_constant(128.0),
        heads_per_item=_heads(1.0),
        items_per_sm=4.0,
    ),
    "flashinfer": DecodeKernel(
        splits=_filling(2.0, 128.0),
        block_tokens=_constant(64.0),
        heads_per_item=_heads(ALL_HEADS),
        takes=lambda rows, _: rows.group >= TENSOR_CORE_HEADS,
    ),
    "flashinfer_cuda_cores": DecodeKernel(
        splits=_filling(2.0, 128.0),
        block_tokens=_constant(16.0),
        heads_per_item=_heads(ALL_HEADS),
        items_per_sm=2.0,
        split_items_per_sm=2.0,
        heads_one_by_one=True,
    ),
}
"""By name. Sources: `_flash2_splits`: ``mha_varlen_fwd`` of FlashAttention 2; `_xqa_takes`: ``mayHavePerfGain`` of
TensorRT-LLM's XQA; the rest as in `splits`, with tile sizes and items per SM as measurements show them."""

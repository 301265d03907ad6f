"""How kernels of decode attention split contexts over SMs: the choices their sources make, for many calls at once.

All take and return arrays (rows,): work items before splitting, and what can be dealt out of one context.
"""

from __future__ import annotations

import numpy as np

from gpusim.core.arrays import FloatArray

MAX_SPLITS = 128
GOOD_FILL = 0.85
"""Of the best fill of the last wave: FlashAttention takes the fewest splits that reach it."""
FULL = 0.8
"""Of the slots: with as many items FlashAttention does not split."""
NEVER_SPLIT_BLOCKS = 4
"""FlashAttention 3 leaves contexts of so few blocks whole."""
BLOCKS_MARGIN = 1.1
"""FlashAttention 3 plans for so many times the blocks there are."""
XQA_LEAST_TOKENS = 128
XQA_WAVES = 8
"""XQA makes no more work items than so many times the SMs."""
_MOST_BLOCKS = 2.0**24
"""More context blocks than any sequence has; so far apart, two whole numbers share one float exactly."""


def flash_splits(items: FloatArray, blocks: FloatArray, slots: float, *, useful_only: bool = True) -> FloatArray:
    """FlashAttention's choice: the fewest splits that fill the last wave to 85 % of the best possible.

    Args:
        items: Work items before splitting.
        blocks: Context blocks that can be dealt out.
        slots: Work items that run at once.
        useful_only: Look only at numbers of splits that shorten the longest piece (FlashAttention 2).

    Reference: Dao, 2023, "Flash-Decoding for long-context inference"; ``num_splits_heuristic`` of its source.
    """
    # Calls alike in both take the same splits: deciding for each kind once is most of the saving of a long run.
    kinds, of = np.unique(items * _MOST_BLOCKS + blocks, return_inverse=True)
    chosen: FloatArray = _flash_splits(kinds // _MOST_BLOCKS, kinds % _MOST_BLOCKS, slots, useful_only)[of]
    return chosen


def _flash_splits(items: FloatArray, blocks: FloatArray, slots: float, useful_only: bool) -> FloatArray:
    candidates = np.arange(1.0, min(MAX_SPLITS, max(1.0, blocks.max(initial=1.0))) + 1)
    allowed = candidates <= np.minimum(slots, np.maximum(blocks[:, None], 1.0))
    if useful_only:
        per_split = np.ceil(blocks[:, None] / candidates)
        allowed[:, 1:] &= per_split[:, 1:] < per_split[:, :-1]
    waves = items[:, None] * candidates / slots
    fill = np.where(allowed, waves / np.ceil(waves), 0.0)
    good = fill >= GOOD_FILL * fill.max(axis=1, keepdims=True)
    chosen: FloatArray = np.where(items >= FULL * slots, 1.0, candidates[np.argmax(good, axis=1)])
    return chosen


def flash3_splits(items: FloatArray, blocks: FloatArray, slots: float) -> FloatArray:
    """FlashAttention 3's choice: the heuristic, but no more splits than leave every SM its share of all blocks.

    Reference: ``num_splits_heuristic`` and ``prepare_varlen_num_blocks_kernel`` of its source (hopper/).
    """
    planned = np.where(blocks <= NEVER_SPLIT_BLOCKS, 1.0, flash_splits(items, blocks, slots, useful_only=False))
    share = np.maximum(np.ceil(items * blocks * BLOCKS_MARGIN / slots), 1.0)
    result: FloatArray = np.maximum(np.minimum(planned, np.ceil(blocks / share)), 1.0)
    return result


def fill_splits(items: FloatArray, most: FloatArray, slots: float) -> FloatArray:
    """As many splits as fit on the slots at once, up to *most* (FlashInfer, TensorRT-LLM's kernels of Blackwell)."""
    result: FloatArray = np.floor(np.clip(np.floor(slots / items), 1.0, np.maximum(most, 1.0)))
    return result


def overfill_splits(items: FloatArray, most: FloatArray, slots: float) -> FloatArray:
    """The fewest splits that fill the slots, up to *most*, even if the last items must wait (TensorRT-LLM's MMHA)."""
    result: FloatArray = np.clip(np.ceil(slots / items), 1.0, np.maximum(most, 1.0))
    return result


def xqa_splits(items: FloatArray, context: FloatArray, slots: float) -> FloatArray:
    """XQA's choice: one for 128 tokens, of many only as many as the root of eight times them, and no more than 8 waves.

    Reference: ``computeMultiBlockCount`` of TensorRT-LLM's source.
    """
    splits = np.floor(context / XQA_LEAST_TOKENS)
    splits = np.maximum(np.minimum(splits, np.round(np.sqrt(8 * splits))), 1.0)
    excess = np.maximum(items * splits / slots / XQA_WAVES, 1.0)
    result: FloatArray = np.maximum(np.floor(splits / excess), 1.0)
    return result

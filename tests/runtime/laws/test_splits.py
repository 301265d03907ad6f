"""Splits of contexts: the vectorised choices against the sources' loops written out."""

from __future__ import annotations

from math import ceil, floor, sqrt

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.runtime.laws.splits import fill_splits, flash3_splits, flash_splits, overfill_splits, xqa_splits

ITEMS, SMS = st.integers(1, 300), st.sampled_from([108, 132, 148, 188, 376])


def chosen(rule, items, second, slots):
    return rule(np.array([float(items)]), np.array([float(second)]), float(slots))[0]


def flash_loop(items, blocks, slots, *, useful_only=True):
    """FlashAttention's heuristic: the smallest (useful) number within 85 % of the best fill."""
    if items >= 0.8 * slots:
        return 1
    fills, most = {}, int(min(128, slots, max(blocks, 1)))
    for splits in range(1, most + 1):
        if useful_only and splits > 1 and ceil(blocks / splits) == ceil(blocks / (splits - 1)):
            continue
        waves = items * splits / slots
        fills[splits] = waves / ceil(waves)
    best = max(fills.values())
    return min(splits for splits, fill in fills.items() if fill >= 0.85 * best)


def flash3_loop(items, blocks, slots):
    """FlashAttention 3's: none for four blocks or fewer, and no more than leave each SM its share of 1.1 times the blocks."""
    planned = 1 if blocks <= 4 else flash_loop(items, blocks, slots, useful_only=False)
    share = max(1, ceil(items * blocks * 1.1 / slots))
    return max(1, min(planned, ceil(blocks / share)))


def xqa_loop(items, context, slots):
    """TensorRT-LLM's computeMultiBlockCount."""
    splits = context // 128
    splits = max(1, min(splits, round(sqrt(8.0 * splits))))
    excess = items * splits / slots / 8
    return max(1, floor(splits / excess)) if excess > 1 else splits


@settings(max_examples=60)
@given(items=ITEMS, blocks=st.integers(0, 1000), slots=SMS)
def test_flash_splits_are_the_heuristics_written_out(items, blocks, slots):
    """The vectorised choices are those of the loops over all candidates."""
    assert chosen(flash_splits, items, blocks, slots) == flash_loop(items, blocks, slots)
    assert chosen(flash3_splits, items, blocks, slots) == flash3_loop(items, blocks, slots)


@settings(max_examples=60)
@given(items=ITEMS, context=st.integers(1, 200_000), slots=SMS)
def test_xqa_splits_are_the_source_written_out(items, context, slots):
    """One split for 128 tokens, fewer for long contexts, and eight waves at most."""
    assert chosen(xqa_splits, items, context, slots) == xqa_loop(items, context, slots)


@settings(max_examples=60)
@given(items=ITEMS, most=st.integers(0, 500), slots=SMS)
def test_filling_stays_below_the_slots_and_overfilling_reaches_them(items, most, slots):
    """One rule never makes items wait that it could leave whole; the other leaves no SM without one; both keep to the blocks."""
    fill, over = chosen(fill_splits, items, most, slots), chosen(overfill_splits, items, most, slots)
    assert 1 <= fill <= over <= max(most, 1)
    assert fill == 1 or fill * items <= slots
    assert over == max(most, 1) or over * items >= slots

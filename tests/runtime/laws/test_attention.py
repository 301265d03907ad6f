"""Attention: asymptote, splits of the context against the heuristics written out, growth."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, build_model
from gpusim.model.work import Attention, BatchShape
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.attention import AttentionRows, attention_rows, attention_time, flash_splits
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"]
WIDTH = {"bf16": 2, "fp8": 1}
HEAD_DIM = 128


def rows_of(*calls, heads=32, kv_heads=8, dtype="bf16", warm=False):
    """Return rows (sequences, context) of decode attention."""
    sequences, context = np.array(calls, dtype=float).T
    ones = np.ones_like(sequences)
    kv_bytes = 2 * sequences * kv_heads * HEAD_DIM * context * WIDTH[dtype]
    activations = 2 * sequences * heads * HEAD_DIM * 2
    return AttentionRows(
        sequences,
        context,
        heads * ones,
        kv_heads * ones,
        HEAD_DIM * ones,
        kv_bytes,
        activations,
        reuse_distance=kv_bytes if warm else None,
    )


def timing_of(device, *calls, dtype="bf16", **shape):
    return attention_time(rows_of(*calls, dtype=dtype, **shape), laws_of(device).attention, figures_of(device), dtype)


def seconds_of(device, *calls, **options):
    timing = timing_of(device, *calls, **options)
    return timing.duration_s(timing.memory_s())


def scalar_flash_splits(items, blocks, slots):
    """The heuristic as FlashAttention states it: the smallest useful number within 85 % of the best fill."""
    if items >= 0.8 * slots:
        return 1
    fills, most = {}, int(min(128, slots, max(blocks, 1)))
    for splits in range(1, most + 1):
        if splits > 1 and ceil(blocks / splits) == ceil(blocks / (splits - 1)):
            continue
        waves = items * splits / slots
        fills[splits] = waves / ceil(waves)
    best = max(fills.values())
    return min(splits for splits, fill in fills.items() if fill >= 0.85 * best)


def scalar_attention_s(device, sequences, context, heads, kv_heads):
    """The law written out for one call with 16-bit KV that is not in L2, in plain floats."""
    law = laws_of(device).attention["bf16"]
    rate = law.memory_factor * device.memory.efficiency * device.memory.bandwidth
    slots = device.compute.sm_count * law.occupancy
    items = sequences * kv_heads * ceil(heads / kv_heads / 64)
    if law.split_rule == "flash":
        splits = scalar_flash_splits(items, ceil(context / law.min_split), slots)
    else:
        splits = floor(min(max(floor(slots / items), 1), max(1, context / law.min_split)))
    chunk_bytes = ceil(context / splits) * 2 * HEAD_DIM * 2
    other = ceil(items * splits / slots) * (law.t_cta + chunk_bytes / law.cta_bandwidth)
    bytes_s = (2 * sequences * kv_heads * HEAD_DIM * context * 2 + 2 * sequences * heads * HEAD_DIM * 2) / rate
    buffers = 8 * sequences * heads * HEAD_DIM * splits if splits > 1 else 0
    memory = bytes_s + buffers / (law.l2_speedup * rate)
    p = law.smoothness
    return law.t0 + (law.t_split if splits > 1 else 0.0) + (other**p + memory**p) ** (1 / p)


@settings(max_examples=60)
@given(items=st.integers(1, 300), blocks=st.integers(0, 1000), slots=st.sampled_from([108, 132, 148, 188, 376]))
def test_flash_splits_are_the_heuristic_written_out(items, blocks, slots):
    """The vectorised choice is that of the loop over all candidates."""
    chosen = flash_splits(np.array([float(items)]), np.array([float(blocks)]), float(slots))
    assert chosen[0] == scalar_flash_splits(items, blocks, slots)


@settings(max_examples=60)
@given(
    name=st.sampled_from(GPUS),
    sequences=st.integers(1, 256),
    context=st.integers(1, 100_000),
    shape=st.sampled_from([(32, 32), (32, 8), (71, 1), (8, 1)]),
)
def test_the_law_written_out(name, sequences, context, shape):
    """The vectorised law is the formula, with either rule of splitting."""
    device = catalog_device(name)
    seconds = seconds_of(device, (sequences, context), heads=shape[0], kv_heads=shape[1])[0]
    assert seconds == pytest.approx(scalar_attention_s(device, sequences, context, *shape), rel=1e-12)


@pytest.mark.parametrize(("name", "dtype"), [*((name, "bf16") for name in GPUS), ("b200-sxm", "fp8")])
def test_long_contexts_stream_at_the_memory_factor(name, dtype):
    """What more KV adds approaches its bytes at memory_factor of what long reads achieve, from below."""
    device = catalog_device(name)
    law = laws_of(device).attention[dtype]
    calls = [(64, 100_000), (64, 400_000)]
    some, more = seconds_of(device, *calls, dtype=dtype)
    rate = law.memory_factor * device.memory.efficiency * device.memory.bandwidth
    more_bytes = 64 * 300_000 * 2 * 8 * HEAD_DIM * WIDTH[dtype]
    assert 0.8 * rate < more_bytes / (more - some) <= rate


def test_splits_fill_the_processors():
    """By the fill rule one long sequence is split until every slot has an item, a full batch not at all."""
    device = catalog_device("rtx-pro-6000-server")
    law = laws_of(device).attention["bf16"]
    single, full = timing_of(device, (1, 100_000)), timing_of(device, (64, 1000))
    slots = device.compute.sm_count * law.occupancy
    chunk_bytes = ceil(100_000 / floor(slots / 8)) * 2 * HEAD_DIM * 2
    assert single.other_s[0] == pytest.approx(law.t_cta + chunk_bytes / law.cta_bandwidth, rel=1e-12)
    assert single.fixed_s[0] == pytest.approx(law.t0 + law.t_split)
    assert full.fixed_s[0] == law.t0


@pytest.mark.parametrize("name", GPUS)
def test_time_grows_with_batch_and_memory_time_with_context(name):
    """More sequences never take less; more context always means more bytes, though a better fill may hide it."""
    device = catalog_device(name)
    assert (np.diff(timing_of(device, *[(8, c) for c in range(100, 60_000, 100)]).memory_s()) > 0).all()
    whole_waves = [(n, 8192) for n in (1, 4, 16, 64, 256, 1024)]
    assert (np.diff(seconds_of(device, *whole_waves)) > 0).all()
    assert (np.diff(seconds_of(device, *[(64, c) for c in (128, 1024, 8192, 65_536)])) > 0).all()


def test_only_a_benchmark_loop_finds_kv_in_l2():
    """Small KV read again and again comes from L2; large KV, and KV inside a model, from memory."""
    device = catalog_device("rtx-pro-6000-server")
    calls = [(16, 1024), (64, 32_768)]
    cold, warm = (seconds_of(device, *calls, warm=flag) for flag in (False, True))
    assert warm[0] < 0.8 * cold[0]
    assert warm[1] == pytest.approx(cold[1], rel=1e-9)


def test_a_mixed_batch_is_its_mean():
    """Sequences of different lengths take what as many of their mean length take."""
    lowering = build_lowering(build_model(layers=1))
    device = catalog_device("a100-sxm-80gb")

    def attention(shape):
        (work,) = [k for _, kernels in lowering.lower(shape).parts for k in kernels if isinstance(k, Attention)]
        timing = attention_time(attention_rows(work), laws_of(device).attention, figures_of(device), "bf16")
        return timing.duration_s(timing.memory_s())[0]

    mixed = attention(BatchShape(3, 100 + 900 + 2000, num_sampled=3))
    assert mixed == attention(BatchShape(3, 3 * 1000, num_sampled=3))

"""Attention: the law written out, asymptote, which kernel takes a call, growth."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, build_model
from gpusim.model.step import BatchShape
from gpusim.model.work import Attention
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.attention import AttentionRows, attention_rows, attention_time, is_other
from gpusim.runtime.laws.attention_kernels import KERNELS
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"]
ENGINES = ["vllm", "sglang", "trtllm"]
WIDTH = {"bf16": 2, "fp8": 1}
HEAD_DIM = 128


def rows_of(*calls, heads=32, kv_heads=8, dtype="bf16", warm=False, windowed=False):
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
        is_windowed=windowed,
    )


def timing_of(device, *calls, dtype="bf16", engine="vllm", **shape):
    return attention_time(rows_of(*calls, dtype=dtype, **shape), laws_of(device, engine), figures_of(device), dtype)


def seconds_of(device, *calls, **options):
    timing = timing_of(device, *calls, **options)
    return timing.duration_s(timing.memory_s())


def scalar_attention_s(device, engine, sequences, context, heads, kv_heads):
    """The law written out for one call with 16-bit KV that is not in L2, in plain floats but for the splits."""
    laws, sms = laws_of(device, engine), device.compute.sm_count
    law = laws.attention["bf16"]
    factor, calls = law.memory_factor, rows_of((sequences, context), heads=heads, kv_heads=kv_heads).decodes()
    law = law.other if is_other(calls, law, sms)[0] else law
    kernel, group = KERNELS[law.kernel], heads / kv_heads
    per_item = min(kernel.heads_per_item(calls)[0], group)
    items = sequences * kv_heads * ceil(group / per_item)
    splits = kernel.splits(calls, np.array([float(items)]), float(sms))[0]
    places = sms * (kernel.split_items_per_sm if splits > 1 else kernel.items_per_sm)
    block = kernel.block_tokens(calls.head_dim)[0]
    in_turn, chunk = ceil(items * splits / places), ceil(ceil(context / block) / splits) * block
    start = in_turn * (law.t_item + law.t_head * per_item)
    passing = in_turn * chunk * 2 * HEAD_DIM * 2 / law.item_bandwidth
    passing *= per_item if kernel.heads_one_by_one else 1
    copies = kernel.copies_grouped and group > 1 and kv_heads > 1 and sequences > 1
    bandwidth = device.memory.efficiency * device.memory.bandwidth
    activations = 2 * sequences * heads * HEAD_DIM * 2 * (3 if copies else 1)
    memory = (2 * sequences * kv_heads * HEAD_DIM * context * 2 + activations) / (factor * bandwidth)
    fixed = law.t0 + (law.t_copy if copies else 0)
    if splits > 1:
        memory += 8 * sequences * heads * HEAD_DIM * splits / (laws.physics.l2_speedup * bandwidth)
        fixed += law.t_split + splits * law.t_per_split
    if kernel.hides_start:
        return fixed + ((passing + start) ** 3 + memory**3) ** (1 / 3)
    return fixed + start + (passing**3 + memory**3) ** (1 / 3)


@settings(max_examples=80)
@given(
    name=st.sampled_from(GPUS),
    engine=st.sampled_from(ENGINES),
    sequences=st.integers(1, 256),
    context=st.integers(1, 100_000),
    shape=st.sampled_from([(32, 32), (32, 8), (71, 1), (8, 1), (4, 2)]),
)
def test_the_law_written_out(name, engine, sequences, context, shape):
    """The vectorised law is the formula, for every kernel."""
    device = catalog_device(name)
    seconds = seconds_of(device, (sequences, context), heads=shape[0], kv_heads=shape[1], engine=engine)[0]
    assert seconds == pytest.approx(scalar_attention_s(device, engine, sequences, context, *shape), rel=1e-12)


@pytest.mark.parametrize(("name", "dtype"), [*((name, "bf16") for name in GPUS), ("b200-sxm", "fp8")])
def test_long_contexts_stream_at_the_memory_factor(name, dtype):
    """What more KV adds approaches its bytes at memory_factor of what long reads achieve, from below."""
    device = catalog_device(name)
    law = laws_of(device).attention[dtype]
    assert law.sm_bandwidth is None
    calls = [(64, 100_000), (64, 400_000)]
    some, more = seconds_of(device, *calls, dtype=dtype)
    rate = law.memory_factor * device.memory.efficiency * device.memory.bandwidth
    more_bytes = 64 * 300_000 * 2 * 8 * HEAD_DIM * WIDTH[dtype]
    assert 0.8 * rate < more_bytes / (more - some) <= rate


def test_fp8_streams_no_faster_than_the_processors_load():
    """Where loads in flight are the limit, more KV takes its bytes over SMs times what one of them streams."""
    device = catalog_device("h100-sxm")
    law = laws_of(device).attention["fp8"]
    some, more = seconds_of(device, (64, 100_000), (64, 400_000), dtype="fp8")
    rate = law.sm_bandwidth * device.compute.sm_count
    assert rate < law.memory_factor * device.memory.efficiency * device.memory.bandwidth
    assert 0.8 * rate < 64 * 300_000 * 2 * 8 * HEAD_DIM / (more - some) <= rate


def test_flash_attention_2_splits_and_copies_grouped_heads_only():
    """One query head to a KV head leaves a long context whole; several KV heads and sequences cost two copies."""
    device = catalog_device("a100-sxm-80gb")
    law = laws_of(device).attention["bf16"]
    whole, split = (seconds_of(device, (1, 32_768), heads=heads, kv_heads=1)[0] for heads in (1, 8))
    assert whole > 8 * split
    one, grouped = (timing_of(device, (4, 64), heads=8, kv_heads=kv_heads) for kv_heads in (1, 4))
    assert grouped.fixed_s[0] - one.fixed_s[0] == pytest.approx(law.t_copy)
    assert grouped.even_bytes[0] == 3 * one.even_bytes[0]
    alone, windowed = (timing_of(device, (64, 128), heads=32, kv_heads=1, windowed=flag) for flag in (False, True))
    assert windowed.other_s[0] > 10 * alone.other_s[0]  # every query head by itself


def test_trtllm_leaves_small_calls_and_single_heads_to_its_other_kernel():
    """XQA takes grouped heads with enough blocks of 128 tokens for a fourth of the SMs."""
    device = catalog_device("h100-sxm")
    law = laws_of(device, "trtllm").attention["bf16"]
    calls = [(1, 4096), (1, 8192), (16, 128), (64, 128)]
    grouped, single = (rows_of(*calls, heads=heads, kv_heads=1).decodes() for heads in (8, 1))
    assert is_other(grouped, law, 132).tolist() == [True, False, True, False]
    assert is_other(single, law, 132).all()


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
        timing = attention_time(attention_rows(work), laws_of(device), figures_of(device), "bf16")
        return timing.duration_s(timing.memory_s())[0]

    mixed = attention(BatchShape(3, 100 + 900 + 2000, num_sampled=3))
    assert mixed == attention(BatchShape(3, 3 * 1000, num_sampled=3))


def batch_s(name, sequences, mean, longest):
    """Return what a batch of a model with 32 heads and 8 KV heads takes in attention."""
    lowering = build_lowering(build_model(layers=1, heads=32, kv_heads=8))
    device = catalog_device(name)
    shape = BatchShape(sequences, sequences * mean, num_sampled=sequences, longest_decode=longest)
    (work,) = [k for _, kernels in lowering.lower(shape).parts for k in kernels if isinstance(k, Attention)]
    timing = attention_time(attention_rows(work), laws_of(device), figures_of(device), "bf16")
    return timing.duration_s(timing.memory_s())[0]


def test_the_longest_of_whole_contexts_lasts_on():
    """FlashAttention 2 splits no context where there are many: one that is longer adds at most its own time, and more if longer."""
    device = catalog_device("rtx-pro-6000-server")
    law = laws_of(device).attention["bf16"]
    seconds = [batch_s(device.name, 128, 1000, longest) for longest in (0, 1000, 2000, 8000, 32_000)]
    assert seconds[0] == seconds[1] < seconds[2] < seconds[3] < seconds[4]
    alone = law.t_item + 32_000 * 2 * 64 * 2 / law.item_bandwidth
    assert 0.6 * alone < seconds[4] - seconds[0] < 0.7 * alone


def test_the_longest_does_not_matter_where_contexts_are_split():
    """Few contexts are split into alike pieces."""
    assert batch_s("rtx-pro-6000-server", 4, 1000, 8000) == batch_s("rtx-pro-6000-server", 4, 1000, 0)


def test_items_that_differ_hide_each_others_start():
    """FlashAttention 3: SMs drift apart where contexts differ, and start items while others read; not where all are alike."""
    device = catalog_device("h100-sxm")
    law = laws_of(device).attention["bf16"]
    alike, little, apart, further = (batch_s(device.name, 128, 1000, longest) for longest in (1000, 1020, 3000, 8000))
    assert alike == batch_s(device.name, 128, 1000, 0)
    assert apart == further < little < alike
    waves = np.ceil(128 * 8 / device.compute.sm_count)
    start = law.t_item + 4 * law.t_head
    assert alike - apart < (waves - 1) * start
    one_wave = (batch_s(device.name, 16, 1000, longest) for longest in (1000, 8000))
    assert next(one_wave) == next(one_wave)

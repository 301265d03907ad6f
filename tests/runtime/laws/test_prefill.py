"""Attention with prefill chunks: dealing out tiles, the law written out, its limits, and what decodes cost in it."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, catalog_model
from gpusim.model.step import BatchShape, StepShapes
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.attention import attention_rows, attention_time
from gpusim.runtime.laws.prefill import call_time, prefill_law
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"]
GRID = "rtx-pro-6000-server"
LOWERING = build_lowering(catalog_model("llama-3.1-8b"))
HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128


def work_of(*shapes):
    """Return the attention of one layer of a model with 32 heads and 8 KV heads of 128, a step a shape."""
    parts = [StepShapes.of(shape, 1) for shape in shapes]
    names = [name for name in StepShapes.__dataclass_fields__ if name != "windows"]
    joined = StepShapes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    ((_, work),) = LOWERING.attention(joined)
    return work


def terms_of(name, *shapes):
    device = catalog_device(name)
    return call_time(work_of(*shapes), laws_of(device), figures_of(device))


def seconds_of(name, *shapes):
    terms = terms_of(name, *shapes)
    return terms.duration_s(terms.memory_s())


def chunk(new, before=0, decodes=0, context=0, **more):
    """Return a batch with one chunk and *decodes* of *context* tokens each."""
    return BatchShape(decodes, decodes * context, ((new, before + new),), decodes + 1, **more)


@pytest.mark.parametrize("name", GPUS)
@settings(max_examples=30)
@given(decodes=st.integers(1, 200), context=st.integers(1, 20_000), new=st.integers(1, 3000))
def test_without_chunks_the_law_of_decodes_holds(name, decodes, context, new):
    """Steps that only decode take what the law of decodes says, bit for bit, whatever the steps beside them do."""
    device = catalog_device(name)
    alone = BatchShape(decodes, decodes * context, (), decodes)
    work = work_of(alone)
    assert work.chunks is None
    expected = attention_time(attention_rows(work), laws_of(device), figures_of(device), "bf16")
    mixed = terms_of(name, chunk(new, 7, decodes, context), alone)
    for field in ("fixed_s", "other_s", "l2_s", "even_bytes", "kv_bytes"):
        assert getattr(mixed, field)[1] == getattr(expected, field)[0]


@pytest.mark.parametrize("name", GPUS)
@given(decodes=st.integers(0, 50), context=st.integers(1, 9000))
def test_a_chunk_of_one_token_is_a_decode(name, decodes, context):
    """No kernel can tell the last token of a prompt from a decode."""
    last = BatchShape(decodes, decodes * context, ((1, context),), decodes + 1)
    decode = BatchShape(decodes + 1, (decodes + 1) * context, (), decodes + 1)
    assert seconds_of(name, last)[0] == seconds_of(name, decode)[0]


@pytest.mark.parametrize("before", [0, 1000, 16_384])
@pytest.mark.parametrize("new", [2, 64, 300])
def test_one_wave_takes_its_longest_tile(new, before):
    """A chunk whose tiles all run at once takes its last tile's blocks of 128 keys, and the fixed times."""
    device = catalog_device(GRID)
    law = prefill_law(laws_of(device))
    per_sm = law.compute_efficiency * device.compute.peak["bf16"] / device.compute.sm_count
    block_s = 4 * 64 * 128 * HEAD_DIM / per_sm
    terms = terms_of(GRID, chunk(new, before))
    assert terms.fixed_s[0] == law.t0
    assert terms.other_s[0] == pytest.approx(law.t_tile + ceil((before + new) / 128) * block_s, rel=1e-12)


@pytest.mark.parametrize("name", GPUS)
def test_long_prompts_compute_at_their_efficiency(name):
    """The pairs of a long prompt take 4 heads head_dim FLOPs each at compute_efficiency of the peak, within 3 %."""
    device = catalog_device(name)
    new = 65_536
    flops = 4 * HEADS * HEAD_DIM * new * (new + 1) / 2
    rate = prefill_law(laws_of(device)).compute_efficiency * device.compute.peak["bf16"]
    assert flops / rate <= seconds_of(name, chunk(new))[0] <= 1.03 * flops / rate


@pytest.mark.parametrize("name", GPUS)
def test_chunks_of_a_prompt_take_longer_than_the_prompt(name):
    """Cutting a prompt costs launches and half empty waves, and less than a tenth where chunks are long."""
    whole = seconds_of(name, chunk(16_384))[0]
    cut = seconds_of(name, *(chunk(4096, before) for before in range(0, 16_384, 4096))).sum()
    assert whole < cut < 1.1 * whole


@pytest.mark.parametrize("name", GPUS)
def test_more_work_never_takes_much_less(name):
    """Each of more decodes, longer ones and a longer context adds time; a better fill of the last wave, or another split, may save some."""
    for shapes in (
        [chunk(512, 2048, n, 1024) for n in range(1, 129)],
        [chunk(512, 2048, 16, c) for c in range(16, 20_000, 100)],
        [chunk(512, c, 16, 1024) for c in range(0, 20_000, 100)],
        [chunk(new, 1024, 16, 1024) for new in range(2, 4096, 30)],
    ):
        seconds = seconds_of(name, *shapes)
        assert (seconds[1:] > 0.85 * np.maximum.accumulate(seconds)[:-1]).all()
        assert seconds[-1] > 1.1 * seconds[0]


def test_decodes_in_the_grid_are_read_once_a_query_head_where_they_neither_meet_nor_fit():
    """Eight sequences run together and share their KV; 128 long ones do not, and each of the four heads reads it again."""
    shapes = chunk(16, 0, 8, 16_384), chunk(16, 0, 128, 256), chunk(16, 0, 128, 65_536)
    few, small, many = terms_of(GRID, *shapes).kv_bytes
    token_bytes = 2 * KV_HEADS * HEAD_DIM * 2
    assert few == pytest.approx((8 * 16_384 + 16) * token_bytes)
    assert small == pytest.approx((128 * 256 + 16) * token_bytes, rel=1e-3)
    together = 188 / 129
    assert many == pytest.approx(4 / together * 128 * 65_536 * token_bytes, rel=1e-3)


def test_the_longest_decode_bounds_a_call():
    """In the grid no context is split: one of 64 k tokens among short ones takes its 512 blocks of keys."""
    even, uneven = (chunk(64, 0, 16, 4096 + 15, longest_decode=longest) for longest in (0, 65_536))
    alone = seconds_of(GRID, chunk(64, 65_536 - 64))[0]
    assert seconds_of(GRID, even)[0] < 0.6 * alone
    assert seconds_of(GRID, uneven)[0] > 0.9 * alone


def test_a_kernel_of_their_own_leaves_decodes_as_they_are():
    """Where decodes are no tiles, a long chunk costs them nothing but its own time, up to overlap with their bytes."""
    name = "h100-sxm"
    decodes = BatchShape(64, 64 * 2048, (), 64)
    apart = seconds_of(name, decodes)[0] + seconds_of(name, chunk(2048))[0]
    both = seconds_of(name, chunk(2048, 0, 64, 2048))[0]
    assert max(seconds_of(name, decodes)[0], seconds_of(name, chunk(2048))[0]) < both <= apart


def test_faster_clocks_shorten_tiles():
    """Twice the matrix rate halves what a block of keys takes, and nothing else."""
    device = catalog_device(GRID)
    faster = device.model_copy(update={"compute": replace_peak(device.compute, 2 * device.compute.peak["bf16"])})
    law = prefill_law(laws_of(device))
    times = [
        call_time(work_of(chunk(64, 8192)), laws_of(device), figures_of(each)).other_s[0] - law.t_tile
        for each in (device, faster)
    ]
    assert times[1] == pytest.approx(times[0] / 2, rel=1e-9)


def replace_peak(compute, bf16):
    return compute.model_copy(update={"peak": {**compute.peak, "bf16": bf16}})

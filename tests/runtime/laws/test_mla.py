"""Latent attention: the law written out, batches of one kind and of both."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, catalog_model
from gpusim.model.step import BatchShape, StepShapes
from gpusim.model.work import Attention, LatentWork
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.kernels import CalibratedLaws
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm"]
V3 = catalog_model("deepseek-v3")


def seconds_of(timing):
    return timing.duration_s(timing.memory_s())


def decodes(batch, context, heads, dtype="bf16", reuse_distance=None):
    """Return absorbed decodes by themselves, without the products round them; numbers or arrays."""
    batch, context, heads = (np.atleast_1d(np.asarray(size, float)) for size in (batch, context, heads))
    tokens, none = batch * context, 0 * batch
    size = tokens * 576 * (1 if dtype == "fp8" else 2)
    latent = LatentWork(batch, tokens, none, 512, 64, none, none, none)
    moved = 2 * batch * heads * (576 + 512)
    return Attention(
        "mla", batch, heads, 1, 576, dtype, tokens, size, moved, none, none, latent, reuse_distance=reuse_distance
    )


def decode_s(name, work):
    device = catalog_device(name)
    return seconds_of(CalibratedLaws(figures_of(device), laws_of(device, "sglang")).time(work))


def written_out(device, law, batch, context, heads):
    """The law for one call on a 16-bit cache in plain floats."""
    streamed, sms = device.memory.efficiency * device.memory.bandwidth, device.compute.sm_count
    groups = ceil(heads / law.heads_per_item)
    items = batch * groups
    splits = floor(min(max(sms // items, 1), law.max_splits, max(1, context / law.min_split)))
    if law.split_rule == "fixed":
        splits = min(law.max_splits, context)
    flops = 2 * batch * context * groups * law.heads_per_item * (576 + 512)
    piece = ceil(context / splits / law.block) * law.block * 576 * 2
    other = ceil(items * splits / sms) * (law.t_cta + piece / law.cta_bandwidth)
    other += flops / (law.compute_efficiency * device.compute.peak["bf16"])
    moved = batch * context * 576 * 2 + law.query_passes * 2 * batch * heads * (576 + 512)
    reduced = (
        0 if law.reduce_bandwidth is None else splits * min(heads, law.heads_per_item) * 512 * 4 / law.reduce_bandwidth
    )
    split_s = law.t_split + reduced if splits > 1 else 0
    return law.t0 + split_s + (other**2 + (moved / (law.memory_factor * streamed)) ** 2) ** 0.5


@settings(max_examples=40)
@given(
    name=st.sampled_from(GPUS),
    batch=st.integers(1, 512),
    context=st.integers(1, 30_000),
    heads=st.sampled_from([1, 8, 16, 64, 128]),
)
def test_the_law_written_out(name, batch, context, heads):
    """The vectorised law is the formula."""
    device = catalog_device(name)
    expected = written_out(device, laws_of(device, "sglang").mla["bf16"], batch, context, heads)
    assert decode_s(name, decodes(batch, context, heads))[0] == pytest.approx(expected, rel=1e-9)


def test_a_converted_cache_costs_its_conversion():
    """H100's kernel knows 16 bit alone: beside a 16-bit cache's time, 3 bytes an element at the conversion's rate."""
    device = catalog_device("h100-sxm")
    law = laws_of(device, "sglang").mla["fp8"]
    few, many = decode_s("h100-sxm", decodes([64, 64], [4096, 8192], [16, 16], "fp8"))
    plain = law.model_copy(update={"convert_efficiency": None, "t_convert": 0.0})
    times = [written_out(device, plain, 64, context, 16) for context in (4096, 8192)]
    converted_s = 64 * 4096 * 576 * 3 / (law.convert_efficiency * 0.96 * 3.35e12)
    assert few == pytest.approx(times[0] + law.t_convert + converted_s, rel=1e-9)
    assert many == pytest.approx(times[1] + law.t_convert + 2 * converted_s, rel=1e-9)


def test_a_cache_read_again_comes_from_l2():
    """A benchmark's loop over a cache that fits L2 is faster than a model's layers, over one that does not it is not."""
    for context, is_faster in ((512, True), (65536, False)):
        cold, warm = (decodes(64, context, 16, reuse_distance=size) for size in (None, 64 * context * 1152.0))
        gain = decode_s("b200-sxm", cold)[0] / decode_s("b200-sxm", warm)[0] - 1
        assert (gain > 1e-4) == is_faster


def layer_terms(shapes):
    """Return the terms of a layer's attention on H100."""
    device = catalog_device("h100-sxm")
    laws = CalibratedLaws(figures_of(device), laws_of(device))
    (_, work), *_ = build_lowering(V3, tp=8).attention(shapes)
    return laws.time(work)


def terms_of(*shape):
    return layer_terms(StepShapes.of(BatchShape(*shape), 1))


def test_what_is_absent_costs_nothing():
    """Decodes alone have no expansion, a chunk alone no absorbed attention; both together have both."""
    decodes, chunk, both = (
        terms_of(8, 8000, (), 8),
        terms_of(0, 0, ((512, 2048),), 0),
        terms_of(8, 8000, ((512, 2048),), 8),
    )
    for of in ("fixed_s", "other_s", "l2_s", "even_bytes", "kv_bytes"):
        expected = getattr(decodes, of)[0] + getattr(chunk, of)[0]
        assert getattr(both, of)[0] == pytest.approx(expected, rel=1e-12)
    assert chunk.l2_s[0] == 0 < chunk.other_s[0]


def test_a_step_without_tokens_takes_none():
    """No decodes and no chunks: nothing, and no division by zero."""
    terms = terms_of(0, 0, (), 0)
    assert seconds_of(terms)[0] == 0


def test_many_steps_are_each_by_itself():
    """Rows of one call are those of single calls, to the bit."""
    many = layer_terms(StepShapes.of(BatchShape(7, 700, ((3, 40),), 7), 50))
    for step in (0, 13, 49):
        one = terms_of(7, 700 + 7 * step, ((3, 40),), 7)
        assert seconds_of(many)[step] == seconds_of(one)[0]

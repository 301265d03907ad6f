"""Latent attention: the law written out, batches of one kind and of both."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, catalog_model
from gpusim.model.work import BatchShape, StepShapes
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.kernels import CalibratedLaws
from gpusim.runtime.laws.mla import DecodeRows, decode_time
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm"]
V3 = catalog_model("deepseek-v3")


def seconds_of(timing):
    return timing.duration_s(timing.memory_s())


def written_out(device, law, batch, context, heads):
    """The law for one call on a 16-bit cache in plain floats."""
    rate, sms = law.memory_factor * device.memory.efficiency * device.memory.bandwidth, device.compute.sm_count
    groups = ceil(heads / law.heads_per_item)
    items = batch * groups
    splits = floor(min(max(sms // items, 1), max(1, context / law.min_split)))
    flops = 2 * batch * context * groups * law.heads_per_item * (576 + 512)
    other = ceil(items * splits / sms) * (law.t_cta + ceil(context / splits) * 576 * 2 / law.cta_bandwidth)
    other += flops / (law.compute_efficiency * device.compute.peak["bf16"])
    memory = (batch * context * 576 * 2 + 2 * batch * heads * (576 + 512)) / rate
    memory += 8 * batch * heads * 512 * splits / rate if splits > 1 else 0
    return law.t0 + (law.t_split if splits > 1 else 0) + (other**2 + memory**2) ** 0.5


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
    law = laws_of(device).mla["bf16"]
    rows = DecodeRows(np.array([float(batch)]), np.array([float(batch * context)]), heads, 512, 64)
    timing = decode_time(rows, law, figures_of(device), "bf16")
    assert seconds_of(timing)[0] == pytest.approx(written_out(device, law, batch, context, heads), rel=1e-9)


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


def test_eager_calls_are_a_benchmark_s():
    """What the CPU takes to launch a call is in A100's measurements, and in no run."""
    device = catalog_device("a100-sxm-80gb")
    law = laws_of(device).mla["bf16"]
    rows = DecodeRows(np.array([1.0]), np.array([100.0]), 16, 512, 64)
    graph, eager = (decode_time(rows, law, figures_of(device), "bf16", eager=eager) for eager in (False, True))
    assert seconds_of(eager)[0] - seconds_of(graph)[0] == pytest.approx(law.t_eager, rel=1e-9)
    assert law.t_eager > 100e-6

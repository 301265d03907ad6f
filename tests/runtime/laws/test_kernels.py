"""The two sets of laws behind one interface."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, catalog_model
from gpusim.model.collectives import AllGather, AllReduce
from gpusim.model.step import BatchShape
from gpusim.model.work import Elementwise, Gemm
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.kernels import CalibratedLaws, RooflineLaws
from machines import catalog_device, figures_of

A100 = catalog_device("a100-sxm-80gb")
IDEAL = RooflineLaws(figures_of(A100, ideal=True))
CALIBRATED = CalibratedLaws(figures_of(A100), laws_of(A100))
LOWERING = build_lowering(catalog_model("llama-3.1-8b"))


def kernels_of(**shape):
    """Return the kernels of a layer's step and what comes before and after."""
    program = LOWERING.lower(BatchShape(**shape), 3)
    return [k for _, part in program.parts for k in part if not isinstance(k, AllReduce | AllGather)]


def seconds_of(laws, work):
    timing = laws.time(work)
    return timing.duration_s(timing.memory_s())


def test_ideal_is_the_roofline():
    """Each kernel takes the larger of its bytes at peak bandwidth and its FLOPs at peak rate, and nothing else."""
    for work in kernels_of(num_decodes=300, decode_context=300_000, num_sampled=300):
        if isinstance(work, Gemm):
            flops, size = work.flops, work.weight_bytes + work.activation_bytes
        elif isinstance(work, Elementwise):
            flops, size = 0.0, work.bytes_read + work.bytes_written
        else:
            flops, size = work.flops, work.kv_bytes + work.activation_bytes
        expected = np.maximum(size / 2.039e12, flops / 312e12)
        assert seconds_of(IDEAL, work) == pytest.approx(np.atleast_1d(expected), rel=1e-12)


@settings(max_examples=25)
@given(batch=st.integers(1, 400), context=st.integers(1, 4000), chunk=st.integers(0, 2000))
def test_calibrated_laws_never_beat_the_roofline_of_what_must_move(batch, context, chunk):
    """No law is faster than weights and KV at peak bandwidth, or than the FLOPs at peak rate."""
    chunks = ((chunk, chunk),) if chunk else ()
    for work in kernels_of(num_decodes=batch, decode_context=batch * context, chunks=chunks, num_sampled=batch):
        must_move = getattr(work, "weight_bytes", 0.0) + getattr(work, "kv_bytes", 0.0)
        floor = np.maximum(must_move / 2.039e12, getattr(work, "flops", 0.0) / 312e12)
        assert (seconds_of(CALIBRATED, work) > floor).all()


def test_attention_has_a_row_for_each_step_and_the_rest_one():
    """Only attention grows with the context."""
    lengths = {work.name: len(CALIBRATED.time(work).fixed_s) for work in kernels_of(num_decodes=4, decode_context=100)}
    assert lengths.pop("attention") == 3
    assert set(lengths.values()) == {1}


def test_weights_are_told_from_activations():
    """The terms of a product say how many of its bytes are weights, under either set."""
    work = Gemm("w", 4, 1000, 2000, "bf16", 4e6, 24e3)
    assert CALIBRATED.time(work).weight_bytes == IDEAL.time(work).weight_bytes == 4e6

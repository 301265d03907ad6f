"""Where a step's time went: it adds up, and each second is booked to what caused it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, catalog_model
from gpusim.core.clock import TICKS_PER_S
from gpusim.model.step import BatchShape
from gpusim.runtime.attribution import CATEGORIES, collective_attribution, kernel_attribution
from gpusim.runtime.laws.timing import KernelTime
from machines import Machine, decode

positive = st.floats(1e-9, 1e-2)
LLAMA = build_lowering(catalog_model("llama-3.1-8b"))


def booked(table):
    """Return seconds by category, those that are not 0."""
    return {name: float(value) for name, value in zip(CATEGORIES, np.ravel(table), strict=True) if value}


def build_terms(*, fixed_s=1.0, other_s=0.0, l2_s=0.0, even_bytes=0.0, kv_bytes=0.0, **scalars):
    """Return the terms of one kernel that moves a byte a second."""
    values = (np.array([value]) for value in (fixed_s, other_s, l2_s, even_bytes, kv_bytes))
    return KernelTime(*values, **({"memory_rate": 1.0, "smoothness": np.inf} | scalars))


def of_run(result):
    return dict(zip(CATEGORIES, result.attribution_s.tolist(), strict=True))


@given(
    other_s=positive,
    l2_s=positive,
    weights=positive,
    activations=positive,
    kv=positive,
    more=positive,
    p=st.floats(1, 20),
)
def test_the_parts_of_a_kernel_sum_to_its_duration(other_s, l2_s, weights, activations, kv, more, p):
    """Whatever the terms, and however long the bytes took, nothing is lost, negative or made up."""
    terms = build_terms(
        other_s=other_s, l2_s=l2_s, even_bytes=weights + activations, kv_bytes=kv, weight_bytes=weights, smoothness=p
    )
    memory_s = terms.memory_s() + more
    table = kernel_attribution(terms, memory_s)
    assert table.sum() == pytest.approx(terms.duration_s(memory_s)[0], rel=1e-12)
    assert (table >= -1e-15).all()


def test_bytes_are_told_apart():
    """A kernel bound by memory: weights, KV and the rest in proportion to the time of their bytes, and its launch."""
    terms = build_terms(even_bytes=5.0, kv_bytes=2.0, weight_bytes=4.0, l2_s=0.5)
    parts = {"weights": 4.0, "kv": 2.0, "activations": 1.5, "launch": 1.0}
    assert booked(kernel_attribution(terms, terms.memory_s())) == parts


def test_kv_on_few_channels_is_kv():
    """Time beyond that of evenly spread bytes is KV's, whether its channels or its links made it long."""
    terms = build_terms(even_bytes=1.0, kv_bytes=2.0)
    assert booked(kernel_attribution(terms, terms.memory_s(3.0))) == {"kv": 6.0, "activations": 1.0, "launch": 1.0}


def test_the_smooth_maximum_is_shared_by_powers():
    """3 of memory and 4 of tiles make 5 at p = 2, of which memory gets 9 / 25 and tiles 16 / 25."""
    terms = build_terms(other_s=4.0, even_bytes=3.0, weight_bytes=3.0, smoothness=2.0)
    parts = {"weights": 5 * 9 / 25, "compute": 5 * 16 / 25, "launch": 1.0}
    assert booked(kernel_attribution(terms, terms.memory_s())) == pytest.approx(parts)


def test_the_plain_maximum_goes_to_the_larger():
    """Ideal kernels are either compute or memory."""
    terms = build_terms(fixed_s=0.0, other_s=4.0, even_bytes=3.0)
    assert booked(kernel_attribution(terms, terms.memory_s())) == {"compute": 4.0}


def test_a_collective_is_communication():
    """All of it."""
    assert booked(collective_attribution(np.array([2.0]))) == {"communication": 2.0}


@settings(max_examples=15)
@given(batch=st.integers(1, 64), context=st.integers(1, 1500), chunk=st.integers(0, 500), share=st.floats(0, 1))
def test_a_run_adds_up_also_under_contention(batch, context, chunk, share):
    """The reasons of a run sum to the time it took, with prefill, on two ranks, beside a copy in memory."""
    machine = Machine("dgx-a100-80gb")
    chunks = ((chunk, chunk),) if chunk else ()
    shape = BatchShape(batch, batch * context, chunks, num_sampled=batch + len(chunks))
    program = build_lowering(catalog_model("tiny"), tp=2).lower(shape, 3)
    machine.copy("gpu0", "gpu0", rate=max(1.0, share * 1e12))
    result = machine.play(machine.executor("gpu0", "gpu1"), program)
    assert result.attribution_s.sum() == pytest.approx(int(result.ends[-1]) / TICKS_PER_S, rel=1e-9)
    assert (result.attribution_s >= 0).all()


def test_an_ideal_decode_step_is_weights_kv_and_activations():
    """Bound by memory on one GPU it computes nothing longer than it reads, talks to nobody, and waits for nothing."""
    machine = Machine(ideal=True)
    program = decode(LLAMA, batch=8, context=4000)
    parts = of_run(machine.play(machine.executor(), program))
    bandwidth = machine.cluster.banks["gpu0"].bandwidth
    weights = sum(count * getattr(k, "weight_bytes", 0.0) for count, part in program.parts for k in part)
    kv = 8 * 4000 * 2 * 32 * 8 * 128 * 2
    assert parts["weights"] == pytest.approx(weights / bandwidth, rel=1e-6)
    assert parts["kv"] == pytest.approx(kv / bandwidth, rel=1e-6)
    assert 0 < parts["activations"] < 0.01 * parts["weights"]
    assert parts["compute"] == parts["communication"] == parts["launch"] == parts["waiting"] == 0


def test_a_long_prefill_is_compute():
    """Ideal, 4,096 prompt tokens at once spend nearly all their time on the matrix units."""
    machine = Machine(ideal=True)
    parts = of_run(machine.play(machine.executor(), LLAMA.lower(BatchShape(0, 0, ((4096, 4096),), num_sampled=1))))
    assert parts["compute"] > 0.9 * sum(parts.values())


def test_what_others_took_is_waiting():
    """A copy in memory lengthens a step by what is booked as waiting, and changes no other part."""
    alone, beside = Machine(), Machine()
    beside.copy("gpu0", "gpu0", rate=5e11)
    first, second = (machine.play(machine.executor(), decode(LLAMA)) for machine in (alone, beside))
    before, after = of_run(first), of_run(second)
    assert after.pop("waiting") == pytest.approx(int(second.ends[-1] - first.ends[-1]) / TICKS_PER_S, rel=1e-9)
    assert before.pop("waiting") == 0
    assert after == before


def test_remote_kv_is_kv():
    """KV that comes over the fabric is booked as KV: its latency and its bytes beyond what is read locally meanwhile."""
    machine = Machine("thread-node", ideal=True)
    executor = machine.executor("gpu0", remote=machine.remote("gpu0", [f"neighbour{i}" for i in range(8)]))
    parts = of_run(machine.play(executor, decode(LLAMA, batch=8, context=20_000)))
    kv_s = 8 * 20_000 * 2 * 32 * 8 * 128 * 2 / 1.6e12
    assert parts["kv"] == pytest.approx(kv_s, rel=0.01)

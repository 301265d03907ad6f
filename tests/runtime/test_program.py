"""Timing programs: what is repeated, what is asked of the channels, what is read over the fabric."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from builders import build_lowering, catalog_model
from gpusim.model.step import BatchShape
from gpusim.runtime.collective import TimedCollective
from gpusim.runtime.program import TimedKernel
from gpusim.spec.model import ModelSpec
from machines import Machine, decode


def timed(program, *, spread=None, gpus=("gpu0",), topology="dgx-a100-80gb", ideal=False):
    machine = Machine(topology, ideal=ideal)
    return machine.executor(*gpus).timer.time(program, None if spread is None else [spread])


def named(timed_program, name):
    return next(operation for operation in timed_program.operations if operation.name == name)


def test_operations_come_in_the_order_and_number_of_the_program():
    """Every layer's kernels, collectives where they belong; one that repeats is one object."""
    program = decode(tp=2)
    result = timed(program, gpus=("gpu0", "gpu1"))
    kernels = [o for o in result.operations if isinstance(o, TimedKernel)]
    collectives = [o for o in result.operations if isinstance(o, TimedCollective)]
    assert (len(kernels), len(collectives)) == (program.num_kernels, program.num_collectives)
    names = [k.name for count, part in program.parts for _ in range(count) for k in part]
    assert [operation.name for operation in result.operations] == names
    assert len({id(k) for k in kernels if k.name == "qkv"}) == 1


def test_layers_of_a_pattern_are_played_in_its_order():
    """Local, local, global, local, local: at kernel detail each layer comes where the model has it."""
    model = catalog_model("tiny")
    groups = [
        model.layers[0].model_copy(update={"count": count, "num_norms": norms}) for count, norms in ((4, 2), (1, 1))
    ]
    mixed = ModelSpec(**model.model_dump(exclude={"layers", "pattern"}), layers=groups, pattern=[0, 0, 1])
    names = [o.name for o in timed(build_lowering(mixed).lower(BatchShape(1, 100, num_sampled=1))).operations]
    starts = [place for place, name in enumerate(names) if name == "norm0"]
    assert ["norm1" in names[a:b] for a, b in pairwise([*starts, len(names)])] == [True, True, False, True, True]


def test_even_kv_asks_all_channels_alike():
    """Weights and KV spread evenly: seconds of service are bytes over the kernel's rate."""
    attention = named(timed(decode(batch=64, steps=3)), "attention")
    terms = attention.terms
    assert attention.size_bytes == pytest.approx(terms.even_bytes + terms.kv_bytes)
    assert attention.demand_s == pytest.approx(np.array(attention.size_bytes) / terms.memory_rate)


@pytest.mark.parametrize("ideal", [False, True])
def test_uneven_kv_asks_each_channel_for_what_lies_there(ideal):
    """A channel's demand is its even part and its KV at a channel's rate; the fullest one times the kernel."""
    spread = np.random.default_rng(1).dirichlet(np.ones(80), size=2)
    result = timed(decode(batch=64, steps=2), spread=spread, ideal=ideal)
    attention = named(result, "attention")
    terms = attention.terms
    expected = terms.even_bytes[:, None] / 80 + terms.kv_bytes[:, None] * spread
    assert attention.size_bytes == pytest.approx(expected, rel=1e-12)
    assert attention.demand_s == pytest.approx(expected / (terms.memory_rate / 80), rel=1e-12)
    memory_s = terms.l2_s + attention.demand_s.max(axis=1)
    assert attention.ticks == pytest.approx(terms.duration_s(memory_s) * 1e12, abs=1)


def test_kv_spread_evenly_by_channel_is_kv_spread_evenly():
    """Equal fractions on all channels give the ticks of no fractions at all."""
    program = decode(batch=64, steps=2)
    even = timed(program, spread=np.full((2, 80), 1 / 80))
    assert abs(even.step_ticks - timed(program).step_ticks).max() <= program.num_kernels


def test_remote_kv_leaves_the_memory():
    """Pooled KV is asked of the fabric and not of the bank, which keeps queries and outputs."""
    machine = Machine("thread-node")
    executor = machine.executor("gpu0", remote=machine.remote("gpu0", ["neighbour0", "neighbour1"]))
    attention = named(executor.timer.time(decode(batch=8, steps=2), None), "attention")
    assert attention.remote_bytes == attention.terms.kv_bytes.tolist()
    assert attention.size_bytes == attention.terms.even_bytes.tolist()
    assert executor.timer.remote.per_byte_s == pytest.approx(1 / 1.6e12)
    assert executor.timer.remote.latency_s == pytest.approx(1e-6)


def test_contended_without_contention_is_the_law():
    """The formula that serves shared memory gives the idle ticks when the bytes took as long as on idle channels."""
    for operation in timed(decode(batch=64, steps=3)).operations:
        for step in range(3):
            row = min(step, len(operation.ticks) - 1)
            again = operation.contended_s(step, operation.demand_s[row])
            assert again * 1e12 == pytest.approx(operation.ticks[row], abs=1)


def test_step_ticks_and_attribution_agree():
    """Rows of the attribution sum to the steps' ticks, exactly but for floats."""
    result = timed(decode(tp=2, steps=4), gpus=("gpu0", "gpu1"))
    assert result.attribution_s.sum(axis=1) == pytest.approx(result.step_ticks / 1e12, rel=1e-12)


def test_prefill_and_decode_are_timed_in_one_step():
    """A chunk beside decodes, 512 rows and so whole tiles, takes longer than either, and less than both."""
    lowering = build_lowering(catalog_model("llama-3.1-8b"))
    decodes, chunk = {"num_decodes": 32, "decode_context": 32_000}, {"chunks": ((480, 480),)}
    both, first, second = (
        int(
            timed(
                lowering.lower(BatchShape(**({"num_decodes": 0, "decode_context": 0} | s), num_sampled=1))
            ).step_ticks[0]
        )
        for s in (decodes | chunk, decodes, chunk)
    )
    assert max(first, second) < both < first + second

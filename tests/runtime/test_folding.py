"""Folding: rows of tables and sums over steps, bit for bit those of single programs."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_lowering, build_model, catalog_model
from gpusim.model.step import BatchShape, StepShapes
from gpusim.runtime.accounts import account_steps
from gpusim.runtime.folding import Folder
from gpusim.runtime.totals import CHUNK, StepTotals, TotalsTable
from machines import Machine
from predictions import uneven

SHAPE = tuple(field.name for field in fields(StepShapes) if field.name != "windows")
MODELS = {"tiny": catalog_model("tiny"), "small": build_model()}


@st.composite
def shapes(draw) -> BatchShape:
    """Decodes, prefill chunks, or both; some chunks do not complete their prompts."""
    decodes = draw(st.integers(0, 40))
    spans = st.tuples(st.integers(1, 70), st.integers(0, 300)).map(lambda span: (span[0], sum(span)))
    chunks = tuple(draw(st.lists(spans, min_size=0 if decodes else 1, max_size=3)))
    context = decodes + draw(st.integers(0, 5000))
    return BatchShape(decodes, context, chunks, num_sampled=decodes + draw(st.integers(0, len(chunks))))


RUNS = st.lists(st.tuples(shapes(), st.integers(1, 5)), min_size=1, max_size=5)


def joined(runs):
    """Put the steps of runs one behind the other."""
    parts = [StepShapes.of(shape, steps) for shape, steps in runs]
    return StepShapes(*(np.concatenate([getattr(part, name) for part in parts]) for name in SHAPE))


def build_folder(tp, model="tiny", *, ideal=False):
    """Return a machine, its executor at kernel detail and a folder with the same laws."""
    machine = Machine("dgx-a100-80gb", ideal=ideal)
    executor = machine.executor(*(f"gpu{i}" for i in range(tp)))
    return machine, executor, Folder(executor.timer, build_lowering(MODELS[model], tp=tp))


def assert_same(one: StepTotals, other: StepTotals):
    """Assert that all sums are the same to the last bit."""
    for name in StepTotals.__dataclass_fields__:
        if name != "traffic":
            assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
    for pattern, sums in one.traffic.items():
        assert [each.tolist() for each in sums] == [each.tolist() for each in other.traffic[pattern]], pattern


@pytest.mark.parametrize("tp", [1, 2, 8])
@settings(max_examples=15)
@given(asked=st.lists(st.lists(st.integers(0, 5 * CHUNK), min_size=1, max_size=6), min_size=1, max_size=4))
def test_rows_of_a_table_are_those_of_single_kernels(tp, asked):
    """Whatever is asked for first, a row is the sum over kernels of that one number; 0 is nothing."""
    _, executor, folder = build_folder(tp)
    lowering, timer = folder.lowering, executor.timer
    for kernels in (lowering.token_kernels, lowering.sampling_kernels):
        table = TotalsTable(timer, kernels)
        for numbers in asked:
            rows = table.rows(np.array(numbers))
            for row, number in enumerate(numbers):
                counted = [(count, timer.rows(kernel)) for count, kernel in (kernels(number) if number else ())]
                assert_same(rows.take(np.array([row])), StepTotals.of(counted, 1))
                assert table.ticks(number) == rows.ticks[row]


def test_a_table_has_no_entry_for_each_number_below_the_largest():
    """All prompts of a study come in one step of 67 million tokens: 16 million cost less than a byte for each of them."""
    _, executor, folder = build_folder(1)
    table = TotalsTable(executor.timer, folder.lowering.token_kernels)
    tracemalloc.start()
    assert table.ticks(2**24) > table.ticks(1) > 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("ideal", [False, True])
@pytest.mark.parametrize(("tp", "model"), [(1, "tiny"), (1, "small"), (2, "tiny"), (4, "small")])
@settings(max_examples=15)
@given(runs=RUNS, spread=st.booleans(), seed=st.integers(0, 99))
def test_folded_times_are_those_of_programs(tp, model, ideal, runs, spread, seed):
    """Ticks, attribution and bounds of mixed steps, KV even or not, are bit for bit those of programs timed one by one."""
    _, executor, folder = build_folder(tp, model, ideal=ideal)
    steps = joined(runs)
    channels = executor.timer.bank.num_channels
    fractions = uneven(len(steps.num_tokens), channels, seed) if spread else None
    folded = folder.time(steps, None if fractions is None else [fractions.max(axis=1)])
    first = 0
    for shape, number in runs:
        part = slice(first, first + number)
        program = folder.lowering.lower(shape, number)
        timed = executor.timer.time(program, None if fractions is None else [fractions[part]])
        assert folded.ticks[part].tolist() == timed.step_ticks.tolist()
        assert folded.attribution_ps[part].tolist() == timed.attribution_ps.tolist()
        assert folded.bound_ps[part].tolist() == timed.bound_ps.tolist()
        assert set(folded.fixed.ticks[part].tolist()) == set(timed.fixed.ticks.tolist())
        assert folder.fixed_ticks(shape.num_tokens, shape.num_sampled) == timed.fixed.ticks[0]
        first += number


@pytest.mark.parametrize("tp", [1, 2, 4])
@settings(max_examples=8)
@given(runs=RUNS, spread=st.booleans(), seed=st.integers(0, 99), data=st.data())
def test_accounts_of_folded_steps_are_those_of_played_ones(tp, runs, spread, seed, data):
    """Bytes by channel and link, busy time and FLOPs of the first steps are what playing them kernel by kernel leaves."""
    played, executor, folder = build_folder(tp)
    steps = joined(runs)
    total = len(steps.num_tokens)
    fractions = uneven(total, executor.timer.bank.num_channels, seed) if spread else None
    kept = data.draw(st.integers(1, total))
    first = 0
    for shape, asked in runs:
        number = min(asked, kept - first)
        if number > 0:
            channels = None if fractions is None else [fractions[first : first + number]]
            played.play(executor, folder.lowering.lower(shape, number), kv_channels=channels)
        first += max(0, number)
    other, stand_in, folder = build_folder(tp)
    folded = folder.time(steps, None if fractions is None else [fractions.max(axis=1)])
    read = None if fractions is None else [fractions]
    account_steps(folded, slice(kept), read, timer=folder.timer, gpus=stand_in.gpus, fabric=other.cluster.fabric)
    for name in other.cluster.gpus:
        one, gpu = played.cluster.gpus[name], other.cluster.gpus[name]
        np.testing.assert_allclose(gpu.memory.channel_bytes_out, one.memory.channel_bytes_out, rtol=1e-9)
        assert gpu.memory.busy_s() == pytest.approx(one.memory.busy_s(), rel=1e-9)
        assert gpu.compute.flops == pytest.approx(one.compute.flops, rel=1e-9)
        assert gpu.compute.busy_ticks == one.compute.busy_ticks
    for name, moved in played.cluster.fabric.moved_bytes().items():
        assert other.cluster.fabric.moved_bytes()[name] == pytest.approx(moved, rel=1e-9)
    for name, busy_s in played.cluster.fabric.busy_s().items():
        assert other.cluster.fabric.busy_s()[name] == pytest.approx(busy_s, rel=1e-9)


def test_remote_kv_is_accounted_on_the_fabric():
    """Pooled KV of folded steps leaves the bank alone and moves over the links as it does when it is played."""
    moved = []
    shape = BatchShape(8, 4000, ((16, 40),), num_sampled=9)
    for folds in (False, True):
        machine = Machine("thread-node")
        remote = machine.remote("gpu0", ["neighbour0", "neighbour1"])
        executor, lowering = machine.executor("gpu0", remote=remote), build_lowering(catalog_model("tiny"))
        if folds:
            folded = Folder(executor.timer, lowering).time(StepShapes.of(shape, 3), None)
            account_steps(
                folded, slice(3), None, timer=executor.timer, gpus=executor.gpus, fabric=machine.cluster.fabric
            )
        else:
            result = machine.play(executor, lowering.lower(shape, 3))
            ends = result.ends.tolist()
        bank = machine.cluster.banks["gpu0"]
        moved.append((bank.channel_bytes_out.sum(), *machine.cluster.fabric.moved_bytes().values()))
    assert np.cumsum(folded.ticks).tolist() == ends
    assert moved[1] == pytest.approx(moved[0], rel=1e-9)

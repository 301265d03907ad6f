"""What must hold in every run, whatever its scenario: nothing is lost, nothing is made up, nothing comes before its cause."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from bandwidth import check_use
from builders import scenario_data, token_ticks
from gpusim.core.clock import TICKS_PER_S
from gpusim.errors import SimulationError
from gpusim.model.step import BatchShape
from gpusim.plan import plan_document
from gpusim.results.result import Result
from gpusim.runtime.program import ProgramTimer, TimedKernel
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from planned import steps_of, windows_of_step
from scenarios import ARRIVALS, DEPENDENT, MACHINES, scenarios, swapping


class Watched:
    """A run, with the kernels of every step that its engines finished, timed one by one whatever its detail."""

    def __init__(self, data):
        self.simulation = Simulation(plan_document(Document("test.yaml", data, folder=Path())))
        self.spreads = {name: [] for name in self.simulation.engines}
        self.shapes = {name: [] for name in self.simulation.engines}
        self.idle = {name: [] for name in self.simulation.engines}
        self.windows = {name: [] for name in self.simulation.engines}
        for name, engine in self.simulation.engines.items():
            self._watch(engine, self.shapes[name], self.windows[name], self.spreads[name], self.idle[name])
        self.result: Result = self.simulation.run()

    @staticmethod
    def _watch(engine, shapes, windows, spreads, idle):
        """Note what each step of each commit computes, and how its KV is spread over the channels."""
        commit = engine._commit.run

        def watched(advance):
            steps = steps_of(advance.outlook)[: len(advance.played.ends)]
            shapes.extend(map(shape_of, steps))
            idle.extend(map(idle_in, steps))
            windows.extend(windows_of_step(step, engine.lowering.model.windows) for step in steps)
            spreads.extend([None] * len(steps) if advance.read is None else zip(*advance.read, strict=True))
            del spreads[len(shapes) :]
            return commit(advance)

        engine._commit.run = watched

    def operations(self, name):
        """Yield every operation of every step that engine *name* finished, with its row."""
        engine = self.simulation.engines[name]
        timer = engine.executor.timer
        fresh = ProgramTimer(timer.figures, timer.laws, timer.bank, timer.collectives, timer.remote)
        assert len(self.shapes[name]) == len(self.simulation.logs[name])
        for shape, windows, read in zip(self.shapes[name], self.windows[name], self.spreads[name], strict=True):
            spread = None if read is None else [(kind / kind.sum())[None] for kind in read]
            for operation in fresh.time(engine.lowering.lower(shape, 1, windows), spread).operations:
                yield operation, 0


def shape_of(step):
    """Return the shape of one step, added up from its requests."""
    chunks = tuple((new, computed + new) for _, computed, new in step.chunks)
    completed = sum(computed + new == request.target for request, computed, new in step.chunks)
    decode_context = sum(step.tokens[request] for request in step.decoding)
    return BatchShape(len(step.decoding), decode_context, chunks, num_sampled=len(step.decoding) + completed)


def idle_in(step):
    """Return how many decodes of one step are for requests that have all their tokens: those of a padded batch."""
    got = [step.tokens[request] - request.padding - request.prompt_tokens for request in step.decoding]
    return sum(n >= request.output_tokens for n, request in zip(got, step.decoding, strict=True))


def check_log(run):
    """The log counts in every step the decodes, prompt tokens and outputs that its requests had in it."""
    for name, log in run.simulation.logs.items():
        of = np.repeat(np.arange(len(log.runs)), log.run_lengths)
        counted = [
            (shape.num_decodes, shape.num_tokens - shape.num_decodes, shape.num_sampled - idle)
            for shape, idle in zip(run.shapes[name], run.idle[name], strict=True)
        ]
        columns = (log.runs[name][of].tolist() for name in ("num_decodes", "num_prefill_tokens", "num_tokens"))
        assert list(zip(*columns, strict=True)) == counted


def check_blocks(run):
    """All KV blocks are free again, and never were more in use than there are."""
    for engine in run.simulation.engines.values():
        assert engine.kv.used == 0
        assert engine.kv.num_free == engine.kv.num_blocks
        assert sorted(engine.kv.free.take(engine.kv.num_blocks).tolist()) == list(range(engine.kv.num_blocks))
        assert engine.kv.peak_used <= engine.kv.num_blocks
        assert engine.kv.peak_used >= run.simulation.logs[engine.name].runs["kv_blocks"].max(initial=0)


def check_host(run):
    """All that went to host memory came back, no block belongs to two, and its blocks are all free again."""
    for engine in run.simulation.engines.values():
        host = engine.host
        if host is not None:
            assert not host.held
            assert host.used == 0
            assert host.blocks_out == host.blocks_in
            assert sorted(host.free.take(host.num_blocks).tolist()) == list(range(host.num_blocks))
            assert host.peak_used <= host.num_blocks
            assert (host.num_swaps > 0) == (host.blocks_out > 0)


def check_counts(run):
    """Every request is counted once; those that finished have exactly their tokens, the others none."""
    counts, rows = run.result.metrics.counts, run.simulation.requests.rows
    sources = set(run.simulation._source_of.values())
    assert counts.submitted == counts.finished + counts.running + counts.waiting + counts.rejected == len(rows)
    assert counts.submitted == sum(source.num_submitted for source in sources)
    assert counts.running == counts.waiting == 0
    tokens = token_ticks(run.simulation)
    for row in rows:
        got = tokens[run.simulation.requests.engines[row["engine"]], int(row["index"])]
        assert len(got) == (row["output_tokens"] if row["reason"] < 0 else 0)
    produced = sum(log.total("num_tokens") for log in run.simulation.logs.values())
    assert produced == sum(map(len, tokens.values()))
    assert run.result.itl.count == produced - counts.finished


def check_causality(run):
    """Arrival <= scheduled < first token < second token ..., and each step is in its place."""
    for row, got in zip(run.simulation.requests.rows, token_ticks(run.simulation).values(), strict=True):
        if row["reason"] < 0:
            assert row["arrival_ps"] <= row["scheduled_ps"] < got[0]
            assert (np.diff(got) > 0).all()
            assert 0 <= row["preempted_ps"] <= got[-1] - row["arrival_ps"]
            assert (row["num_preemptions"] > 0) == (row["preempted_ps"] > 0)
    for log in run.simulation.logs.values():
        assert (log.ends > log.starts).all()
        assert (log.starts[1:] >= log.ends[:-1]).all()


def check_work(run):
    """Prompt and output tokens are computed once, more of them only where a request was padded, or preempted and not swapped."""
    rows = run.simulation.requests.rows
    for code, (log, engine) in enumerate(
        zip(run.simulation.logs.values(), run.simulation.engines.values(), strict=True)
    ):
        mine = rows[(rows["engine"] == code) & (rows["reason"] < 0)]
        needed = int((mine["prompt_tokens"] + mine["output_tokens"] - 1 - mine["cached_tokens"]).sum())
        computed = log.total("num_decodes") + log.total("num_prefill_tokens")
        swaps = 0 if engine.host is None else engine.host.num_swaps
        # Who was preempted may find all that was computed in the prefix cache.
        again = mine["num_preemptions"].sum() > swaps or run.simulation.plan.engines[code].serving.pad
        assert computed >= needed if again else computed == needed


def check_memory(run):
    """Every channel moved exactly the bytes that the kernels of its rank asked of it, and every processor did their FLOPs."""
    for name, engine in run.simulation.engines.items():
        channels = np.zeros(engine.executor.gpus[0].memory.num_channels)
        flops = 0.0
        for operation, row in run.operations(name):
            if isinstance(operation, TimedKernel):
                size_bytes = operation.size_bytes[row]
                channels += size_bytes if isinstance(size_bytes, np.ndarray) else size_bytes / len(channels)
                flops += operation.flops[row]
        for gpu in engine.executor.gpus:
            assert gpu.memory.channel_bytes_in == pytest.approx(channels, rel=1e-9)
            assert gpu.memory.channel_bytes_out == pytest.approx(channels, rel=1e-9)
            assert gpu.compute.flops == pytest.approx(flops, rel=1e-9)


def check_links(run):
    """Every link moved exactly the bytes of collectives and swapped KV, and what flowed into a switch flowed out of it."""
    fabric = run.simulation.cluster.fabric
    expected = np.zeros(len(fabric.capacity))
    for name in run.simulation.engines:
        for operation, _ in run.operations(name):
            if not isinstance(operation, TimedKernel):
                expected[operation.loads.index] += operation.loads.amounts
    for plan in run.simulation.plan.engines:
        for gpu, host in plan.hosts.items():
            size_bytes = run.simulation.engines[plan.name].host.blocks_out * plan.memory.block_bytes
            loads = fabric.loads([(gpu, host, size_bytes), (host, gpu, size_bytes)], memory=False)
            expected[loads.index] += loads.amounts
    moved = fabric.moved_bytes()
    through = Counter()
    for link, asked in zip(fabric.links, expected, strict=False):
        assert moved[link.name] == pytest.approx(asked, rel=1e-9, abs=1e-6)
        through[link.target] += moved[link.name]
        through[link.source] -= moved[link.name]
    endpoints = {*run.simulation.cluster.gpus, *run.simulation.cluster.hosts}
    largest = max(moved.values(), default=0.0)
    assert all(abs(surplus) <= 1e-9 * largest for node, surplus in through.items() if node not in endpoints)


def check_time(run):
    """Nothing was busy for longer than the run took, and the reasons of every run of steps add up to its time."""
    simulation = run.simulation
    elapsed_s = simulation.clock.now_s
    gpus = simulation.cluster.gpus.values()
    busy_s = [*simulation.cluster.fabric.busy_s().values(), *(gpu.memory.busy_s() for gpu in gpus)]
    assert all(0.0 <= each <= elapsed_s * (1 + 1e-9) for each in busy_s)
    assert all(gpu.compute.busy_ticks <= simulation.clock.now for gpu in gpus)
    assert all(0.0 <= fraction <= 1.0 for fraction in simulation.cluster.utilisation().values())
    for name, log in simulation.logs.items():
        spent = log.run_ends - log.runs["start_ps"]
        assert (log.runs["attribution_ps"].sum(axis=1) == spent).all()
        assert simulation.engines[name].bound_s <= spent.sum() / TICKS_PER_S


def check_bandwidth_in_use(run):
    """Over time it adds up to the bytes that memories and links moved, whatever moved them."""
    check_use(run.result.record, run.simulation.cluster)


CHECKS = (
    check_log,
    check_blocks,
    check_host,
    check_counts,
    check_causality,
    check_work,
    check_memory,
    check_links,
    check_time,
    check_bandwidth_in_use,
)


def kinds_of(run):
    """Name what was special about a run."""
    engines = [engine.serving for engine in run.simulation.plan.engines]
    rows = run.simulation.requests.rows
    yield from (engine["detail"] for engine in run.result.summary()["engines"].values())
    yield from (serving.scheduler for serving in engines)
    yield from (f"TP {serving.tensor_parallel_size}" for serving in engines)
    if rows["num_preemptions"].any():
        yield "preempted"
    if any(engine.host is not None and engine.host.num_swaps for engine in run.simulation.engines.values()):
        yield "swapped"
    if (rows["reason"] >= 0).any():
        yield "rejected"
    if any(serving.max_num_batched_tokens < rows["prompt_tokens"].max() for serving in engines):
        yield "chunked prefill"


@pytest.mark.parametrize("kind", [*ARRIVALS, *DEPENDENT])
@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_lost(kind, machine):
    """Blocks, requests, tokens, bytes and time are conserved, whatever the arrivals and however many GPUs."""

    @settings(max_examples=5)
    @given(data=scenarios(kind, machine))
    def check(data):
        try:
            run = Watched(data)
        except SimulationError:
            event("nothing could run")
            return
        for what in set(kinds_of(run)):
            event(what)
        for each in CHECKS:
            each(run)

    check()


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_lost_on_the_way_to_host_memory_and_back(machine):
    """Blocks of GPUs and hosts, bytes on PCIe, tokens and time are conserved where who is preempted is swapped."""

    @settings(max_examples=8)
    @given(data=swapping(st.sampled_from(["closed", "at_once"]).flatmap(lambda kind: scenarios(kind, machine))))
    def check(data):
        try:
            run = Watched(data)
        except SimulationError:
            return
        for what in set(kinds_of(run)):
            event(what)
        for each in CHECKS:
            each(run)

    check()


@pytest.mark.parametrize("detail", ["kernel", "step"])
@pytest.mark.parametrize(("tp", "seats"), [(1, 3), (2, 3), (4, 5)])
@pytest.mark.parametrize("host_blocks", [0, 4, 99])
def test_nothing_is_lost_where_blocks_run_out(host_blocks, tp, seats, detail):
    """With blocks for one and a half requests and seats for more, chunked prompts, preemptions and swaps conserve too."""
    swap = {"preemption_mode": "swap", "swap_space": f"{host_blocks * 4096 // tp} B"} if host_blocks else {}
    run = Watched(
        scenario_data(
            detail=detail,
            topology="dgx-a100-80gb",
            serving={"tensor_parallel_size": tp, "max_num_seqs": seats, "max_num_batched_tokens": 9} | swap,
            serving__num_gpu_blocks_override=9,
            serving__block_size=4,
            workload__arrivals={"kind": "at_once"},
            workload__prompt_tokens={"kind": "uniform", "low": 6, "high": 12},
            workload__output_tokens={"kind": "fixed", "value": 12},
        )
    )
    assert {"preempted", "chunked prefill"} | ({"swapped"} if swap else set()) <= set(kinds_of(run))
    for each in CHECKS:
        each(run)


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_nothing_is_lost_where_requests_are_rejected(detail):
    """Requests that can never run leave no trace but a line in the log."""
    lengths = {"kind": "uniform", "low": 10, "high": 60}
    run = Watched(scenario_data(detail=detail, serving__max_model_len=40, workload__prompt_tokens=lengths))
    assert "rejected" in set(kinds_of(run))
    for each in CHECKS:
        each(run)

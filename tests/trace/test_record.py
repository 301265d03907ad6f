"""Timelines read back: spans nest and add up, bytes are those that moved, and watching changes nothing."""

from __future__ import annotations

import gzip
import io
import itertools
import tracemalloc

import pytest

from builders import build_plan
from gpusim.simulation import Simulation
from gpusim.trace.record import trace, write_timeline
from gpusim.trace.window import find_window
from timelines import INSIDE, run_and_trace, tick

LLAMA = {
    "topology": "dgx-h100",
    "model": "llama-2-70b",
    "detail": "step",
    "serving": {"tensor_parallel_size": 8, "max_num_seqs": 32, "max_num_batched_tokens": 2048},
    "workload__prompt_tokens": {"kind": "fixed", "value": 512},
    "workload__output_tokens": {"kind": "fixed", "value": 8},
    "workload__arrivals": {"kind": "at_once"},
    "workload__num_requests": 4,
}
STREAM = {"kind": "copy", "from": "gpu0", "to": "gpu1", "rate": "5 GB/s"}
COPIES = {"kind": "copy", "from": "gpu0", "to": "gpu1", "size": "1 MiB", "period": "100 us"}


@pytest.fixture(scope="module")
def llama():
    """Llama-2-70B on 8 H100 with folded ranks: a step that computes the prompts, and 7 decode steps."""
    return run_and_trace(build_plan(**LLAMA))


def test_spans_of_a_step_nest_and_add_up(llama):
    """Kernels fill the parts of the model, parts the step, and the step is the engine's, to the picosecond."""
    simulation, _, timeline = llama
    spans = timeline.spans["gpu0 (of 8 alike)", "kernels"]
    steps, parts, kernels = ([span for span in spans if span.depth == depth] for depth in range(3))
    log = simulation.logs["engine"]
    assert [(span.start, span.end) for span in steps] == list(zip(log.starts.tolist(), log.ends.tolist(), strict=True))
    for step in steps:
        of_step = [part for part in parts if step.start <= part.start < step.end]
        assert [part.name for part in of_step] == ["embedding", *(f"layer {n}" for n in range(80)), "head"]
        assert sum(part.end - part.start for part in of_step) == step.end - step.start
        of_kernels = [kernel for kernel in kernels if step.start <= kernel.start < step.end]
        assert len(of_kernels) == 2 + 80 * 12 + 5
        assert all(a.end == b.start for a, b in itertools.pairwise(of_kernels))
        assert sum(kernel.end - kernel.start for kernel in of_kernels) == step.end - step.start


def test_the_engine_says_what_each_step_computes(llama):
    """Steps carry number, sequences and tokens; counters follow them."""
    simulation, _, timeline = llama
    steps = timeline.spans["engine", "steps"]
    assert [step.name for step in steps] == [f"step {n}" for n in range(8)]
    assert [step.args["prefill tokens"] for step in steps] == [2048] + [0] * 7
    assert [step.args["decoding sequences"] for step in steps] == [0] + [4] * 7
    [*decoding, last] = timeline.counter("engine", "decoding sequences")
    assert decoding == [(steps[0].start, 0), (steps[1].start, 4)]
    assert last == (steps[-1].end, 0)
    assert timeline.counter("engine", "KV blocks used")[0][1] == 4 * 32
    assert len(simulation.logs["engine"]) == 8


def test_bytes_are_conserved(llama):
    """Counters of memory and links integrate to the bytes that the simulation moved; so do the spans of the stacks."""
    simulation, _, timeline = llama
    moved = simulation.cluster.gpus["gpu0"].memory.bytes_out
    gpu = "gpu0 (of 8 alike)"
    assert timeline.integral(gpu, "memory, kernels bytes/s") == pytest.approx(moved, rel=1e-9)
    stacks = [timeline.spans[gpu, f"HBM stack {n}"] for n in range(5)]
    assert sum(span.args["bytes"] for stack in stacks for span in stack) == pytest.approx(moved, rel=1e-6)
    for link, size_bytes in simulation.cluster.fabric.moved_bytes().items():
        if link.startswith("gpu0->nvswitch"):
            counter, spans = f"{link} bytes/s", timeline.spans[gpu, link]
            fastest = max(rate for _, rate in timeline.counter(gpu, counter))
            # Every flow ends at a full picosecond, half of one away from where it would at most.
            rounding = 0.5e-12 * fastest * len(spans)
            assert timeline.integral(gpu, counter) == pytest.approx(size_bytes, abs=rounding, rel=1e-9)
            assert sum(span.args["bytes"] for span in spans) == pytest.approx(size_bytes, rel=1e-6)


def test_folded_ranks_are_shown_once(llama):
    """One GPU stands for all; its links are there, those of the others are not."""
    _, _, timeline = llama
    assert {process for process, _ in timeline.spans} == {
        "engine",
        "gpu0 (of 8 alike)",
        *(f"nvswitch{n}" for n in range(4)),
    }
    assert {track for process, track in timeline.spans if process == "nvswitch0"} == {"nvswitch0->gpu0:nvlink"}


def test_arrows_lead_from_a_request_to_its_steps(llama):
    """Four requests, each with an arrow to all eight steps: the one of its prompt and those of its further tokens."""
    _, _, timeline = llama
    arrows = list(timeline.arrows().values())
    steps = timeline.spans["engine", "steps"]
    assert len(arrows) == 4
    assert all([tick(point) - INSIDE for point in arrow[1:]] == [step.start for step in steps] for arrow in arrows)
    lanes = [spans for (_, track), spans in timeline.spans.items() if track.startswith("requests")]
    assert sorted(spans[0].name for spans in lanes) == [f"request {n}" for n in range(4)]
    assert [span.name for span in lanes[0]] == ["request 0", "prefill", "decode"]


@pytest.mark.parametrize("swaps", [False, True])
def test_arrows_touch_every_step_that_computed_for_a_request(swaps):
    """Steps that computed a chunk of a prompt, also again after a preemption, and steps that gave a token; no others."""
    changes = {
        "serving__block_size": 4,
        "serving__num_gpu_blocks_override": 20,
        "serving__max_num_batched_tokens": 16,
        "serving__preemption_mode": "swap" if swaps else "recompute",
        "workload__arrivals": {"kind": "at_once"},
        "workload__prompt_tokens": {"kind": "fixed", "value": 28},
        "workload__output_tokens": {"kind": "fixed", "value": 20},
        "workload__num_requests": 3,
    }
    simulation, traced, timeline = run_and_trace(build_plan(**changes))
    steps, of_steps = timeline.spans["engine", "steps"], {}
    for points in timeline.arrows().values():
        for point in points[1:]:
            of_steps[tick(point) - INSIDE] = of_steps.get(tick(point) - INSIDE, 0) + 1
    given = {step.start: step.args["tokens"] for step in steps}
    assert set(of_steps) == set(given), "no step computes for nobody"
    prefills = {step.start for step in steps if step.args["prefill tokens"]}
    assert all(of_steps[start] == given[start] for start in given if start not in prefills)
    assert all(of_steps[step.start] > step.args["decoding sequences"] for step in steps if step.start in prefills)
    requests = traced.record.requests
    assert requests.rows["num_preemptions"].sum() > 0
    computed = sum(step.args["prefill tokens"] for step in steps)
    assert (computed == 3 * 28) == swaps
    assert len(prefills) > 3 * 28 / 16
    assert simulation.logs["engine"].total("num_tokens") == 60


def test_a_hundred_steps_stay_small(llama, tmp_path):
    """By the size of these steps, 100 take less than 10 MB; `benchmarks/timeline.py` writes as many."""
    plan, (simulation, *_) = build_plan(**LLAMA), llama
    window = find_window(simulation.logs, None, None)
    write_timeline(plan, tmp_path / "t.json.gz", window)
    assert (tmp_path / "t.json.gz").stat().st_size / window.num_steps * 100 < 10e6


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2, "ranks": "all"},
        {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2, "background": [STREAM]},
        {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2, "background": [COPIES], "detail": "step"},
        {
            "serving__num_gpu_blocks_override": 8,
            "serving__max_model_len": 64,
            "workload__arrivals": {"kind": "at_once"},
        },
        {"workload__arrivals": {"kind": "closed", "concurrency": 3}},
        {
            "engines": [{"name": name, "gpus": [gpu]} for name, gpu in (("one", "gpu0"), ("two", "gpu1"))],
            "topology": "dgx-a100-80gb",
        },
    ],
    ids=["one gpu", "all ranks", "stream", "copies", "preemption", "closed loop", "two engines"],
)
@pytest.mark.parametrize("window", [(None, None), (0.0005, 0.0015)], ids=["default", "window"])
def test_watching_changes_no_step(changes, window):
    """Whatever is traced, steps end in the ticks in which they do without, and the timeline keeps the rules."""
    changes = dict(changes)
    if "engines" in changes:
        changes["model"] = "tiny"
    simulation, _, timeline = run_and_trace(build_plan(**changes), *window)
    for name, log in simulation.logs.items():
        process = name if name == "engine" else f"engine {name}"
        shown = [(span.start, span.end) for span in timeline.spans.get((process, "steps"), [])]
        every = list(zip(log.starts.tolist(), log.ends.tolist(), strict=True))
        if window == (None, None):
            assert shown == every[: len(shown)]
        else:
            assert shown == [(start, end) for start, end in every if 5e8 <= start < 1.5e9]
    kernels = [spans for (_, track), spans in timeline.spans.items() if track == "kernels"]
    assert kernels
    for spans in kernels:
        inner = [span for span in spans if span.depth == 2]
        assert all(a.end <= b.start for a, b in itertools.pairwise(inner))


def test_copies_show_on_memory_and_links():
    """A background copy is a span on the link it takes and on both memories, and its bytes are those it moved."""
    changes = {"topology": "dgx-a100-80gb", "background": [COPIES], "workload__num_requests": 2}
    _, _, timeline = run_and_trace(build_plan(**changes))
    links = [spans for (_, track), spans in timeline.spans.items() if track.startswith("gpu0->nvswitch")]
    copies = len(links[0])
    assert copies > 1
    assert {span.name for spans in links for span in spans} == {"copy"}
    assert sum(span.args["bytes"] for spans in links for span in spans) == pytest.approx(copies * 2**20, rel=1e-5)
    written = [s for (at, track), spans in timeline.spans.items() if at == "gpu1" and "HBM" in track for s in spans]
    assert sum(span.args["bytes"] for span in written) == pytest.approx(copies * 2**20, rel=1e-5)


class Watched(io.TextIOBase):
    """Forgets what is written, and notes how much there was when certain steps were."""

    def __init__(self) -> None:
        self.size = 0
        self.kernels = 0

    def write(self, text: str) -> int:
        self.size += len(text)
        return len(text)


def test_events_are_written_as_they_happen():
    """Most is written before the run is over, in pieces."""
    sizes, file = [], Watched()
    plan = build_plan(workload__num_requests=60)
    record = Simulation(plan).run().record
    trace(plan, file, find_window(record.steps, None, 100.0), lambda _: sizes.append(file.size))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 50
    assert sizes[0] < 0.1 * file.size
    assert sizes[-1] > 0.8 * file.size


def test_memory_does_not_grow_with_the_timeline():
    """Five times the requests are several times the text, and not a tenth of that more memory."""
    peaks, sizes = [], []
    for number in (10, 10, 50):  # the first run fills caches
        plan, file = build_plan(workload__num_requests=number), Watched()
        window = find_window(Simulation(plan).run().record.steps, None, 100.0)
        tracemalloc.start()
        trace(plan, file, window)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(file.size)
    assert sizes[2] > 3 * sizes[1] > 3e5
    assert peaks[2] - peaks[1] < 0.1 * (sizes[2] - sizes[1])


def test_the_same_run_gives_the_same_bytes(tmp_path):
    """The text, and so what is in the file, does not depend on when it was written."""
    plan = build_plan()
    window = find_window(Simulation(plan).run().record.steps, None, None)
    for name in ("a", "b"):
        write_timeline(plan, tmp_path / name, window)
    a, b = (gzip.decompress((tmp_path / name).read_bytes()) for name in ("a", "b"))
    assert a == b

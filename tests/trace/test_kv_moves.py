"""Timelines of KV on its way to host memory and back: over PCIe, before the step that waits for it, or beside others."""

from __future__ import annotations

import itertools

import pytest

from builders import build_plan
from gpusim import simulation as simulation_module
from gpusim.core.clock import ticks
from gpusim.results.step_log import StepLog
from gpusim.runtime.attribution import TRANSFER
from gpusim.workload.stream import RequestShape
from timelines import run_and_trace, steps_of_gpu

PCIE, LATENCY_S = 31.51e9 * 0.914, 800e-9
"""Bytes/s that PCIe 4 x16 achieves, and its latency, on `single-gpu`."""
BLOCK_BYTES = 4 * 1024
"""Of a block of 4 tokens of the tiny model."""
BLOCKS = 6
SWAP = {
    "serving__preemption_mode": "swap",
    "serving__block_size": 4,
    "serving__num_gpu_blocks_override": 12,
    "workload__arrivals": {"kind": "at_once"},
    "workload__prompt_tokens": {"kind": "fixed", "value": 20},
    "workload__output_tokens": {"kind": "fixed", "value": 12},
    "workload__num_requests": 2,
}
"""Two requests of up to 31 tokens, and 12 blocks of 4: one gives way with 6 blocks, and comes back with them."""
OFFLOAD = {
    "serving__block_size": 4,
    "serving__num_gpu_blocks_override": 12,
    "serving__enable_prefix_caching": True,
    "serving__kv_offload": {"size": "1 GiB"},
}


def stalled(log: StepLog) -> dict[int, int]:
    """Return the ticks that steps waited for KV, by the ticks in which they began; each is a run of its own."""
    runs = log.runs[log.runs["attribution_ps"][:, TRANSFER] > 0]
    return dict(zip(runs["start_ps"].tolist(), runs["attribution_ps"][:, TRANSFER].tolist(), strict=True))


def copies(timeline, *track):
    """Return the spans of KV on a track: from when to when, and how many bytes."""
    spans = timeline.spans.get(track, [])
    return [(span.start, span.end, span.args["bytes"]) for span in spans if span.name.startswith("KV ")]


@pytest.mark.parametrize("tp", [1, 2])
def test_a_swap_is_before_the_step_that_waits_for_it(tp):
    """Steps of the GPU are the engine's, to the picosecond: those that wait begin with the copy, which is on PCIe meanwhile."""
    changes = {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": tp}
    simulation, _, timeline = run_and_trace(build_plan(**SWAP | changes))
    stalls, waits = stalled(simulation.logs["engine"]), {}
    gpu = "gpu0" if tp == 1 else "gpu0 (of 2 alike)"
    of_gpu = steps_of_gpu(timeline, gpu)
    assert [(s.start, s.end) for s, _ in of_gpu] == [(s.start, s.end) for s in timeline.spans["engine", "steps"]]
    for step, parts in of_gpu:
        assert parts[0].start == step.start
        assert all(a.end == b.start for a, b in itertools.pairwise(parts))
        assert parts[-1].end == step.end
        waits |= {part.start: part.end - part.start for part in parts if part.name == "KV transfer"}
    assert waits == stalls
    assert len(waits) == 2
    assert sum(b for bank in range(5) for *_, b in copies(timeline, gpu, f"HBM stack {bank}")) == pytest.approx(
        2 * BLOCKS * BLOCK_BYTES / tp, abs=10
    )


def test_a_swap_is_on_pcie_with_its_bytes():
    """It sets out after the latency of the route, and takes its bytes over PCIe; nothing else is on these links."""
    simulation, _, timeline = run_and_trace(build_plan(**SWAP))
    size_bytes = BLOCKS * BLOCK_BYTES
    out, back = sorted(stalled(simulation.logs["engine"]).items())
    for process, link, (start, stall) in (("gpu0", "gpu0->cpu0:pcie", out), ("cpu0", "cpu0->gpu0:pcie", back)):
        begin, end = start + ticks(LATENCY_S), start + stall
        assert copies(timeline, process, link) == [(begin, end, size_bytes)]
        assert end - begin == ticks(size_bytes / PCIE)
        assert timeline.integral(process, f"{link} bytes/s") == pytest.approx(size_bytes, rel=1e-6)
    assert [span.name for span in timeline.spans["gpu0", "gpu0->cpu0:pcie"]] == ["KV to host"]
    assert [span.name for span in timeline.spans["cpu0", "cpu0->gpu0:pcie"]] == ["KV from host"]
    in_host = [copy for (at, _), spans in timeline.spans.items() if at == "cpu0" for copy in spans if "KV" in copy.name]
    assert sum(copy.args["bytes"] for copy in in_host) == pytest.approx(3 * size_bytes, abs=10)


@pytest.mark.parametrize("edge", ["from", "to"])
def test_a_window_with_its_edge_in_a_copy(edge):
    """A step belongs to the window by its own begin, not by that of its first kernel: engine and GPU show the same steps."""
    plan = build_plan(**SWAP)
    simulation, _, whole = run_and_trace(plan)
    start, stall = min(stalled(simulation.logs["engine"]).items())
    middle = (start + stall / 2) / 1e12
    part = run_and_trace(plan, **{f"{edge}_s": middle})[2]
    steps = [(step.start, step.end) for step in part.spans["engine", "steps"]]
    assert (start in {begin for begin, _ in steps}) == (edge == "to")
    assert [(step.start, step.end) for step, _ in steps_of_gpu(part, "gpu0")] == steps
    assert {step for step in steps if step[1] < middle * 1e12} <= {
        (s.start, s.end) for s in whole.spans["engine", "steps"]
    }


def test_what_is_kept_in_host_memory_is_beside_the_steps(monkeypatch):
    """A request that is over leaves its full blocks to PCIe with its last token; no step waits, the GPU's memory does not feel it."""
    shapes = (RequestShape(0, 0.0, 20, 4, ((7, 24),)), RequestShape(1, 0.0, 12, 40, ()))
    monkeypatch.setattr(simulation_module, "requests", lambda *_args, **_options: iter(shapes))
    simulation, _, timeline = run_and_trace(build_plan(**OFFLOAD | {"serving__num_gpu_blocks_override": 40}))
    steps = timeline.spans["engine", "steps"]
    blocks = (20 + 4 - 1) // 4
    [(begin, end, size_bytes)] = copies(timeline, "gpu0", "gpu0->cpu0:pcie")
    first = [span for (_, track), spans in timeline.spans.items() if track.startswith("requests") for span in spans]
    over = next(span.end for span in first if span.name == "request 0")
    assert (begin, size_bytes) == (over + ticks(LATENCY_S), blocks * BLOCK_BYTES)
    assert end - begin == ticks(size_bytes / PCIE)
    assert steps[-1].end > end, "others go on"
    assert not stalled(simulation.logs["engine"])
    assert not any(copies(timeline, "gpu0", f"HBM stack {bank}") for bank in range(5))


def test_what_comes_back_from_host_memory_is_waited_for(monkeypatch):
    """The step that begins with restored blocks begins with their copy."""
    shapes = (
        RequestShape(0, 0.0, 20, 12, ((7, 32),)),
        RequestShape(1, 1.0, 40, 5, ()),
        RequestShape(2, 2.0, 33, 3, ((7, 32), (8, 3))),
    )
    monkeypatch.setattr(simulation_module, "requests", lambda *_args, **_options: iter(shapes))
    simulation, _, timeline = run_and_trace(build_plan(**OFFLOAD), None, 3.0)
    [(start, stall)] = stalled(simulation.logs["engine"]).items()
    [(begin, end, size_bytes)] = copies(timeline, "cpu0", "cpu0->gpu0:pcie")
    assert (begin, end) == (start + ticks(LATENCY_S), start + stall)
    assert size_bytes == simulation.engines["engine"].store.blocks_in * BLOCK_BYTES > 0
    waits = {p.start: p.end for _, parts in steps_of_gpu(timeline, "gpu0") for p in parts if p.name == "KV transfer"}
    assert waits == {start: start + stall}

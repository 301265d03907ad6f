"""Timelines of replicas that share experts: all step together, meet in every layer with experts, and wait for the slowest."""

from __future__ import annotations

import itertools

import pytest

from builders import build_plan
from timelines import run_and_trace, steps_of_gpu

MEETINGS = ("all_gather dispatch", "reduce_scatter combine")


def traced(folder, *, tp=1, dp=2, prompts=(40, 8), output=4, gap_us=0, **changes):
    """Return simulation and timeline of replicas of the tiny mixture of experts; request i goes to replica i mod dp."""
    rows = [f"{n * gap_us * 1e-6!r},{prompt},{output}" for n, prompt in enumerate(prompts)]
    (folder / "trace.csv").write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    plan = build_plan(
        topology="dgx-a100-80gb",
        model="tiny-moe",
        serving__tensor_parallel_size=tp,
        serving__data_parallel_size=dp,
        serving__enable_expert_parallel=True,
        workload={"trace": str(folder / "trace.csv")},
        **changes,
    )
    simulation, _, timeline = run_and_trace(plan)
    return simulation, timeline


def kernels_in(timeline, gpu):
    """Return the kernels of each step of a GPU."""
    spans = timeline.spans[gpu, "kernels"]
    return [
        [s for s in spans if s.depth == 2 and step.start <= s.start < step.end]
        for step, _ in steps_of_gpu(timeline, gpu)
    ]


@pytest.mark.parametrize("detail", ["kernel", "step"])
@pytest.mark.parametrize("tp", [1, 2])
def test_all_begin_together_and_the_slowest_ends_the_step(tmp_path, tp, detail):
    """In every step of the engines each GPU has one that begins with it; the last to be through ends with it."""
    simulation, timeline = traced(tmp_path, tp=tp, ranks="all", detail=detail)
    steps = [(step.start, step.end) for step in timeline.spans["engine engine0", "steps"]]
    assert [(step.start, step.end) for step in timeline.spans["engine engine1", "steps"]] == steps
    gpus = [f"gpu{rank}" for rank in range(2 * tp)]
    of_gpus = [[step for step, _ in steps_of_gpu(timeline, gpu)] for gpu in gpus]
    for (start, end), *together in zip(steps, *of_gpus, strict=True):
        assert {step.start for step in together} == {start}
        assert max(step.end for step in together) == end
    for gpu in gpus:
        for (step, parts), kernels in zip(steps_of_gpu(timeline, gpu), kernels_in(timeline, gpu), strict=True):
            for within in (parts, kernels):
                assert all(a.end == b.start for a, b in itertools.pairwise(within))
                assert sum(span.end - span.start for span in within) == step.end - step.start
    assert len(simulation.logs["engine0"]) == len(steps)


def test_dispatch_and_combine_end_together(tmp_path):
    """They are met: who comes first waits in it, and its span has that in it; all end in the same tick, on every GPU."""
    _, timeline = traced(tmp_path)
    of_gpus = [
        [span for span in timeline.spans[gpu, "kernels"] if span.depth == 2 and span.name in MEETINGS]
        for gpu in ("gpu0", "gpu1")
    ]
    assert len(of_gpus[0]) == 4 * 2 * 2, "twice in each of two layers, in four steps"
    for one, other in zip(*of_gpus, strict=True):
        assert (one.name, one.end) == (other.name, other.end)
    assert any(one.start != other.start for one, other in zip(*of_gpus, strict=True))
    flows = [span for (_, track), spans in timeline.spans.items() if track.startswith("gpu0->") for span in spans]
    ends = {span.end for span in of_gpus[0]}
    assert flows
    assert {flow.name for flow in flows} <= {span.name for span in of_gpus[0]}
    assert all(any(flow.end <= end for end in ends) for flow in flows)


def test_links_carry_the_bytes_of_all(tmp_path):
    """Spans and counters of each link sum up to what the simulation moved over it."""
    simulation, timeline = traced(tmp_path, tp=2, ranks="all")
    moved = {link: size for link, size in simulation.cluster.fabric.moved_bytes().items() if size}
    assert moved
    for link, size_bytes in moved.items():
        process = link.split("->")[0]
        tracks = [
            spans for (at, track), spans in timeline.spans.items() if at == process and track.split(" ")[0] == link
        ]
        of_flows = [span.args["bytes"] for spans in tracks for span in spans]
        assert sum(of_flows) == pytest.approx(size_bytes, abs=0.5 * len(of_flows)), "spans have whole bytes"
        # Every flow ends at a full picosecond, half of one away from where it would at most.
        rounding = 0.5e-12 * max(rate for _, rate in timeline.counter(process, f"{link} bytes/s")) * len(of_flows)
        assert timeline.integral(process, f"{link} bytes/s") == pytest.approx(size_bytes, abs=rounding, rel=1e-9)


def test_who_has_no_work_takes_part(tmp_path):
    """Its GPU has the steps of the others; its engine has none, and nobody runs in it."""
    _, timeline = traced(tmp_path, prompts=(40,))
    steps = [(step.start, step.end) for step in timeline.spans["engine engine0", "steps"]]
    assert len(steps) == 4
    assert ("engine engine1", "steps") not in timeline.spans
    assert timeline.counter("engine engine1", "running requests") == [(steps[0][0], 0)]
    assert [step.start for step, _ in steps_of_gpu(timeline, "gpu1")] == [start for start, _ in steps]


def test_who_comes_during_a_step_waits_for_its_end(tmp_path):
    """A request of an engine without work is waiting until the step of the others is over."""
    simulation, timeline = traced(tmp_path, gap_us=10)
    scheduled = simulation.requests.rows["scheduled_ps"][simulation.requests.rows["index"] == 1].item()
    first = timeline.spans["engine engine0", "steps"][0].start
    waiting = timeline.counter("engine engine1", "waiting requests")
    assert waiting[:3] == [(first, 0), (10_000_000, 1), (scheduled, 0)]
    assert timeline.level("engine engine1", "running requests", scheduled) == 1

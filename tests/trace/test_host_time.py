"""Timelines of engines whose host takes time beside the GPU, or before its kernels."""

from __future__ import annotations

import itertools

import pytest

from builders import build_plan
from timelines import run_and_trace, steps_of_gpu


def traced(step_us, *, in_flight=True, **profile):
    """Return the timeline of a run with so many microseconds of host time beside each step."""
    engine = {"schema": 1, "name": "host", "overlapped_step": f"{step_us} us", **profile}
    plan = build_plan(serving__engine=engine, serving__async_scheduling=in_flight, workload__num_requests=3)
    return run_and_trace(plan)[2]


def test_a_host_that_is_slower_than_the_gpu_ends_the_step():
    """The GPU's step is the engine's: its parts, and what it waits for the host, fill it to the picosecond."""
    timeline = traced(5000)
    steps = timeline.spans["engine", "steps"]
    assert [step.end - step.start for step in steps] == [5_000_000_000] * len(steps)
    of_gpu = steps_of_gpu(timeline, "gpu0")
    assert [(step.start, step.end) for step, _ in of_gpu] == [(step.start, step.end) for step in steps]
    for step, parts in of_gpu:
        assert [part.name for part in parts] == ["embedding", "layer 0", "layer 1", "head", "waiting for host"]
        assert all(a.end == b.start for a, b in itertools.pairwise(parts))
        assert sum(part.end - part.start for part in parts) == step.end - step.start
        assert parts[-1].end - parts[-1].start > 1_000_000_000


def test_a_host_that_is_faster_is_not_seen():
    """Where the GPU takes longer nothing waits, and the timeline is that of an engine without host."""
    fast, none = traced(1), traced(0)
    assert fast.spans == none.spans
    assert not any(span.name == "waiting for host" for span in fast.spans["gpu0", "kernels"])


@pytest.mark.parametrize("part", [0.3, 3.0])
def test_without_steps_in_flight_the_host_comes_with_the_kernels(part):
    """It is the first of the step, before the first kernel, and as long as the profile says."""
    timeline = traced(part * 1000, in_flight=False)
    steps = timeline.spans["engine", "steps"]
    of_gpu = steps_of_gpu(timeline, "gpu0")
    assert [(step.start, step.end) for step, _ in of_gpu] == [(step.start, step.end) for step in steps]
    host = [span for span in timeline.spans["gpu0", "kernels"] if span.name == "host"]
    assert [span.start for span in host] == [step.start for step in steps]
    assert {span.end - span.start for span in host} == {round(part * 1e9)}
    assert not any(part.name == "waiting for host" for _, parts in of_gpu for part in parts)

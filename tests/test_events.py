"""The cost of kernel detail: how many events a step puts on SimPy's queue."""

from __future__ import annotations

import pytest

from builders import build_simulation
from gpusim.runtime.kernel_executor import EVENTS_PER_COLLECTIVE, EVENTS_PER_KERNEL, EVENTS_PER_STEP
from gpusim.runtime.program import TimedKernel


def count_events(tp, num_tokens, ranks):
    """Run one request of *num_tokens* tokens; return the events scheduled, and the last program timed."""
    output = {"kind": "fixed", "value": num_tokens}
    simulation = build_simulation(
        topology="dgx-a100-80gb",
        serving__tensor_parallel_size=tp,
        ranks=ranks,
        workload__num_requests=1,
        workload__output_tokens=output,
    )
    environment, timer = simulation.clock.env, simulation.engines["engine"].executor.timer
    schedule, time = environment.schedule, timer.time
    scheduled, programs = [], []
    environment.schedule = lambda *args, **kwargs: (scheduled.append(1), schedule(*args, **kwargs))[1]
    timer.time = lambda *args: (programs.append(time(*args)), programs[-1])[1]
    simulation.run()
    return len(scheduled), programs[-1]


@pytest.mark.parametrize("ranks", ["all", "folded"])
@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_events_per_step_are_the_stated_constants(tp, ranks):
    """A step costs an event for each kernel on each rank that is played, 3 for each collective, and 1."""
    many, timed = count_events(tp, 30, ranks)
    few, _ = count_events(tp, 20, ranks)
    kernels = [operation for operation in timed.operations if isinstance(operation, TimedKernel)]
    expected = EVENTS_PER_KERNEL * len(kernels) * (1 if ranks == "folded" else tp) + EVENTS_PER_STEP
    expected += EVENTS_PER_COLLECTIVE * timed.program.num_collectives
    assert (many - few) / 10 == expected
    assert (EVENTS_PER_KERNEL, EVENTS_PER_COLLECTIVE, EVENTS_PER_STEP) == (1, 3, 1)

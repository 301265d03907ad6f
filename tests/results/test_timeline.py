"""A run over time, and its longest gaps, against what the logs say."""

import numpy as np
import pytest

from bandwidth import check_use
from builders import build_simulation
from gpusim.core.clock import TICKS_PER_S, ticks
from gpusim.open_run import open_run, open_scenario
from gpusim.plan import plan_document
from gpusim.results.slowest import slowest_gaps
from gpusim.results.timeline import timeline
from gpusim.runtime.attribution import CATEGORIES
from gpusim.simulation import Simulation
from run_builders import uniform_run


def test_bins_conserve_time_and_tokens():
    """Means of bins times their length are the sums of the log; the maximum of all bins is that of the log."""
    record = uniform_run(7, 5)
    found, log = timeline(record, 13), record.steps["engine"]
    width = np.diff(found.edges_s)
    spent = sum(float(found.shares[name] @ width) for name in CATEGORIES)
    assert spent == pytest.approx(log.step_time_ps / 1e12)
    assert found.levels["running"].most.max() == 5
    assert found.levels["running"].mean @ width == pytest.approx(7 * 5 * 0.01)


def test_longest_gaps_come_first():
    """Of steps alike, each gap is a step, and those who waited in it are counted."""
    gaps = slowest_gaps(uniform_run(7, 5))
    assert [gap.gap_s for gap in gaps] == pytest.approx([0.01] * 10)
    assert {gap.num_tokens for gap in gaps} <= {1, 2, 3, 4}
    assert {next(iter(gap.shares)) for gap in gaps} == {"compute"}


@pytest.mark.parametrize("detail", ["kernel", "step"])
@pytest.mark.parametrize(
    "changes",
    [
        {"serving__kv_placement": "pooled"},
        {"serving__tensor_parallel_size": 4},
        {"model": "tiny-moe", "serving__data_parallel_size": 2, "serving__enable_expert_parallel": True},
        {"serving__enable_prefix_caching": True, "serving__kv_offload": {"size": "1 GiB"}},
        {"background": [{"kind": "copy", "from": "gpu0", "to": "gpu0", "size": "1 MiB", "period": "1 ms"}]},
        {"background": [{"kind": "copy", "from": "gpu0", "to": "gpu1", "rate": "100 GB/s"}]},
        {
            "efficiency": "ideal",
            "background": [
                {"kind": "copy", "from": "gpu0", "to": "gpu0", "size": "1 GB", "start": "0.3 ms"},
                {"kind": "copy", "from": "gpu0", "to": "gpu1", "size": "64 MiB", "start": "1.3 ms"},
            ],
        },
    ],
)
def test_bandwidth_in_use_adds_up_to_what_was_moved(changes, detail):
    """Integrated over time it is the bytes that memories and links count, whoever moved them."""
    simulation = build_simulation(topology="dgx-a100-80gb", detail=detail, **changes)
    check_use(simulation.run().record, simulation.cluster)


def test_a_long_copy_that_slows_down_stays_below_the_peak():
    """It moves less once requests come, and is counted so."""
    copy = {"kind": "copy", "from": "gpu0", "to": "gpu0", "size": "3000 GB", "start": "2.2 s"}
    arrivals = {"kind": "constant", "rate": "0.25 /s"}
    changes = {"background": [copy], "workload.arrivals": arrivals, "workload.num_requests": 2}
    simulation = Simulation(plan_document(open_scenario("busy-neighbour", changes)))
    check_use(simulation.run().record, simulation.cluster)


def test_a_copy_changes_nothing_before_it_starts():
    """Steps of one run are spread each by itself: those before the copy as without it, those beside it with its bytes."""
    copy = {"kind": "copy", "from": "gpu0", "to": "gpu0", "rate": "100 GB/s", "start": "1 s"}
    tokens = {"kind": "fixed", "value": 200}
    changes = {"detail": "kernel", "background": [copy], "workload.num_requests": 1, "workload.output_tokens": tokens}
    use = open_run("busy-neighbour", changes).record.use
    edges_s, hbm = use.edges_ps / TICKS_PER_S, use.parts["HBM"]
    before = hbm[(edges_s[:-1] > 0.5) & (edges_s[1:] <= 1.0)]
    assert before == pytest.approx(before[0], rel=0.01)
    assert hbm[(edges_s[:-1] >= 1.0)].min() > before.max() + 0.03


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("at_s", [0.0, 7e-4, 2.34567e-3])
def test_a_stopped_run_has_the_bandwidth_in_use_of_all_that_was_moved(at_s, tp):
    """Of the step under way it has the kernels that have ended."""
    simulation = build_simulation(
        topology="dgx-a100-80gb", workload__output_tokens__value=500, serving__tensor_parallel_size=tp
    )
    simulation.clock.call_in(ticks(at_s), lambda _: simulation.stop())
    record = simulation.run().record
    assert not record.complete
    if at_s:
        check_use(record, simulation.cluster)


def test_both_details_have_the_same_bandwidth_in_use():
    """Steps played at once are spread like steps played kernel by kernel."""
    runs = [open_run("chat", {"workload.num_requests": 4, "detail": detail}) for detail in ("kernel", "step")]
    kernel, step = (timeline(run.record, 20) for run in runs)
    assert kernel.edges_s == pytest.approx(step.edges_s)
    assert kernel.use["HBM"] == pytest.approx(step.use["HBM"], abs=0.01)
    assert step.use["HBM"].max() > 0.5

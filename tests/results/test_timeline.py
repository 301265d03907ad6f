"""A run over time, and its longest gaps, against what the logs say."""

import numpy as np
import pytest

from bandwidth import check_use
from builders import build_simulation
from gpusim.open_run import open_run
from gpusim.results.slowest import slowest_gaps
from gpusim.results.timeline import timeline
from gpusim.runtime.attribution import CATEGORIES
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
    ],
)
def test_bandwidth_in_use_adds_up_to_what_was_moved(changes, detail):
    """Integrated over time it is the bytes that memories and links count, whoever moved them."""
    simulation = build_simulation(topology="dgx-a100-80gb", detail=detail, **changes)
    check_use(simulation.run().record, simulation.cluster)


def test_both_details_have_the_same_bandwidth_in_use():
    """Steps played at once are spread like steps played kernel by kernel."""
    runs = [open_run("chat", {"workload.num_requests": 4, "detail": detail}) for detail in ("kernel", "step")]
    kernel, step = (timeline(run.record, 20) for run in runs)
    assert kernel.edges_s == pytest.approx(step.edges_s)
    assert kernel.use["HBM"] == pytest.approx(step.use["HBM"], abs=0.01)
    assert step.use["HBM"].max() > 0.5

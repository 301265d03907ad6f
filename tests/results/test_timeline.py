"""A run over time, and its longest gaps, against what the logs say."""

import numpy as np
import pytest

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
    assert {gap.category for gap in gaps} == {"compute"}

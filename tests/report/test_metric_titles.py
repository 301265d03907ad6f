"""What metrics are called."""

import pytest

from gpusim.report.metric_titles import LATENCY_TITLES, metric_title, metric_unit
from gpusim.results.change import LATENCIES, UNITS


def test_every_metric_has_its_own_title():
    """A statistic stands before its latency; others are called by their name."""
    assert metric_title("ttft.p99") == "p99 TTFT"
    assert metric_title("queue.mean") == "mean queue"
    assert metric_title("attainment") == "attainment"
    assert len({metric_title(name) for name in UNITS}) == len(UNITS)
    assert set(LATENCY_TITLES) == set(LATENCIES)


@pytest.mark.parametrize(
    ("unit", "values", "shown"),
    [
        ("s", [0.0, 0.02, None, 3.0], "ms"),
        ("s", [2.0, 3.0], "s"),
        ("share", [0.5], "%"),
        ("tokens/s", [1e4], "tokens/s"),
    ],
)
def test_times_are_shown_in_what_the_least_is_at_least_one_of(unit, values, shown):
    """Shares are shown in %, rates as they are."""
    assert metric_unit(unit, values) == shown

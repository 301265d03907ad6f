"""Holding a plan against the times as they are: which of its steps would have been decided alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.serving.outlook import Outlook


def confirmed_steps(outlook: Outlook, arrivals: Sequence[int], starts: IntArray, fixed: int, *, lags: bool) -> int:
    """Return how many steps of *outlook* were planned with the right requests.

    Args:
        outlook: The steps.
        arrivals: Ticks of the requests that are known to come, ascending.
        starts: (steps,) Tick at which each step starts.
        fixed: Tick at which the first batch was fixed, where steps are in flight.
        lags: Whether a batch is fixed when the step before it starts.
    """
    ticks = np.array(arrivals[: outlook.joined[-1] + 1], dtype=np.int64)
    there = np.searchsorted(ticks, _fixed(outlook, starts, fixed, lags=lags), side="right")
    joined = np.array(outlook.joined)
    # Whoever was admitted has arrived, and where one more would have been admitted, nobody else has. Where those who
    # wait are not in order of arrival, exactly those expected have.
    right = (there >= np.array(outlook.admitted_of)) & (~np.array(outlook.is_hungry) | (there <= joined))
    right &= ~np.array(outlook.is_picky) | (there == joined)
    right[0] = True
    wrong = np.flatnonzero(~right)
    last_run = int(wrong[0]) if len(wrong) else len(right)
    return _uncut(outlook, last_run, ticks, starts, lags=lags)


def _fixed(outlook: Outlook, starts: IntArray, fixed: int, *, lags: bool) -> IntArray:
    """Return the tick at which each run's batch is fixed."""
    first = np.array(outlook.first_of)
    own: IntArray = starts[first]
    if not lags:
        return own
    before = np.where(first > 0, starts[first - 1], fixed)
    ticks: IntArray = np.where(outlook.is_late, own, before)
    return ticks


def _uncut(outlook: Outlook, num_runs: int, ticks: IntArray, starts: IntArray, *, lags: bool) -> int:
    """Return the steps of the first *num_runs* runs, up to the first that an arrival cuts."""
    first, steps = np.array(outlook.first_of[:num_runs]), np.array(outlook.run_steps[:num_runs])
    last = first + steps - 1
    # An arrival by the time when the batch of a run's last step is fixed ends the run before it.
    in_flight = int(lags)
    fixed_last = np.where(steps > 1, starts[last - in_flight], -1)
    there = np.searchsorted(ticks, fixed_last, side="right")
    joined = np.array(outlook.joined[:num_runs])
    cut = np.flatnonzero(np.array(outlook.open_to[:num_runs]) & (there > joined))
    if not len(cut):
        return int(last[-1]) + 1
    run = int(cut[0])
    inside = starts[first[run] : last[run] + 1]
    return int(first[run] + np.searchsorted(inside, ticks[joined[run]])) + in_flight

"""Processor sharing in closed form: on each channel, all transfers with work left there get equal service.

Arrays ``left_s`` have shape (transfers, channels): seconds of a whole channel's service each still needs. One column
stands for channels that are all alike. No result depends on the order of the transfers.
"""

from __future__ import annotations

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray


def finish_s(left_s: FloatArray) -> FloatArray:
    """Return the seconds until each transfer has ended on its last channel if none joins, shape (transfers,).

    When a transfer ends on a channel, each other one has had as much service there as it, or all it needed: it ends
    after ``sum_j min(left_j, left_i)``.
    """
    ascending = np.sort(left_s, axis=0)
    ends: FloatArray = np.minimum(ascending[None], left_s[:, None]).sum(axis=1).max(axis=1)
    return ends


def advance(left_s: FloatArray, service_s: float) -> FloatArray:
    """Return what is left after each channel has given *service_s* seconds of service to those who need it."""
    number = len(left_s)
    ascending = np.sort(left_s, axis=0)
    # ends[k]: service a channel has given when its k-th shortest transfer ends there.
    ends = np.cumsum(ascending, axis=0) + np.arange(number - 1, -1, -1)[:, None] * ascending
    ended = (ends <= service_s).sum(axis=0)
    last = np.maximum(ended - 1, 0)[None]
    some = ended > 0
    level = np.where(some, np.take_along_axis(ascending, last, axis=0)[0], 0.0)
    given = np.where(some, np.take_along_axis(ends, last, axis=0)[0], 0.0)
    level += np.where(ended < number, (service_s - given) / np.maximum(number - ended, 1), 0.0)
    return np.maximum(left_s - level, 0.0)


def shares(left_s: FloatArray) -> BoolArray:
    """Return for each transfer whether another has work left where it has."""
    working = left_s > 0.0
    crowded = working.sum(axis=0) > 1
    shared: BoolArray = (working & crowded).any(axis=1)
    return shared

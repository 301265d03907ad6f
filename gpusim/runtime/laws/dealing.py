"""Work items of a grid: dealt out in order, each to the first SM that is free; the call lasts until the last is done."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray

LATE: Final = 2 / 3
"""Of the longest item, what is left of it on average when its SM would be done if work were dealt out evenly."""


def makespan(work_s: FloatArray, per_sm: FloatArray, longest_s: FloatArray) -> FloatArray:
    """Return how long the items of a grid take.

    ``W + l · (u · (ceil(W / l) - W / l) + (1 - u) · 2/3)``, at least l, with l the longest item and u = (mean / l)²: whole waves
    if all are alike; if not, a long one begins late. Against dealing out one by one this is 3 % off in the mean.

    Args:
        work_s: (rows,) W, the time of all items divided by the number of SMs.
        per_sm: (rows,) Items, divided likewise; up to 1 all run at once.
        longest_s: (rows,) Time of the longest item.
    """
    alike = likeness(work_s / np.maximum(per_sm, 1.0), longest_s)
    waves = work_s / longest_s
    # Sums of equal times are whole numbers of waves up to rounding.
    rest = alike * (np.ceil(waves - 1e-9) - waves) + (1 - alike) * LATE
    result: FloatArray = np.where(per_sm > 1, np.maximum(work_s + longest_s * rest, longest_s), longest_s)
    return result


def tail_s(mean_s: FloatArray, longest_s: FloatArray) -> FloatArray:
    """Return how much longer a grid takes whose items differ than one of as many mean ones."""
    tail: FloatArray = LATE * (1 - likeness(mean_s, longest_s)) * longest_s
    return tail


def likeness(mean_s: FloatArray, longest_s: FloatArray) -> FloatArray:
    """Return u, how far a grid's items are alike: 1 if they are equal."""
    alike: FloatArray = np.minimum(mean_s / longest_s, 1.0) ** 2
    return alike

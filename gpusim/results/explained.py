"""What the parts of an explanation share: groups of tokens or requests by how long they waited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray, IntArray
from gpusim.core.clock import TICKS_PER_S
from gpusim.results.statistics import Sample, quantiles_s

GROUPS: Final = ("all", "median", "slow")
"""All; from the 45th to the 55th percentile; at and beyond the 99th."""


def grouped(ticks: IntArray, weights: IntArray) -> dict[str, BoolArray]:
    """Say which of the observations belong to each of `GROUPS`."""
    low, high, slow = (round(s * TICKS_PER_S) for s in quantiles_s(Sample(ticks, weights), (450, 550, 990)))
    return {
        "all": np.ones(len(ticks), bool),
        "median": (ticks >= low) & (ticks <= high),
        "slow": ticks >= slow,
    }


def parts_of(ticks_by: Mapping[str, float], count: int) -> dict[str, Any]:
    """Return means in seconds by part, with their sum and shares of it."""
    means = {name: float(ticks) / TICKS_PER_S / count for name, ticks in ticks_by.items()}
    total = sum(means.values())
    return {
        "count": count,
        "mean_s": total,
        "seconds": means,
        "share": {name: mean / total if total else 0.0 for name, mean in means.items()},
    }


def mean_of(values: IntArray | FloatArray, weights: IntArray) -> float | None:
    """Return the weighted mean; None of nothing."""
    return float(values @ weights) / float(weights.sum()) if weights.sum() else None

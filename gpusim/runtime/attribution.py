"""Where a kernel's time goes, by resource."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.runtime.laws.timing import KernelTime

CATEGORIES: Final = ("weights", "kv", "activations", "compute", "communication", "launch", "waiting", "transfer")
"""Reading weights; reading KV, over the fabric too; other bytes; work items and matrix units; collectives; launch and other
fixed times; waiting for what other traffic held; KV on its way to host memory or back, for which a step waits."""

COMMUNICATION: Final = CATEGORIES.index("communication")
LAUNCH: Final = CATEGORIES.index("launch")
WAITING: Final = CATEGORIES.index("waiting")
TRANSFER: Final = CATEGORIES.index("transfer")


def kernel_attribution(terms: KernelTime, memory_s: FloatArray) -> FloatArray:
    """Split the undisturbed duration of a kernel over the categories.

    The smooth maximum is shared between memory and the rest in proportion to their p-th powers: each gets what it
    contributes; with the plain maximum the larger one takes all.

    Args:
        terms: Of the kernel, (steps,).
        memory_s: (steps,) Time of its bytes. What it has beyond the bytes that are spread evenly is KV's: KV that is
            read over the fabric, or lies on few channels.

    Returns:
        Seconds, (steps, categories); they sum to the duration.
    """
    duration_s = terms.duration_s(memory_s)
    body_s = duration_s - terms.fixed_s
    memory_share = body_s * _share(memory_s, terms.other_s, terms.smoothness)
    weights_s = terms.weight_bytes / terms.memory_rate
    kv_s = np.maximum(memory_s - terms.l2_s - terms.even_bytes / terms.memory_rate, 0.0)
    per_s = np.divide(memory_share, memory_s, out=np.zeros_like(body_s), where=memory_s > 0)
    table = np.zeros((len(body_s), len(CATEGORIES)))
    table[:, 0] = weights_s * per_s
    table[:, 1] = kv_s * per_s
    table[:, 2] = memory_share - table[:, 0] - table[:, 1]
    table[:, 3] = body_s - memory_share
    table[:, 5] = terms.fixed_s
    return table


def _share(memory_s: FloatArray, other_s: FloatArray, exponent: float) -> FloatArray:
    """Memory's part of the smooth maximum."""
    if np.isinf(exponent):
        return (memory_s >= other_s).astype(np.float64)
    larger = np.maximum(memory_s, other_s)
    safe = np.where(larger > 0, larger, 1.0)
    memory, other = (memory_s / safe) ** exponent, (other_s / safe) ** exponent
    return np.divide(memory, memory + other, out=np.ones_like(memory), where=memory + other > 0)


def collective_attribution(duration_s: FloatArray) -> FloatArray:
    """(rows, categories) All of a collective's time is communication."""
    table = np.zeros((len(duration_s), len(CATEGORIES)))
    table[:, COMMUNICATION] = duration_s
    return table


def in_ticks(attribution_s: FloatArray, step_ticks: IntArray) -> IntArray:
    """Round the seconds of steps to the clock, so that the ticks of each step sum to *step_ticks* exactly.

    Each operation is rounded before steps are summed, so the seconds of a step are off by some picoseconds: they are
    scaled, and what rounding leaves goes to the largest. Whole numbers sum alike however a run is cut.

    Args:
        attribution_s: (steps, categories)
        step_ticks: (steps,)
    """
    total_s = attribution_s.sum(axis=1)
    scale = step_ticks / np.where(total_s > 0, total_s, 1.0)
    split: IntArray = np.rint(attribution_s * scale[:, None]).astype(np.int64)
    split[np.arange(len(split)), attribution_s.argmax(axis=1)] += step_ticks - split.sum(axis=1)
    return split

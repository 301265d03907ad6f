"""Sorting the logits of sampled sequences: ``t = t0 + bytes · elements / rate``, linear in sequences and vocabulary.

An engine that keeps the likeliest tokens alone (top-p, top-k) sorts all logits with their indices, adds up the
probabilities, and scatters what is left back. It takes many passes over tens of megabytes that no L2 keeps.
"""

from __future__ import annotations

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.timing import KernelTime
from gpusim.spec.elementwise_law import ElementwiseLawSpec

SORT_BYTES = 498.0
"""Bytes an element that a GPU streams in the time of the sort.

0.155 ns an element on a GPU of 3.35 TB/s of peak, 0.96 of which it streams (H100). The 0.155 ns are inferred: fitted with
three other numbers on the latencies of 33 vLLM serving runs (27 of them in the fit), of which those of models with a
published top_p below 1 show a time per sequence and vocabulary entry; no kernel of them was timed. One family left out
of the fit made it 0.28 ns.
"""
IDEAL_SORT_BYTES = 64.0
"""Bytes an element that a radix sort must move: 32-bit keys and 32-bit indices, read and written once in each of four
passes of 8 bits."""


def sort_time(elements: FloatArray, law: ElementwiseLawSpec, gpu: GpuFigures) -> KernelTime:
    """Apply the law to sorts of so many *elements*, (rows,), at the device's streaming rate."""
    zero = np.zeros_like(elements)
    return KernelTime(
        fixed_s=law.t0 + zero,
        other_s=zero,
        l2_s=zero,
        even_bytes=SORT_BYTES * elements,
        kv_bytes=zero,
        memory_rate=gpu.bandwidth,
        smoothness=1.0,
    )

"""Activations that become fp8 before a product: a kernel of its own, in which one work item takes one row.

It finds the row's largest element and scales by it, so a row passes through its SM twice; bytes of all rows are in L2.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.spec.gemm_law import MatrixSpec

PASS_BYTES: Final = 4.0
"""That an SM takes in for each element: 16 bit, twice."""
MOVED_BYTES: Final = 3.0
"""For each element, between L2 and the SMs: 16 bit read, 8 written."""


def quantising_s(m: FloatArray, k: FloatArray, matrix: MatrixSpec, gpu: GpuFigures, l2_rate: float) -> FloatArray:
    """Return the time of the rows of x[m, k], (rows,); the launch is part of the product's."""
    waves = np.ceil(m / gpu.sm_count)
    result: FloatArray = waves * k * PASS_BYTES / matrix.row_bandwidth + MOVED_BYTES * m * k / l2_rate
    return result

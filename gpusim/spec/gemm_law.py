"""Parameters of matrix products."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gpusim.spec.base import Spec, WeightDtype
from gpusim.units import BytesPerS, Seconds


class GemmLawSpec(Spec):
    """Matrix products with weights of one stored type, by one engine's kernels."""

    t0: Seconds = Field(ge=0)
    """Launch, and whatever else every call pays."""
    t_single_row: Seconds = Field(default=0.0, ge=0)
    """Extra of a single row where an engine calls the product by itself, as benchmarks do; in no run."""
    memory_factor: float = Field(default=1.0, gt=0, le=1)
    """Streaming efficiency of weights relative to what the device does for the best kernels."""
    t_split_k: Seconds = Field(default=0.0, ge=0)
    """Extra time when the reduction is split."""
    splits: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Pieces of the reduction that there are kernels for."""
    tiles: tuple[tuple[int, int], ...] = ((64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
    """Rows and columns of the output that one work item computes, of all kernels there are."""
    choice: Literal["fastest", "rows"] = "fastest"
    """Which tile is taken: the fastest, or the lowest that holds all rows of the product."""

    @property
    def configurations(self) -> list[tuple[int, int, int]]:
        """Rows and columns of a tile with a split, of each that there is."""
        return [(*tile, split) for tile in self.tiles for split in self.splits]


class MatrixSpec(Spec):
    """What a device does for tiles of matrix products, whoever wrote the kernels."""

    streaming: float = Field(gt=0, le=1)
    """Streaming efficiency of weights relative to the device's own."""
    l2_fraction: float = Field(gt=0)
    """Part of L2 that weights may fill before they are evicted: about half of it where its two halves keep copies."""
    l2_speedup: float = Field(ge=1)
    """Bandwidth between L2 and all SMs, relative to that of weights from memory."""
    sm_bandwidth: BytesPerS = Field(gt=0)
    """What one SM takes in of its tiles."""
    row_bandwidth: BytesPerS = Field(gt=0)
    """What one SM takes in of a row of activations that it quantises."""
    efficiency: dict[WeightDtype, float]
    """Of the peak matrix rate, by stored type of the weights."""

"""Parameters of the law of routed experts, see `gpusim.spec.laws`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gpusim.spec.base import Spec
from gpusim.units import Seconds

MoeLibrary = Literal["triton", "cutlass", "trtllm"]
TileRule = Literal["triton", "triton_blocks", "triton_0_14", "cutlass", "cutlass_narrow", "trtllm"]
"""Triton kernels of vLLM, with weights in blocks, and as of version 0.14; FlashInfer's CUTLASS; TensorRT-LLM's."""


class MoeLawSpec(Spec):
    """Routed experts of one stored type, by one library's kernels."""

    t0: Seconds = Field(ge=0)
    """Of a layer: routing, sorting by expert, two grouped products, activation, weighted sum."""
    tiles: TileRule
    """How the kernels choose their tiles, see `gpusim.runtime.laws.moe_tiles`."""
    t_tile: Seconds = Field(ge=0)
    """Fixed time of one tile."""
    sm_factor: float = Field(gt=0)
    """What a tile takes in relative to what an SM can."""
    compute_efficiency: float = Field(default=0.9, gt=0, le=1)
    """Of the peak matrix rate that tiles can reach; most are fed too slowly to come near it."""
    memory_factor: float = Field(default=1.0, gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    token_factor: float = Field(gt=0)
    """Bandwidth of passes over all tokens (choosing, quantising, adding up) relative to the device's own."""
    row_factor: float = Field(gt=0)
    """Likewise of passes over the rows of experts (activation, adding up)."""

    @property
    def is_triton(self) -> bool:
        """Whether its kernels pass over the rows of other ranks' experts too, and read odd sizes element by element."""
        return self.tiles.startswith("triton")

"""How the libraries that compute experts cut a grouped product into tiles.

| rule | rows | columns |
|---|---|---|
| `triton` (vLLM's `get_default_config`; tuned configurations mostly agree) | 16 up to 64 tokens, 64 up to 512, then 128 | 64, then 128 |
| `triton_blocks` (the same, weights scaled in blocks of 128 x 128) | 16 up to 64 tokens, then 64 | 128 |
| `triton_0_14` (the same of vLLM 0.14) | 16 up to as many tokens as the rank has experts, then 64 | 32, then 64 |
| `cutlass`, `cutlass_narrow` (FlashInfer's, as not tuned for a size) | 64 | 128, 64 |
| `trtllm` (`computeSelectedTileN`: choices for each of the rank's experts, as if it had all, the power of 2 below) | 8 to 64 | 128 |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.spec.moe_law import TileRule

FEW_TOKENS, MANY_TOKENS = 64, 512
SMALLEST: Final = 8.0
"""Rows of TensorRT-LLM's smallest tile."""


@dataclass(frozen=True, slots=True)
class Routed:
    """What decides; all arrays (rows,)."""

    tokens: FloatArray
    choices: FloatArray
    """Of experts of all ranks."""
    held: FloatArray
    """Experts of this rank."""


def tiles_of(rule: TileRule, routed: Routed) -> tuple[FloatArray, FloatArray]:
    """Return rows and columns of a tile, (rows,) each."""
    whole = np.ones_like(routed.tokens)
    if rule == "trtllm":
        share = np.maximum(routed.choices / routed.held, 1.0)
        return np.clip(2.0 ** np.ceil(np.log2(share)) / 2, SMALLEST, 64.0), 128.0 * whole
    if rule in {"cutlass", "cutlass_narrow"}:
        return 64.0 * whole, (128.0 if rule == "cutlass" else 64.0) * whole
    are_few = routed.tokens <= (routed.held if rule == "triton_0_14" else FEW_TOKENS)
    if rule == "triton_0_14":
        return np.where(are_few, 16.0, 64.0), np.where(are_few, 32.0, 64.0)
    if rule == "triton_blocks":
        return np.where(are_few, 16.0, 64.0), 128.0 * whole
    more = np.where(routed.tokens <= MANY_TOKENS, 64.0, 128.0)
    return np.where(are_few, 16.0, more), np.where(are_few, 64.0, 128.0)

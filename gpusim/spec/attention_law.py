"""Parameters of attention: decodes, chunks, and the latent kind."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gpusim.spec.base import Spec
from gpusim.units import BytesPerS, Seconds

AttentionKernelName = Literal[
    "flash_attention_2",
    "flash_attention_3",
    "flash_attention_3_ampere",
    "flashinfer",
    "flashinfer_cuda_cores",
    "mmha",
    "trtllm_gen",
    "trtllm_unsplit",
    "xqa",
    "xqa_fp8",
]
"""Implementations of decode attention, see `gpusim.runtime.laws.attention_kernels`."""


class AttentionKernelSpec(Spec):
    """Times of one kernel of decode attention."""

    kernel: AttentionKernelName
    """Which implementation: decides what a work item is and how contexts are split."""
    t0: Seconds = Field(ge=0)
    """Launch, and whatever else every call pays."""
    t_item: Seconds = Field(ge=0)
    """Fixed time of one work item on its SM."""
    t_head: Seconds = Field(default=0.0, ge=0)
    """Further fixed time of an item for each query head."""
    item_bandwidth: BytesPerS = Field(gt=0)
    """Whole blocks of KV that one work item computes."""
    t_split: Seconds = Field(ge=0)
    """Extra time when the context is split: the reduction."""
    t_per_split: Seconds = Field(default=0.0, ge=0)
    """Of it, for each split."""
    t_copy: Seconds = Field(default=0.0, ge=0)
    """Launch of copies that transpose queries and outputs, in kernels that need them."""


class AttentionLawSpec(AttentionKernelSpec):
    """Decode attention of one KV dtype."""

    memory_factor: float = Field(gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    sm_bandwidth: BytesPerS | None = Field(default=None, gt=0)
    """What one SM streams from device memory at most, with as many loads in flight as it has; None: memory limits."""
    other: AttentionKernelSpec | None = None
    """The engine's kernel for calls that the first does not take; None: it takes all."""


class PrefillLawSpec(Spec):
    """Attention with prefill chunks in the call."""

    t0: Seconds = Field(ge=0)
    """Launch, and whatever else every call pays."""
    t_tile: Seconds = Field(ge=0)
    """Fixed time of one tile of queries."""
    t_empty: Seconds = Field(default=0.0, ge=0)
    """Time of a place in the grid without a tile."""
    compute_efficiency: float = Field(gt=0, le=1)
    """Of the peak matrix rate of an SM, while a tile passes over its keys."""
    tile_rows: int = Field(default=64, ge=1)
    """Queries of a tile."""
    decodes: Literal["tiles", "own"] = "tiles"
    """What decodes in the same call are: tiles of the chunks' grid (FlashAttention 2), or computed as without chunks."""


class MlaLawSpec(Spec):
    """Absorbed decode attention of multi-head latent attention, of one type of its cache."""

    t0: Seconds = Field(ge=0)
    """Fixed time of a call."""
    t_cta: Seconds = Field(ge=0)
    """Fixed time of one work item."""
    cta_bandwidth: BytesPerS = Field(gt=0)
    """What one work item can stream by itself."""
    heads_per_item: int = Field(ge=1)
    """Query heads that a work item computes."""
    split_rule: Literal["fill", "fixed"] = "fill"
    """How the context is split: to fill the SMs, up to `max_splits` and down to `min_split`; or always in `max_splits`."""
    max_splits: int = Field(default=8, ge=1)
    """Most pieces of a context."""
    min_split: int = Field(default=128, ge=1)
    """Tokens below which a context is not split further."""
    block: int = Field(default=64, ge=1)
    """Tokens that a work item reads at once: its last block is as long as any."""
    t_split: Seconds = Field(ge=0)
    """Extra time when the context is split."""
    reduce_bandwidth: BytesPerS | None = Field(default=None, gt=0)
    """What one work item reads of the partial outputs of a split context, which it adds up by itself; None: no matter."""
    memory_factor: float = Field(gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    compute_efficiency: float = Field(gt=0, le=1)
    """Of the peak matrix rate."""
    query_passes: float = Field(default=1.0, ge=1)
    """How often queries and outputs pass through memory: they are put together and copied round the kernel."""
    t_convert: Seconds = Field(default=0.0, ge=0)
    """Launch of the conversion of the cache to 16 bit, where the kernel knows no narrower type."""
    convert_efficiency: float | None = Field(default=None, gt=0, le=1)
    """Of the device's streaming rate, in that conversion; None: the kernel reads the cache as it is stored."""

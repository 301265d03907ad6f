"""Parameters of the kernel and collective laws, as device files write them.

The laws themselves are in `gpusim.runtime.laws`; every set of values says which measurements it was fitted on.
Efficiencies are fractions of the device's own streaming efficiency (`memory.efficiency`), so that a loss which all
kernels share is stated once.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, model_validator

from gpusim.spec.base import Dtype, Spec
from gpusim.spec.moe_law import MoeLawSpec, MoeLibrary
from gpusim.units import Bytes, BytesPerS, Seconds

WeightDtype = Dtype | Literal["fp8_block"]
"""Stored type of weights; `fp8_block`: fp8 scaled in blocks of 128 x 128."""
DEFAULT_ENGINE: Final = "vllm"
"""Whose kernels run where nothing else is said."""


class AttentionLawSpec(Spec):
    """Decode and prefill attention of one KV dtype."""

    t0: Seconds = Field(ge=0)
    """Launch, and whatever else every call pays."""
    t_cta: Seconds = Field(ge=0)
    """Fixed time of one work item."""
    cta_bandwidth: BytesPerS = Field(gt=0)
    """What one work item can stream by itself."""
    occupancy: int = Field(default=1, ge=1)
    """Work items resident on one SM."""
    split_rule: Literal["fill", "flash"] = "fill"
    """How the context is split: to fill the SMs, or by FlashAttention's heuristic."""
    min_split: int = Field(default=128, ge=1)
    """Tokens below which a context is not split further."""
    t_split: Seconds = Field(ge=0)
    """Extra time when the context is split: the second kernel, which reduces."""
    memory_factor: float = Field(gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    l2_speedup: float = Field(ge=1)
    """Bandwidth of L2 relative to device memory."""
    l2_fraction: float = Field(gt=0)
    """Part of L2 a working set may fill before it is evicted (above 1: partial reuse)."""
    smoothness: float = Field(ge=1)
    """Exponent p of the smooth maximum of work-item and memory time."""
    compute_efficiency: float = Field(default=0.5, gt=0, le=1)
    """Of the peak matrix rate, in prefill."""


class MlaLawSpec(Spec):
    """Absorbed decode attention of multi-head latent attention, of one type of its cache."""

    t0: Seconds = Field(ge=0)
    t_cta: Seconds = Field(ge=0)
    """Fixed time of one work item."""
    cta_bandwidth: BytesPerS = Field(gt=0)
    """What one work item can stream by itself."""
    heads_per_item: int = Field(ge=1)
    """Query heads that a work item computes."""
    min_split: int = Field(ge=1)
    """Tokens below which a context is not split further."""
    t_split: Seconds = Field(ge=0)
    """Extra time when the context is split."""
    memory_factor: float = Field(gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    compute_efficiency: float = Field(gt=0, le=1)
    """Of the peak matrix rate."""
    t_eager: Seconds = Field(default=0.0, ge=0)
    """Of a call that the CPU launches, outside a CUDA graph; in the measurements of some GPUs, never in a run."""


class GemmLawSpec(Spec):
    """Matrix products of one weight dtype."""

    t0: Seconds = Field(ge=0)
    t_tile: Seconds = Field(ge=0)
    """Fixed time of one tile."""
    sm_bandwidth: BytesPerS = Field(gt=0)
    """What one SM can take in from L2 and memory."""
    memory_factor: float = Field(gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    compute_efficiency: float = Field(gt=0, le=1)
    """Of the peak matrix rate."""
    t_split_k: Seconds = Field(ge=0)
    """Extra time when the reduction dimension is split."""
    l2_speedup: float = Field(ge=1)
    l2_fraction: float = Field(gt=0)


class ElementwiseLawSpec(Spec):
    """Norms, rotary embedding, activations, cache writes, sampling: bytes."""

    t0: Seconds = Field(ge=0)
    memory_factor: float = Field(gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    l2_speedup: float = Field(ge=1)
    l2_fraction: float = Field(gt=0)


class NcclLawSpec(Spec):
    """Ring collectives of NCCL: a low-latency and a bandwidth protocol."""

    t_base: Seconds = Field(ge=0)
    t_hop: Seconds = Field(ge=0)
    """Per ring step."""
    ll_fraction: float = Field(gt=0, le=1)
    """Bandwidth of the low-latency protocol relative to the other."""
    t_simple: Seconds = Field(ge=0)
    """Extra start-up of the bandwidth protocol."""
    link_efficiency: float = Field(gt=0, le=1)
    """Achieved / peak of the links at large messages."""


class EngineAllReduceLawSpec(Spec):
    """An inference engine's own all-reduce: one-shot or two-shot over peer memory."""

    t0: Seconds = Field(ge=0)
    t_peer: Seconds = Field(ge=0)
    """Per further rank."""
    one_shot_efficiency: float = Field(gt=0)
    """Achieved / peak of the links when every rank reads all others' data."""
    t_barrier: Seconds = Field(ge=0)
    """Second synchronisation of the two-shot form."""
    two_shot_efficiency: float = Field(gt=0)
    copies: float = Field(default=0.0, ge=0)
    """Passes over the buffer through device memory, in and out."""
    max_bytes: Bytes = Field(gt=0)
    """Larger messages go to NCCL."""


class PhysicsSpec(Spec):
    """What all kernels of a device share, whoever wrote them, beside `memory.efficiency`."""

    l2_fraction: float = Field(gt=0)
    """Part of L2 a working set may fill before it is evicted (above 1: partial reuse)."""
    l2_speedup: float = Field(ge=1)
    """Bandwidth of L2 relative to device memory."""
    sm_bandwidth: BytesPerS = Field(gt=0)
    """What one SM can take in from L2 and memory."""


class EngineLawsSpec(Spec):
    """The kernels of one engine: launch, tiles, splits, and how near they come to what the device can do."""

    attention: dict[Dtype, AttentionLawSpec] = Field(default_factory=dict)
    """By KV dtype."""
    gemm: dict[WeightDtype, GemmLawSpec] = Field(default_factory=dict)
    """By weight dtype."""
    moe: dict[WeightDtype, dict[MoeLibrary, MoeLawSpec]] = Field(default_factory=dict)
    """By weight dtype, then by whose kernels they are; a run has the first."""
    mla: dict[Dtype, MlaLawSpec] = Field(default_factory=dict)
    """By KV dtype."""
    all_reduce: EngineAllReduceLawSpec | None = None


class FitSpec(Spec):
    """What a law was fitted on, and the error it left; errors are of |predicted / measured - 1|."""

    tables: list[str]
    """Files of the folder."""
    rows: int = Field(ge=0)
    """Read by the fit."""
    mape: float | None = None
    """Mean over those."""
    p90: float | None = None
    """Their 90th percentile."""
    held_out_rows: int = Field(default=0, ge=0)
    """Of shapes kept out of the fit."""
    held_out_mape: float | None = None
    held_out_p90: float | None = None


class DeviceLawsSpec(Spec):
    """All laws of one device."""

    fitted_on: str
    """Which measurements the values come from."""
    fits: dict[str, FitSpec] = Field(default_factory=dict)
    """By law: its keys joined by dots, as ``engines.vllm.gemm.bf16``."""
    physics: PhysicsSpec
    elementwise: ElementwiseLawSpec
    nccl: NcclLawSpec
    engines: dict[str, EngineLawsSpec] = Field(min_length=1)
    """By name; what one was not measured for it borrows from the others, in the order they stand here."""

    @model_validator(mode="after")
    def _has_the_main_kernels(self) -> DeviceLawsSpec:
        for family in ("attention", "gemm"):
            if not any(getattr(laws, family) for laws in self.engines.values()):
                raise ValueError(f"no engine has laws of {family}, which every model needs")
        return self

    def of(self, engine: str) -> LawsSpec:
        """Return the laws that hold where *engine* serves; an engine without any has those of the first."""
        others = [laws for name, laws in self.engines.items() if name != engine]
        own = [self.engines[engine]] if engine in self.engines else []
        candidates = [*own, *others]

        def first(family: str) -> Any:
            found = [getattr(laws, family) for laws in candidates]
            return next((laws for laws in found if laws), found[0])

        families = {family: first(family) for family in EngineLawsSpec.model_fields}
        return LawsSpec(
            fitted_on=self.fitted_on,
            physics=self.physics,
            elementwise=self.elementwise,
            nccl=self.nccl,
            engine_all_reduce=families.pop("all_reduce"),
            **families,
        )


class LawsSpec(Spec):
    """The laws of one device where one engine serves."""

    fitted_on: str
    """Which measurements the values come from."""
    physics: PhysicsSpec
    attention: dict[Dtype, AttentionLawSpec]
    """By KV dtype."""
    gemm: dict[WeightDtype, GemmLawSpec]
    """By weight dtype."""
    moe: dict[WeightDtype, dict[MoeLibrary, MoeLawSpec]] = Field(default_factory=dict)
    """By weight dtype, then by whose kernels they are; a run has the first."""
    mla: dict[Dtype, MlaLawSpec] = Field(default_factory=dict)
    """By KV dtype."""
    elementwise: ElementwiseLawSpec
    nccl: NcclLawSpec
    engine_all_reduce: EngineAllReduceLawSpec | None = None

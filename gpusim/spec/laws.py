"""Parameters of the kernel and collective laws, as device files write them.

The laws themselves are in `gpusim.runtime.laws`; every set of values says which measurements it was fitted on.
Efficiencies are fractions of the device's own streaming efficiency (`memory.efficiency`), so that a loss which all
kernels share is stated once.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, model_validator

from gpusim.spec.attention_law import AttentionLawSpec, MlaLawSpec, PrefillLawSpec
from gpusim.spec.base import Dtype, Spec, WeightDtype
from gpusim.spec.collective_law import EngineAllReduceLawSpec, NcclLawSpec
from gpusim.spec.elementwise_law import ElementwiseKernels, ElementwiseLawSpec
from gpusim.spec.gemm_law import GemmLawSpec, MatrixSpec
from gpusim.spec.moe_law import MoeLawSpec, MoeLibrary

DEFAULT_ENGINE: Final = "vllm"
"""Whose kernels run where nothing else is said."""


_SCALAR_ENGINES: Final = frozenset({"sarathi"})


class PhysicsSpec(Spec):
    """What all kernels of a device share, whoever wrote them, beside `memory.efficiency`."""

    l2_fraction: float = Field(gt=0)
    """Part of L2 a working set may fill before it is evicted (above 1: partial reuse)."""
    l2_speedup: float = Field(ge=1)
    """Bandwidth of L2 relative to device memory."""
    matrix: MatrixSpec


class EngineLawsSpec(Spec):
    """The kernels of one engine: launch, tiles, splits, and how near they come to what the device can do."""

    attention: dict[Dtype, AttentionLawSpec] = Field(default_factory=dict)
    """By KV dtype."""
    prefill: PrefillLawSpec | None = None
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
    parameters: int = Field(default=0, ge=0)
    """Numbers of the law that were searched, those of the device left out."""
    rows: int = Field(ge=0)
    """Read by the fit."""
    mape: float | None = None
    """Mean over those."""
    p90: float | None = None
    """Their 90th percentile."""
    held_out_rows: int = Field(default=0, ge=0)
    """Of shapes kept out of the fit."""
    held_out_mape: float | None = None
    """Mean over those."""
    held_out_p90: float | None = None
    """Their 90th percentile."""


class DeviceLawsSpec(Spec):
    """All laws of one device."""

    fitted_on: str
    """Which measurements the values come from."""
    fits: dict[str, FitSpec] = Field(default_factory=dict)
    """By law: its keys joined by dots, as ``engines.vllm.gemm.bf16``."""
    borrowed: dict[str, str] = Field(default_factory=dict)
    """Where the values of laws come from that no data of this device were fitted for, by law or family of laws."""
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
        """Return the laws that hold where *engine* serves; an engine without any has those of the first.

        An engine with a backend that is not its usual one, as ``sglang-flashinfer``, has the laws of ``sglang`` for the rest.
        """
        names = [name for name in dict.fromkeys((engine, engine.partition("-")[0])) if name in self.engines]
        own = [self.engines[name] for name in names]
        others = [laws for name, laws in self.engines.items() if name not in names]
        candidates = [*own, *others]

        def first(family: str) -> Any:
            found = [getattr(laws, family) for laws in candidates]
            return next((laws for laws in found if laws), found[0])

        families = {family: first(family) for family in EngineLawsSpec.model_fields}
        return LawsSpec(
            fitted_on=self.fitted_on,
            physics=self.physics,
            elementwise=self.elementwise,
            elementwise_kernels="scalar" if engine in _SCALAR_ENGINES else "vector",
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
    prefill: PrefillLawSpec | None = None
    """None: that of the donor."""
    gemm: dict[WeightDtype, GemmLawSpec]
    """By weight dtype."""
    moe: dict[WeightDtype, dict[MoeLibrary, MoeLawSpec]] = Field(default_factory=dict)
    """By weight dtype, then by whose kernels they are; a run has the first."""
    mla: dict[Dtype, MlaLawSpec] = Field(default_factory=dict)
    """By KV dtype."""
    elementwise: ElementwiseLawSpec
    elementwise_kernels: ElementwiseKernels = "vector"
    nccl: NcclLawSpec
    engine_all_reduce: EngineAllReduceLawSpec | None = None

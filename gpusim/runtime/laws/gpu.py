"""The figures of a GPU that laws use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gpusim.spec.base import Dtype
from gpusim.spec.device import DeviceSpec

_COMPUTES_AS: dict[Dtype, tuple[Dtype, ...]] = {
    "fp32": ("fp32",),
    "bf16": ("bf16", "fp16"),
    "fp16": ("fp16", "bf16"),
    "fp8": ("fp8", "bf16", "fp16"),
    "int8": ("bf16", "fp16"),
    "int4": ("bf16", "fp16"),
    "mxfp4": ("bf16", "fp16"),
}
"""Operand types a weight type is multiplied in, best first: int8 and 4-bit weights are expanded to 16 bit on the fly."""


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One GPU as the laws see it."""

    spec: DeviceSpec
    bandwidth: float
    """Bytes/s of device memory on long reads, achieved (peak with ``efficiency: ideal``)."""

    @property
    def sm_count(self) -> int:
        """Streaming multiprocessors."""
        return self.spec.compute.sm_count

    @property
    def l2_bytes(self) -> float:
        """Last-level cache."""
        return self.spec.l2

    @property
    def peak_bandwidth(self) -> float:
        """Bytes/s of device memory on the data sheet."""
        return self.spec.memory.bandwidth

    def peak_flops(self, dtype: Dtype) -> float:
        """Peak dense FLOP/s of products with weights of *dtype*."""
        peak = self.spec.compute.peak
        for candidate in _COMPUTES_AS[dtype]:
            if candidate in peak:
                return peak[candidate]
        sixteen_bit = peak["bf16"] if "bf16" in peak else peak["fp16"]
        return sixteen_bit / 2  # fp32 operands: half the 16-bit rate (TF32) where no rate is stated


Law = TypeVar("Law")


def law_key(dtype: str, laws: Mapping[Any, Law]) -> Any:
    """Return under which type the law for *dtype* stands: its own, fp8 for fp8 in blocks, else 16 bit, else whichever there is."""
    candidates = (dtype, dtype.removesuffix("_block"), *_COMPUTES_AS["bf16"])
    return next((candidate for candidate in candidates if candidate in laws), next(iter(laws)))


def law_for(dtype: str, laws: Mapping[Any, Law]) -> Law:
    """Return the law for *dtype*, see `law_key`."""
    return laws[law_key(dtype, laws)]

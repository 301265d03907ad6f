"""What an fp8 KV cache changes in a kernel of decode attention that was measured with 16 bit only.

An engine launches more: it casts queries and spreads scales, which costs cycles. Kernels that know 16-bit matrix instructions only,
or V in one order only, convert what they have loaded: the items' start is longer, and an SM takes in less than memory gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import geometric_mean, mean
from typing import Final

from gpusim.spec.attention_law import AttentionLawSpec
from gpusim.spec.device import DeviceSpec

_CONVERTS: Final = ("flash_attention_3", "flashinfer")
"""Kernels that transpose or expand fp8 on the SM."""

_Pair = tuple[DeviceSpec, str, AttentionLawSpec, AttentionLawSpec]
"""Of one kernel of an engine on a device, its laws with 16 bit and fp8."""


def in_fp8(law: AttentionLawSpec, engine: str, sources: Sequence[DeviceSpec], device: DeviceSpec) -> AttentionLawSpec:
    """Return *law*, which holds with 16 bit on *device*, with fp8 in *engine*.

    Args:
        law: Of the kernel.
        engine: Whose launches are added: by as many cycles as fp8 adds to them in other kernels or on other GPUs.
        sources: Measured devices.
        device: Which is not.
    """
    pairs = list(_pairs(sources))
    name = engine.partition("-")[0]
    extra = [(fp8.t0 - bf16.t0) * its.compute.boost_clock for its, whose, bf16, fp8 in pairs if whose == name]
    t0 = law.t0 + max(0.0, mean(extra or [0.0])) / device.compute.boost_clock
    slower = [
        fp8.t_item / bf16.t_item for *_, bf16, fp8 in pairs if law.kernel in _CONVERTS and bf16.kernel in _CONVERTS
    ]
    return law.model_copy(update={"t0": t0, "t_item": law.t_item * geometric_mean(slower or [1.0])})


def with_sm_bandwidth(law: AttentionLawSpec, sources: Sequence[DeviceSpec]) -> AttentionLawSpec:
    """Return *law*, of fp8, with what an SM takes in where memory does not limit it: the mean of all kernels that convert."""
    if law.kernel not in _CONVERTS or law.sm_bandwidth is not None:
        return law
    stated = [
        fp8.sm_bandwidth for *_, fp8 in _pairs(sources) if fp8.kernel in _CONVERTS and fp8.sm_bandwidth is not None
    ]
    return law.model_copy(update={"sm_bandwidth": geometric_mean(stated) if stated else None})


def _pairs(sources: Sequence[DeviceSpec]) -> Iterator[_Pair]:
    """Yield what was measured with both types."""
    for source in sources:
        assert source.laws is not None
        for name, its in source.laws.engines.items():
            bf16, fp8 = its.attention.get("bf16"), its.attention.get("fp8")
            if bf16 is not None and fp8 is not None and bf16.kernel == fp8.kernel:
                yield source, name.partition("-")[0], bf16, fp8

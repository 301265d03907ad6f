"""Decode attention of a device nobody measured: the kernels that engines run on its kind, with times of a donor's.

Where the donor runs the kernel, in whatever engine, its law is taken; else that of another measured device; if none runs it,
the mean of those of the kernel that is most like it. A law that is lent to a type nobody measured is changed for it
(`fp8_laws`). Launches and reductions are cycles and go with the clock. What an item takes and passes is a latency of
memory and bytes in flight, which GPUs share. In kernels made of a generation's own matrix instructions an item passes at the matrix
rate, and half of its fixed time is that of its first tile: both together the square root.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import geometric_mean
from typing import Final, TypeVar

from gpusim.runtime.engine_kernels import FLASHINFER_BACKEND, Kernels, kernels_of
from gpusim.runtime.fp8_laws import in_fp8, with_sm_bandwidth
from gpusim.spec.attention_law import AttentionKernelName, AttentionKernelSpec, AttentionLawSpec
from gpusim.spec.base import Dtype
from gpusim.spec.device import DeviceSpec

_OF_ITS_GENERATION: Final = ("flash_attention_3", "trtllm_gen")
"""Kernels whose tiles go with the matrix rate."""
_MOST_LIKE: Final[Mapping[AttentionKernelName, tuple[AttentionKernelName, float]]] = {
    "flash_attention_3": ("trtllm_gen", 1.0),
    "trtllm_gen": ("flash_attention_3", 1.0),
    "flash_attention_3_ampere": ("flash_attention_2", 0.5),
    "trtllm_unsplit": ("flash_attention_2", 1.0),
    "xqa_fp8": ("xqa", 1.0),
}
"""With what an item of the first passes, of the second's: FlashAttention 2 has two on an SM, its law puts them in a row."""
_NOTHING: Final = 1e-12
"""For a time of 0 in a geometric mean."""

Spec = TypeVar("Spec", bound=AttentionKernelSpec)


def carried_attention(
    donor: DeviceSpec, device: DeviceSpec, engine: str, others: Sequence[DeviceSpec] = ()
) -> dict[Dtype, AttentionLawSpec]:
    """Return the laws of decode attention of *engine* on *device*, by KV dtype.

    Args:
        donor: Lends its laws.
        device: Has none of its own.
        engine: Whose kernels, of those that the donor has laws for.
        others: Other measured devices, which may run kernels that the donor does not.
    """
    assert donor.laws is not None
    laws, carried = donor.laws.engines[engine].attention, {}
    for dtype, law in laws.items():
        kernels = kernels_of(device, engine, dtype)
        if kernels is None:
            carried[dtype] = _scaled_law(law, donor, device)
        else:
            lent = _carried((donor, *others), device, kernels, engine, dtype)
            carried[dtype] = lent or _scaled_law(law, donor, device)
    return carried


def carried_backend(sources: Sequence[DeviceSpec], device: DeviceSpec) -> dict[Dtype, AttentionLawSpec]:
    """Return the laws of FlashInfer on *device* where it is no engine's usual kernel, by KV dtype; empty: it is, or unknown.

    Args:
        sources: Measured devices, the donor first.
        device: Has none of its own.
    """
    usual = kernels_of(device, FLASHINFER_BACKEND.partition("-")[0], "bf16")
    if usual is None or usual == kernels_of(device, FLASHINFER_BACKEND, "bf16"):
        return {}
    carried: dict[Dtype, AttentionLawSpec] = {}
    for dtype in ("bf16", "fp8"):
        kernels = kernels_of(device, FLASHINFER_BACKEND, dtype)
        law = None if kernels is None else _carried(sources, device, kernels, FLASHINFER_BACKEND, dtype)
        if law is not None:
            carried[dtype] = law
    return carried


def _carried(
    sources: Sequence[DeviceSpec], device: DeviceSpec, kernels: Kernels, engine: str, dtype: Dtype
) -> AttentionLawSpec | None:
    """Return the law of what *engine* runs, from the first of *sources* that runs it, or something like it."""
    kernel, second = kernels
    known = [each for source in sources for each in _candidates(source, engine, dtype)]
    same = next((each for each in known if each[2].kernel == kernel), None) or _like(sources, kernel)
    if same is None:
        return None
    source, its_dtype, law = same
    law = _scaled(law, source, device)
    if dtype == "fp8":
        law = with_sm_bandwidth(law if its_dtype == "fp8" else in_fp8(law, engine, sources, device), sources)
    return law.model_copy(update={"other": None if second is None else _second(known, second, device)})


def _second(
    known: Sequence[tuple[DeviceSpec, Dtype, AttentionLawSpec]], kernel: AttentionKernelName, device: DeviceSpec
) -> AttentionKernelSpec | None:
    """Return the law of a kernel that takes what another does not."""
    found = ((source, law.other) for source, _, law in known if law.other is not None and law.other.kernel == kernel)
    source, law = next(found, (device, None))
    return None if law is None else _scaled(law, source, device)


def _like(
    sources: Sequence[DeviceSpec], kernel: AttentionKernelName
) -> tuple[DeviceSpec, Dtype, AttentionLawSpec] | None:
    """Return the geometric mean of a device's 16-bit laws of the kernel that is most like one which nobody else runs."""
    like, passed = _MOST_LIKE.get(kernel, (None, 1.0))
    for source in sources:
        assert source.laws is not None
        laws = [its.attention["bf16"] for its in source.laws.engines.values() if "bf16" in its.attention]
        alike = [law for law in laws if law.kernel == like]
        if alike:
            names = ("t0", "t_item", "item_bandwidth", "t_split", "t_per_split", "memory_factor")
            mean = {name: geometric_mean([getattr(law, name) or _NOTHING for law in alike]) for name in names}
            mean["item_bandwidth"] *= passed
            return (
                source,
                "bf16",
                alike[0].model_copy(update={**mean, "kernel": kernel, "t_copy": 0.0, "sm_bandwidth": None}),
            )
    return None


def _candidates(source: DeviceSpec, engine: str, dtype: Dtype) -> Iterator[tuple[DeviceSpec, Dtype, AttentionLawSpec]]:
    """Yield the laws of a device: of the engine first, and of this dtype before any other."""
    assert source.laws is not None
    name = engine.partition("-")[0]
    found = [
        (its_name.partition("-")[0] != name, its_dtype != dtype, its_dtype, law)
        for its_name, its in source.laws.engines.items()
        for its_dtype, law in its.attention.items()
    ]
    for _, _, its_dtype, law in sorted(found, key=lambda each: each[:2]):
        yield source, its_dtype, law


def _scaled_law(law: AttentionLawSpec, source: DeviceSpec, device: DeviceSpec) -> AttentionLawSpec:
    other = None if law.other is None else _scaled(law.other, source, device)
    return _scaled(law, source, device).model_copy(update={"other": other})


def _scaled(law: Spec, source: DeviceSpec, device: DeviceSpec) -> Spec:
    clock = device.compute.boost_clock / source.compute.boost_clock
    changed = {name: getattr(law, name) / clock for name in ("t0", "t_copy", "t_split", "t_per_split")}
    if law.kernel in _OF_ITS_GENERATION:
        rate = _matrix_rate(device) / _matrix_rate(source)
        changed["item_bandwidth"] = law.item_bandwidth * rate
        changed |= {name: getattr(law, name) / rate**0.5 for name in ("t_item", "t_head")}
    return law.model_copy(update=changed)


def _matrix_rate(device: DeviceSpec) -> float:
    """FLOP/s of an SM with 16-bit operands."""
    peak = device.compute.peak
    return (peak["bf16"] if "bf16" in peak else peak["fp16"]) / device.compute.sm_count

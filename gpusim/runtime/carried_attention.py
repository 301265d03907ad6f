"""Decode attention of a device nobody measured: the kernels that engines run on its kind, with times of a donor's.

Which kernel an engine runs follows from the generation, and is known from its source. Where the donor runs the same one, in
whatever engine, its law is taken; else that of another measured device; if none runs it,
the mean of those of the kernel that is most like it. Times of items and splits
are cycles of an SM, so they go with the clock; what an item passes goes with the clock too, or with the matrix rate of an SM
where a kernel is written for the matrix instructions of its generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import Final, TypeVar

from gpusim.spec.base import Dtype
from gpusim.spec.device import AggregateMemorySpec, DeviceSpec
from gpusim.spec.laws import AttentionKernelName, AttentionKernelSpec, AttentionLawSpec

_Kernels = tuple[AttentionKernelName, AttentionKernelName | None]
"""The first, and that for calls which it does not take."""
_XQA: Final[_Kernels] = ("xqa", "mmha")
_HOPPER: Final[dict[tuple[str, str], _Kernels]] = {
    ("vllm", "bf16"): ("flash_attention_3", None),
    ("sglang", "bf16"): ("flash_attention_3", None),
    ("trtllm", "bf16"): _XQA,
    ("trtllm", "fp8"): ("xqa_fp8", "mmha"),
}
_BLACKWELL: Final[dict[tuple[str, str], _Kernels]] = {
    ("vllm", "bf16"): ("trtllm_gen", None),
    ("sglang", "bf16"): ("trtllm_gen", None),
    ("trtllm", "bf16"): ("trtllm_gen", "mmha"),
}
_OTHER_HBM: Final[dict[tuple[str, str], _Kernels]] = {
    ("vllm", "bf16"): ("flash_attention_2", None),
    ("sglang", "bf16"): ("flash_attention_3_ampere", None),
    ("trtllm", "bf16"): _XQA,
}
_GDDR: Final[dict[tuple[str, str], _Kernels]] = {
    ("vllm", "bf16"): ("flash_attention_2", None),
    ("vllm", "fp8"): ("flashinfer", None),
    ("sglang", "bf16"): ("flashinfer", "flashinfer_cuda_cores"),
    ("sglang", "fp8"): ("flashinfer", None),
    ("trtllm", "bf16"): _XQA,
}
_GDDR_BLACKWELL: Final = {**_GDDR, ("trtllm", "fp8"): ("trtllm_unsplit", "mmha")}
_HBM: Final = {"hopper": _HOPPER, "blackwell": _BLACKWELL, "ampere": _OTHER_HBM, "volta": _OTHER_HBM}
_OF_ITS_GENERATION: Final = ("flash_attention_3", "trtllm_gen")
"""Kernels whose tiles go with the matrix rate."""

_MOST_LIKE: Final[Mapping[AttentionKernelName, AttentionKernelName]] = {
    "flash_attention_3": "trtllm_gen",
    "trtllm_gen": "flash_attention_3",
    "flash_attention_3_ampere": "flash_attention_3",
    "trtllm_unsplit": "flash_attention_2",
    "xqa_fp8": "xqa",
}
_NOTHING: Final = 1e-12
"""For a time of 0 in a geometric mean."""

Spec = TypeVar("Spec", bound=AttentionKernelSpec)


def kernels_of(device: DeviceSpec, engine: str, dtype: Dtype) -> _Kernels | None:
    """Return what *engine* runs on *device* with KV of *dtype*; None: not known, what the donor runs.

    Where fp8 is not listed, it is what the engine runs for 16 bit.
    """
    memory = device.memory
    known: Mapping[tuple[str, str], _Kernels] = {}
    if not isinstance(memory, AggregateMemorySpec) and memory.standard.startswith("GDDR"):
        known = _GDDR_BLACKWELL if device.family == "blackwell" else _GDDR
    elif device.family in _HBM:
        known = _HBM[device.family]
    return known.get((engine, dtype)) or known.get((engine, "bf16"))


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
            carried[dtype] = _carried((donor, *others), device, law, kernels, (engine, dtype))
    return carried


def _carried(
    sources: Sequence[DeviceSpec],
    device: DeviceSpec,
    own: AttentionLawSpec,
    kernels: _Kernels,
    wanted: tuple[str, Dtype],
) -> AttentionLawSpec:
    """Return one law.

    Args:
        sources: Measured devices, the donor first.
        device: Which has none.
        own: The donor's, of whatever kernel.
        kernels: That the device runs.
        wanted: Engine and dtype.
    """
    kernel, second = kernels
    known = [(source, law) for source in sources for law in _candidates(source, *wanted)]
    same = next(((source, law) for source, law in known if law.kernel == kernel), None)
    if same is None:
        source, law = _like(sources, kernel) or (sources[0], own)
        same = source, law.model_copy(update={"kernel": kernel, "sm_bandwidth": None})
    source, law = same
    other = None if second is None else _second(known, second, device)
    return _scaled(law, source, device).model_copy(update={"other": other})


def _second(
    known: Sequence[tuple[DeviceSpec, AttentionLawSpec]], kernel: AttentionKernelName, device: DeviceSpec
) -> AttentionKernelSpec | None:
    """Return the law of a kernel that takes what another does not."""
    found = ((source, law.other) for source, law in known if law.other is not None and law.other.kernel == kernel)
    source, law = next(found, (device, None))
    return None if law is None else _scaled(law, source, device)


def _like(sources: Sequence[DeviceSpec], kernel: AttentionKernelName) -> tuple[DeviceSpec, AttentionLawSpec] | None:
    """Return the geometric mean of a device's 16-bit laws of the kernel that is most like one which nobody else runs."""
    for source in sources:
        assert source.laws is not None
        laws = [its.attention["bf16"] for its in source.laws.engines.values() if "bf16" in its.attention]
        alike = [law for law in laws if law.kernel == _MOST_LIKE.get(kernel)]
        if alike:
            names = ("t0", "t_item", "item_bandwidth", "t_split", "t_per_split", "memory_factor")
            mean = {name: geometric_mean([getattr(law, name) or _NOTHING for law in alike]) for name in names}
            return source, alike[0].model_copy(update=mean)
    return None


def _candidates(source: DeviceSpec, engine: str, dtype: Dtype) -> list[AttentionLawSpec]:
    """Return laws of a device: of the engine first, and of this dtype before any other."""
    assert source.laws is not None
    found = [
        (name.partition("-")[0] != engine, its_dtype != dtype, law)
        for name, its in source.laws.engines.items()
        for its_dtype, law in its.attention.items()
    ]
    return [law for *_, law in sorted(found, key=lambda each: each[:2])]


def _scaled_law(law: AttentionLawSpec, source: DeviceSpec, device: DeviceSpec) -> AttentionLawSpec:
    other = None if law.other is None else _scaled(law.other, source, device)
    return _scaled(law, source, device).model_copy(update={"other": other})


def _scaled(law: Spec, source: DeviceSpec, device: DeviceSpec) -> Spec:
    clock = device.compute.boost_clock / source.compute.boost_clock
    rate = _matrix_rate(device) / _matrix_rate(source) if law.kernel in _OF_ITS_GENERATION else clock
    times = ("t_item", "t_head", "t_split", "t_per_split")
    changed = {name: getattr(law, name) / clock for name in times}
    return law.model_copy(update={**changed, "item_bandwidth": law.item_bandwidth * rate})


def _matrix_rate(device: DeviceSpec) -> float:
    """FLOP/s of an SM with 16-bit operands."""
    peak = device.compute.peak
    return (peak["bf16"] if "bf16" in peak else peak["fp16"]) / device.compute.sm_count

"""Decode attention of a device nobody measured: the kernels that engines run on its kind, with times of a donor's.

Which kernel an engine runs follows from the generation, and is known from its source. Where the donor runs the same one, its
law is taken; where it runs another, its times are taken for the kernel that the device would run. Times of items and splits
are cycles of an SM, so they go with the clock; what an item passes goes with the clock too, or with the matrix rate of an SM
where a kernel is written for the matrix instructions of its generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from gpusim.spec.base import Dtype
from gpusim.spec.device import AggregateMemorySpec, DeviceSpec
from gpusim.spec.laws import AttentionKernelName, AttentionKernelSpec, AttentionLawSpec, DeviceLawsSpec

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
_OF_ITS_GENERATION: Final = ("flash_attention_3", "trtllm_gen")
"""Kernels whose tiles go with the matrix rate."""

Spec = TypeVar("Spec", bound=AttentionKernelSpec)


def kernels_of(device: DeviceSpec, engine: str, dtype: Dtype) -> _Kernels:
    """Return what *engine* runs on *device* with KV of *dtype*; where fp8 is not listed, what it runs for 16 bit."""
    memory = device.memory
    if not isinstance(memory, AggregateMemorySpec) and memory.standard.startswith("GDDR"):
        known: Mapping[tuple[str, str], Any] = _GDDR_BLACKWELL if device.family == "blackwell" else _GDDR
    else:
        known = {"hopper": _HOPPER, "blackwell": _BLACKWELL}.get(device.family, _OTHER_HBM)
    found: _Kernels = known.get((engine, dtype)) or known[(engine, "bf16")]
    return found


def carried_attention(donor: DeviceSpec, device: DeviceSpec, engine: str) -> dict[Dtype, AttentionLawSpec]:
    """Return the laws of decode attention of *engine* on *device*, by KV dtype."""
    assert donor.laws is not None
    laws = donor.laws.engines[engine].attention
    if (engine, "bf16") not in _HOPPER:  # an engine with a backend of choice: the backend is what it is
        return {dtype: _scaled_law(law, donor, device) for dtype, law in laws.items()}
    return {
        dtype: _scaled_law(_with_kernels(donor.laws, engine, dtype, kernels_of(device, engine, dtype)), donor, device)
        for dtype in laws
    }


def _with_kernels(laws: DeviceLawsSpec, engine: str, dtype: Dtype, kernels: _Kernels) -> AttentionLawSpec:
    """Return the donor's law with these kernels, of another backend or dtype of the engine if need be."""
    own = laws.engines[engine].attention
    backends = [its.attention for name, its in laws.engines.items() if name.partition("-")[0] == engine]
    candidates = [own[dtype], *(its[dtype] for its in backends if dtype in its), *own.values()]
    law = next((law for law in candidates if law.kernel == kernels[0]), own[dtype])
    if law.kernel == kernels[0] and (law.other is None) == (kernels[1] is None):
        return law
    other = None if kernels[1] is None else _named(law.other or law, kernels[1])
    return _named(law, kernels[0]).model_copy(update={"other": other})


def _named(law: Spec, kernel: AttentionKernelName) -> Spec:
    """Return the times of *law* for another kernel."""
    return law.model_copy(update={"kernel": kernel})


def _scaled_law(law: AttentionLawSpec, donor: DeviceSpec, device: DeviceSpec) -> AttentionLawSpec:
    other = None if law.other is None else _scaled(law.other, donor, device)
    return _scaled(law, donor, device).model_copy(update={"other": other})


def _scaled(law: Spec, donor: DeviceSpec, device: DeviceSpec) -> Spec:
    clock = device.compute.boost_clock / donor.compute.boost_clock
    rate = _matrix_rate(device) / _matrix_rate(donor) if law.kernel in _OF_ITS_GENERATION else clock
    times = ("t_item", "t_head", "t_split", "t_per_split")
    changed = {name: getattr(law, name) / clock for name in times}
    return law.model_copy(update={**changed, "item_bandwidth": law.item_bandwidth * rate})


def _matrix_rate(device: DeviceSpec) -> float:
    """FLOP/s of an SM with 16-bit operands."""
    peak = device.compute.peak
    return (peak["bf16"] if "bf16" in peak else peak["fp16"]) / device.compute.sm_count

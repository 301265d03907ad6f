"""Which kernels of decode attention an engine runs on a kind of GPU, as its source decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpusim.spec.attention_law import AttentionKernelName
from gpusim.spec.base import Dtype
from gpusim.spec.device import AggregateMemorySpec, DeviceSpec

Kernels = tuple[AttentionKernelName, AttentionKernelName | None]
"""The first, and that for calls which it does not take."""

FLASHINFER_BACKEND: Final = "sglang-flashinfer"
"""SGLang with a backend that is its usual one only on GPUs with GDDR."""
_XQA: Final[Kernels] = ("xqa", "mmha")
_FLASHINFER: Final[Kernels] = ("flashinfer", "flashinfer_cuda_cores")
_FLASHINFER_FP8: Final[Kernels] = ("flashinfer", None)
_BACKEND: Final[dict[tuple[str, str], Kernels]] = {
    (FLASHINFER_BACKEND, "bf16"): _FLASHINFER,
    (FLASHINFER_BACKEND, "fp8"): _FLASHINFER_FP8,
}
_HOPPER: Final[dict[tuple[str, str], Kernels]] = {
    **_BACKEND,
    ("vllm", "bf16"): ("flash_attention_3", None),
    ("sglang", "bf16"): ("flash_attention_3", None),
    ("trtllm", "bf16"): _XQA,
    ("trtllm", "fp8"): ("xqa_fp8", "mmha"),
}
_BLACKWELL: Final[dict[tuple[str, str], Kernels]] = {
    **_BACKEND,
    ("vllm", "bf16"): ("trtllm_gen", None),
    ("sglang", "bf16"): ("trtllm_gen", None),
    ("trtllm", "bf16"): ("trtllm_gen", "mmha"),
}
_OTHER_HBM: Final[dict[tuple[str, str], Kernels]] = {
    **_BACKEND,
    ("vllm", "bf16"): ("flash_attention_2", None),
    ("sglang", "bf16"): ("flash_attention_3_ampere", None),
    ("trtllm", "bf16"): _XQA,
}
_GDDR: Final[dict[tuple[str, str], Kernels]] = {
    **_BACKEND,
    ("vllm", "bf16"): ("flash_attention_2", None),
    ("vllm", "fp8"): _FLASHINFER_FP8,
    ("sglang", "bf16"): _FLASHINFER,
    ("sglang", "fp8"): _FLASHINFER_FP8,
    ("trtllm", "bf16"): _XQA,
}
_GDDR_BLACKWELL: Final = {**_GDDR, ("trtllm", "fp8"): ("trtllm_unsplit", "mmha")}
_HBM: Final = {"hopper": _HOPPER, "blackwell": _BLACKWELL, "ampere": _OTHER_HBM, "volta": _OTHER_HBM}


def kernels_of(device: DeviceSpec, engine: str, dtype: Dtype) -> Kernels | None:
    """Return what *engine* runs on *device* with KV of *dtype*; None: not known, what the donor runs.

    Where fp8 is not listed, it is what the engine runs for 16 bit.
    """
    memory = device.memory
    known: Mapping[tuple[str, str], Kernels] = {}
    if not isinstance(memory, AggregateMemorySpec) and memory.standard.startswith("GDDR"):
        known = _GDDR_BLACKWELL if device.family == "blackwell" else _GDDR
    elif device.family in _HBM:
        known = _HBM[device.family]
    return known.get((engine, dtype)) or known.get((engine, "bf16"))

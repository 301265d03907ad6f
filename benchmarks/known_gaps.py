"""What the laws of kernels and collectives are known not to reach, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Gap:
    """A known gap."""

    name: str
    why: str
    kind: str
    gpus: tuple[str, ...] = ()
    """Empty: all."""
    engines: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def covers(self, row: Mapping[str, Any]) -> bool:
        """Say whether a region (kind, gpu, engine, region) lies in this gap."""
        wanted = (("gpu", self.gpus), ("engine", self.engines), ("region", self.regions))
        return row["kind"] == self.kind and all(not values or row[key] in values for key, values in wanted)


GAPS: Final[tuple[Gap, ...]] = (
    Gap(
        "small products",
        "Fewer than 512 columns or a reduction of less: kernels of microseconds, of which libraries have many more than tiles of 64.",
        "gemm",
        regions=("n or k < 512",),
    ),
    Gap(
        "impossible rows",
        "TensorRT-LLM's decodes with grouped KV heads on A100: a quarter of the large rows are faster than their KV at the data sheet's "
        "rate, so they cannot have read it (the data's README says so); the rows beside them may be wrong too.",
        "attn",
        gpus=("a100_sxm",),
        engines=("trtllm",),
    ),
    Gap(
        "TensorRT-LLM without XQA",
        "Where its XQA kernel has no variant (32 heads and more to a KV head, other head dimensions) an old kernel, MMHA, serves, up to twenty times "
        "slower; on short contexts and large groups its law is 20 to 40 % off. None of these rows is a core row.",
        "attn",
        engines=("trtllm",),
    ),
    Gap(
        "SGLang's Triton kernel",
        "On RTX PRO 6000 SGLang serves a head dimension of 64 by a Triton kernel, which has no law of its own and takes FlashInfer's. Not core.",
        "attn",
        gpus=("rtx_pro_6000_server",),
        engines=("sglang",),
    ),
    Gap(
        "windows and narrow heads of FlashAttention 2",
        "With a window or a head dimension of 64 (none of them core) heads are not packed and tiles are others; the law has the first, not the second.",
        "attn",
        gpus=("rtx_pro_6000_server",),
        engines=("vllm",),
    ),
    Gap(
        "eager all-reduces",
        "Calls outside a CUDA graph take as long as the CPU needs to launch them: 22 us (vLLM) and 30 us (SGLang) were taken for all "
        "machines, and the A100's needed about 42.",
        "coll",
        regions=("<= 64 KiB",),
    ),
    Gap(
        "profiled networks",
        "torch.distributed's calls were profiled three times each, with the skew of the ranks inside: below 2 MB they scatter twofold and more. "
        "What lies between the machines is not known; NICs of 100 Gbit/s at 0.62 are assumed.",
        "vnet",
    ),
    Gap(
        "one head of latent attention",
        "With one head Triton takes another kernel; and 6 % of the A100's rows are outliers of a CPU that launches calls one by one.",
        "mla",
        gpus=("a100_sxm",),
    ),
    Gap(
        "additions of a microsecond",
        "Profiled times are whole microseconds: an addition that takes 1 or 2 of them is known to a quarter or a half.",
        "velem",
        regions=("add",),
    ),
    Gap(
        "tuned experts",
        "On A100 Mixtral's layers take 0.6 to 0.8 of the predicted time: vLLM ships tile sizes tuned for them, which the law does not know.",
        "moe",
        gpus=("a100_sxm",),
    ),
)

"""gpt-oss: local and global layers by turns, sinks in the softmax, experts in MXFP4."""

from __future__ import annotations

from typing import Final

from gpusim.spec.huggingface.blocks import decoder, gated
from gpusim.spec.huggingface.reader import Build, Reader
from gpusim.spec.model import LayersSpec, MoeSpec

TAKES: Final = frozenset({"num_local_experts", "num_experts", "quantization_config"})
"""Keys that other families do without."""
_DEFAULTS: Final = {"sliding_window": 128, "head_dim": 64, "num_experts_per_tok": 4, "attention_bias": True}


def gpt_oss(reader: Reader) -> Build:
    """gpt-oss 20B and 120B: of their experts the stored type is the file's, of all else the scenario's."""
    reader = reader.over(_DEFAULTS)
    biased = reader.flag("attention_bias")
    plain = gated(reader, qkv_bias=biased, out_bias=biased, sinks=True)
    of_layer, of_token = (
        reader.size(reader.first("num_local_experts", "num_experts")),
        reader.size("num_experts_per_tok"),
    )
    if reader.is_sound("num_local_experts", "num_experts", "num_experts_per_tok") and of_token > of_layer:
        reader.problem("num_experts_per_tok", f"{of_token} exceeds the {of_layer} experts of a layer")
    size, is_mxfp4 = reader.size("intermediate_size"), _is_mxfp4(reader)

    def layers() -> LayersSpec:
        experts = MoeSpec(
            num_experts=of_layer,
            experts_per_token=of_token,
            expert_intermediate_size=size,
            router_bias=True,
            bias=True,
            weight_dtype="mxfp4" if is_mxfp4 else None,
        )
        return plain().model_copy(update={"mlp": experts})

    return decoder(reader, layers, local=lambda layer: layer % 2 == 0, embedding_is_active=False)


def _is_mxfp4(reader: Reader) -> bool:
    """Say whether the experts are stored in MXFP4, as OpenAI publishes them."""
    stated = reader.get("quantization_config")
    method = stated.get("quant_method") if isinstance(stated, dict) else stated
    if method not in (None, "mxfp4"):
        reader.problem("quantization_config", f"not yet: {method}; gpusim reads mxfp4, or a file without it")
    return method == "mxfp4"

"""DeepSeek V2, V3 and R1: multi-head latent attention, dense layers first, then experts with shared ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpusim.spec.huggingface.experts import experts
from gpusim.spec.huggingface.reader import Build, Fields, Reader
from gpusim.spec.model import AttentionSpec, LatentSpec, LayersSpec, MlpSpec

_LATENT: Final = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
_FP8: Final = "fp8"


def deepseek_v2(reader: Reader) -> Build:
    """DeepSeek V2 and V2-Lite: softmax routing, without a correction."""
    return _deepseek(reader, corrected=False)


def deepseek_v3(reader: Reader) -> Build:
    """DeepSeek V3 and R1: a correction of the router's scores balances the load; the layers of MTP are left out."""
    if reader.get("num_nextn_predict_layers"):
        reader.notes.append("layers that predict further tokens (MTP) left out")
    return _deepseek(reader, corrected=True)


def _deepseek(reader: Reader, *, corrected: bool) -> Build:
    own, count = _attention(reader), reader.size("num_hidden_layers")
    shared = reader.size("n_shared_experts") if reader.get("n_shared_experts") else 0
    moe = experts(reader, "n_routed_experts", "moe_intermediate_size", chosen=8, shared=shared)
    dense = reader.size("intermediate_size")
    first = reader.size("first_k_dense_replace") if reader.get("first_k_dense_replace") else 0
    if reader.is_sound("first_k_dense_replace", "num_hidden_layers") and first >= count:
        reader.problem("first_k_dense_replace", f"{first} leaves none of num_hidden_layers = {count} for experts")
    if reader.size("moe_layer_freq", 1) != 1:
        reader.problem("moe_layer_freq", "not yet: dense layers among those with experts; write 1")
    _check_quantisation(reader)
    fields: Fields = {key: reader.size(key) for key in ("hidden_size", "vocab_size")}
    fields["max_model_len"] = reader.size("max_position_embeddings")
    fields["tie_word_embeddings"] = reader.flag("tie_word_embeddings")
    fields["embedding_is_active"] = False

    def layers() -> list[LayersSpec]:
        sparse = moe().model_copy(update={"router_bias": corrected})
        groups = [LayersSpec(count=count - first, attention=own(), mlp=sparse)]
        if first:
            groups.insert(0, LayersSpec(count=first, attention=own(), mlp=MlpSpec(intermediate_size=dense)))
        return groups

    return lambda: fields | {"layers": layers()}


def _attention(reader: Reader) -> Callable[[], AttentionSpec]:
    heads = reader.size("num_attention_heads")
    sizes = {key: reader.size(key) for key in _LATENT}
    query = reader.size("q_lora_rank") if reader.get("q_lora_rank") is not None else None
    return lambda: AttentionSpec(
        num_heads=heads,
        num_kv_heads=1,
        head_dim=sizes["kv_lora_rank"] + sizes["qk_rope_head_dim"],
        latent=LatentSpec(q_lora_rank=query, **sizes),
    )


def _check_quantisation(reader: Reader) -> None:
    """Take the fp8 of the published checkpoints; what is stored is the scenario's to say."""
    stated = reader.get("quantization_config")
    if stated is None:
        return
    if isinstance(stated, dict) and stated.get("quant_method") == _FP8:
        reader.notes.append("published in fp8: state dtype.weights: fp8 in the scenario")
    else:
        reader.problem("quantization_config", "not yet: quantised checkpoints other than DeepSeek's fp8")

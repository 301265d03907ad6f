"""Configurations of mixtures of experts and of latent attention become the models of the catalog."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpusim.errors import SpecError
from gpusim.spec.huggingface import model_from_config
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import read
from gpusim.spec.yaml_files import parse_document

MIXTRAL = {
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mixtral",
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}
QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "tie_word_embeddings": False,
    "v_head_dim": 128,
    "vocab_size": 129280,
}
DEEPSEEK_V2_LITE = {
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 102400,
}
SCOUT = {
    "attention_chunk_size": 8192,
    "head_dim": 128,
    "hidden_size": 5120,
    "interleave_moe_layer_step": 1,
    "intermediate_size": 8192,
    "intermediate_size_mlp": 16384,
    "max_position_embeddings": 10485760,
    "model_type": "llama4_text",
    "no_rope_layers": [],
    "num_attention_heads": 40,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "num_local_experts": 16,
    "vocab_size": 202048,
}
MAVERICK = SCOUT | {"num_local_experts": 128, "interleave_moe_layer_step": 2, "max_position_embeddings": 1048576}


def load(config: dict[str, Any]) -> ModelSpec:
    return model_from_config(parse_document(json.dumps(config, indent=2), "some-model/config.json", Path()))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (MIXTRAL, "mixtral-8x7b"),
        (QWEN3_30B_A3B, "qwen3-30b-a3b"),
        (DEEPSEEK_V3, "deepseek-v3"),
        (DEEPSEEK_V2_LITE, "deepseek-v2-lite"),
        (SCOUT, "llama-4-scout"),
        ({"model_type": "llama4", "text_config": SCOUT, "vision_config": {}}, "llama-4-scout"),
        ({"model_type": "llama4", "text_config": MAVERICK}, "llama-4-maverick"),
    ],
)
def test_a_config_and_the_catalog_say_the_same(config, name):
    """The catalog's file and the published configuration describe one model."""
    known = ModelSpec.model_validate(read("model", name).data)
    apart = {key: getattr(known, key) for key in ("name", "source", "generation", "other_parameters")}
    assert load(config).model_copy(update=apart) == known


def test_what_is_left_out_is_said():
    """The source of DeepSeek V3 says that its MTP layer is missing and that its weights are fp8."""
    source = load(DEEPSEEK_V3).source
    assert "MTP" in source
    assert "dtype.weights: fp8" in source


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MIXTRAL | {"num_experts_per_tok": 9}, "num_experts_per_tok: 9 exceeds num_local_experts = 8"),
        (QWEN3_30B_A3B | {"mlp_only_layers": [0]}, "mlp_only_layers: not yet"),
        (QWEN3_30B_A3B | {"decoder_sparse_step": 2}, "decoder_sparse_step: not yet"),
        (DEEPSEEK_V3 | {"first_k_dense_replace": 61}, "first_k_dense_replace: 61 leaves none"),
        (DEEPSEEK_V3 | {"quantization_config": {"quant_method": "gptq"}}, "quantization_config: not yet"),
        (DEEPSEEK_V3 | {"kv_lora_rank": 0}, "kv_lora_rank: must be a whole number of at least 1, not 0"),
        (SCOUT | {"no_rope_layers": 3}, "no_rope_layers: must be a list of whole numbers"),
        ({"model_type": "llama4", "text_config": SCOUT | {"vocab_size": 0}}, "text_config.vocab_size: must be"),
    ],
)
def test_mistakes_are_named_by_their_key(config, message):
    """One wrong value, one message that names its key."""
    with pytest.raises(SpecError, match=message.split(":")[0]) as raised:
        load(config)
    assert message in str(raised.value)

"""Hugging Face configurations become the models they describe."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpusim.errors import SpecError
from gpusim.model.footprint import kv_bytes_per_token, num_parameters
from gpusim.spec.huggingface import is_config, model_from_config
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import read
from gpusim.spec.yaml_files import parse_document

LLAMA_3_1_8B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
MISTRAL_7B_V01 = {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}
MISTRAL_7B_V03 = MISTRAL_7B_V01 | {"sliding_window": None, "vocab_size": 32768}
QWEN_2_5_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
FALCON_7B = {
    "alibi": False,
    "architectures": ["FalconForCausalLM"],
    "bias": False,
    "hidden_size": 4544,
    "model_type": "falcon",
    "multi_query": True,
    "new_decoder_architecture": False,
    "num_attention_heads": 71,
    "num_hidden_layers": 32,
    "parallel_attn": True,
    "vocab_size": 65024,
}


def load(config: dict[str, Any]) -> ModelSpec:
    return model_from_config(parse_document(json.dumps(config, indent=2), "some-model/config.json", Path()))


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (LLAMA_3_1_8B, 8_030_261_248),
        (MISTRAL_7B_V01, 7_241_732_096),
        (MISTRAL_7B_V03, 7_248_023_552),
        (QWEN_2_5_7B, 7_615_616_512),
        (FALCON_7B, 7_217_189_760 - 65024 * 4544),
    ],
    ids=["llama-3.1-8b", "mistral-7b-v0.1", "mistral-7b-v0.3", "qwen2.5-7b", "falcon-7b"],
)
def test_parameter_counts_are_the_published_ones(config, published):
    """A translated model has as many parameters as its checkpoint (Falcon's stores its one embedding twice)."""
    assert num_parameters(load(config)) == published


@pytest.mark.parametrize(("config", "name"), [(LLAMA_3_1_8B, "llama-3.1-8b"), (FALCON_7B, "falcon-7b")])
def test_a_config_and_the_catalog_say_the_same(config, name):
    """The catalog's file and the published configuration describe one model."""
    known = ModelSpec.model_validate(read("model", name).data)
    apart = {name: getattr(known, name) for name in ("name", "source", "generation")}
    assert load(config).model_copy(update=apart) == known


def test_the_name_is_the_folder_of_the_file():
    """A `config.json` says nothing of its model's name; the folder it was downloaded to does."""
    assert load(LLAMA_3_1_8B).name == "some-model"
    assert load(LLAMA_3_1_8B | {"_name_or_path": "meta-llama/Llama-3.1-8B"}).name == "Llama-3.1-8B"


def test_head_dim_and_kv_heads_have_defaults():
    """Without `num_key_value_heads` every head has its own KV (MHA); heads share the hidden size evenly."""
    attention = load(without(LLAMA_3_1_8B, "num_key_value_heads")).layers[0].attention
    assert (attention.num_kv_heads, attention.head_dim) == (32, 128)


def test_a_stated_head_dim_wins():
    """Mistral Nemo's heads are smaller than hidden size / heads."""
    nemo = load(MISTRAL_7B_V03 | {"hidden_size": 5120, "head_dim": 128})
    assert nemo.layers[0].attention.head_dim == 128


@pytest.mark.parametrize("flag", ["attention_bias", "mlp_bias"])
def test_biases_add_their_parameters(flag):
    """A bias adds one parameter a column of each projection it belongs to."""
    columns = {"attention_bias": 4096 + 2 * 1024 + 4096, "mlp_bias": 2 * 14336 + 4096}
    added = num_parameters(load(LLAMA_3_1_8B | {flag: True})) - num_parameters(load(LLAMA_3_1_8B))
    assert added == 32 * columns[flag]


def test_tied_embeddings_count_once():
    """Tying input and output embedding saves one matrix."""
    saved = num_parameters(load(LLAMA_3_1_8B)) - num_parameters(load(LLAMA_3_1_8B | {"tie_word_embeddings": True}))
    assert saved == 128256 * 4096


def test_grouped_falcon_has_two_norms_and_its_kv_heads():
    """Falcon's later architecture (40B) is GQA with a norm each for attention and MLP."""
    later = FALCON_7B | {"new_decoder_architecture": True, "num_attention_heads": 64, "num_kv_heads": 8}
    layers = load(later | {"hidden_size": 4096}).layers[0]
    assert (layers.attention.num_kv_heads, layers.num_norms, layers.parallel) == (8, 2, True)


def test_falcon_without_multi_query_is_mha():
    """`multi_query: false` gives every head its own KV: 71 times the cache of MQA."""
    ratio = kv_bytes_per_token(load(FALCON_7B | {"multi_query": False}), "bf16") / kv_bytes_per_token(
        load(FALCON_7B), "bf16"
    )
    assert ratio == 71


def kinds_of(model: ModelSpec) -> list[tuple[int, int | None]]:
    """Return count and window of each group of layers."""
    return [(group.count, group.attention.window) for group in model.layers]


def test_a_sliding_window_is_that_of_all_layers():
    """Mistral v0.1 attends to 4,096 tokens in every layer; requests may be as long as its positions."""
    model = load(MISTRAL_7B_V01)
    assert kinds_of(model) == [(32, 4096)]
    assert (model.max_model_len, model.pattern) == (32768, None)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, [(28, None)]),
        ({"sliding_window": 8192}, [(28, None)]),
        ({"use_sliding_window": True}, [(28, None)]),
        ({"use_sliding_window": True, "sliding_window": 8192}, [(28, None)]),
        ({"use_sliding_window": True, "sliding_window": 8192, "max_window_layers": 0}, [(28, 8192)]),
        ({"use_sliding_window": True, "sliding_window": 8192, "max_window_layers": 21}, [(21, None), (7, 8192)]),
    ],
)
def test_qwen_windows_only_when_asked_to(change, kinds):
    """Qwen2 uses its window if `use_sliding_window` says so, and then from layer `max_window_layers` on."""
    model = load(QWEN_2_5_7B | change)
    assert kinds_of(model) == kinds
    assert (model.max_model_len, model.pattern) == (131072, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_local_experts", 8),
        ("num_experts", 64),
        ("n_routed_experts", 256),
        ("kv_lora_rank", 512),
        ("quantization_config", {"quant_method": "awq", "bits": 4}),
        ("model_type", "mamba"),
        ("model_type", ["llama"]),
    ],
)
def test_what_is_not_modelled_is_refused_by_key_and_line(key, value):
    """A feature gpusim lacks is an error with the key, its line and "not yet", never a wrong model."""
    config = {key: value} | without(LLAMA_3_1_8B, key)
    with pytest.raises(SpecError, match=rf"config.json:\n  line 2: {key}: not yet: "):
        load(config)


def test_all_problems_come_at_once():
    """Missing, mistyped and unsupported keys are listed together, without consequences of one as a second problem."""
    config = without(LLAMA_3_1_8B, "num_attention_heads", "vocab_size")
    with pytest.raises(SpecError) as caught:
        load(config | {"intermediate_size": "big", "attention_bias": "no", "kv_lora_rank": 512})
    lines = str(caught.value).splitlines()[1:]
    keys = ("num_attention_heads", "vocab_size", "intermediate_size", "attention_bias", "kv_lora_rank")
    assert len(lines) == len(keys)
    assert all(any(f"{key}: " in line for line in lines) for key in keys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_key_value_heads": 7}, "num_key_value_heads: 7 does not divide num_attention_heads = 32"),
        ({"hidden_size": 4100}, "32 does not divide hidden_size = 4100"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: must be a whole number of at least 1, not 0"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    """Sizes that no model can have are named with both numbers."""
    with pytest.raises(SpecError, match=message):
        load(LLAMA_3_1_8B | change)


def test_architectures_stand_in_for_model_type():
    """Without `model_type` the architecture's name decides, and an unknown one is named."""
    assert load(without(LLAMA_3_1_8B, "model_type")).hidden_size == 4096
    with pytest.raises(SpecError, match="architectures: not yet: BertModel"):
        load(without(LLAMA_3_1_8B, "model_type") | {"architectures": ["BertModel"]})
    with pytest.raises(SpecError, match="model_type: this key is required"):
        load(without(LLAMA_3_1_8B, "model_type", "architectures"))


def test_configs_are_told_from_model_files():
    """A path to a model may be either kind of file."""
    assert is_config(LLAMA_3_1_8B)
    assert not is_config(read("model", "tiny").data)

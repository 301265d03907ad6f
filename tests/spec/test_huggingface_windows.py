"""Configurations with sliding windows: Gemma, gpt-oss, and what they leave to the defaults of their classes."""

import json
from pathlib import Path
from typing import Any

import pytest

from builders import catalog_model
from gpusim.errors import SpecError
from gpusim.spec.huggingface import model_from_config
from gpusim.spec.huggingface.windows import with_window
from gpusim.spec.model import ModelSpec
from gpusim.spec.yaml_files import parse_document

GEMMA_2_9B = {
    "model_type": "gemma2",
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "max_position_embeddings": 8192,
    "vocab_size": 256000,
}
GEMMA_2_27B = GEMMA_2_9B | {"hidden_size": 4608, "intermediate_size": 36864, "num_hidden_layers": 46, "head_dim": 128}
GEMMA_2_27B |= {"num_attention_heads": 32, "num_key_value_heads": 16}
GEMMA_3_1B = {
    "model_type": "gemma3_text",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "num_hidden_layers": 26,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 32768,
    "vocab_size": 262144,
}
GEMMA_3_4B = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}
GEMMA_3_27B = {
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_hidden_layers": 62,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "sliding_window": 1024,
    },
}
GPT_OSS_20B = {
    "model_type": "gpt_oss",
    "attention_bias": True,
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131072,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    "sliding_window": 128,
    "vocab_size": 201088,
}


def load(config: dict[str, Any]) -> ModelSpec:
    return model_from_config(parse_document(json.dumps(config, indent=2), "some-model/config.json", Path()))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (GEMMA_2_9B, "gemma-2-9b"),
        (GEMMA_2_27B, "gemma-2-27b"),
        (GEMMA_3_1B, "gemma-3-1b"),
        (GEMMA_3_4B, "gemma-3-4b"),
        (GEMMA_3_27B, "gemma-3-27b"),
        (GPT_OSS_20B, "gpt-oss-20b"),
    ],
)
def test_a_config_and_the_catalog_say_the_same(config, name):
    """The catalog's file and the published configuration describe one model, whatever the latter leaves to defaults."""
    known = catalog_model(name)
    same = {"name": known.name, "source": known.source, "generation": known.generation}
    assert load(config).model_copy(update=same) == known


def test_layer_types_win_over_the_family():
    """Newer files list the kind of every layer."""
    model = load(GEMMA_3_1B | {"layer_types": (["sliding_attention"] * 12 + ["full_attention"]) * 2})
    assert [(group.count, group.attention.window) for group in model.layers] == [(24, 512), (2, None)]
    assert model.pattern == [0] * 12 + [1]


def test_layers_in_two_blocks_need_no_pattern():
    """Local layers first and global ones after them are two groups in order."""
    (plain,) = catalog_model("tiny").layers
    fields = with_window(plain, 8, [True, True, False])
    assert [(group.count, group.attention.window) for group in fields["layers"]] == [(2, 8), (1, None)]
    assert "pattern" not in fields


def test_what_comes_with_images_says_so():
    """Of a model for text and images the part for text is read."""
    assert "without the vision tower" in load(GEMMA_3_4B).source


@pytest.mark.parametrize("cap", [None, 30.0])
def test_logits_are_capped_where_the_file_says_so(cap):
    """Gemma 2 caps its logits by default and not where its file says null."""
    assert load(GEMMA_2_9B | {"final_logit_softcapping": cap}).logit_softcap is (cap is not None)


def test_experts_without_quantisation_are_of_the_scenarios_type():
    """Conversions of gpt-oss to bf16 have no `quantization_config`."""
    config = {key: value for key, value in GPT_OSS_20B.items() if key != "quantization_config"}
    assert {group.mlp.weight_dtype for group in load(config).layers} == {None}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GPT_OSS_20B | {"layer_types": ["full_attention"]}, "layer_types: has 1 entries, num_hidden_layers = 24"),
        (GPT_OSS_20B | {"layer_types": ["linear_attention"]}, "layer_types: must be a list of sliding_attention and"),
        (GPT_OSS_20B | {"num_experts_per_tok": 33}, "num_experts_per_tok: 33 exceeds the 32 experts"),
        (GPT_OSS_20B | {"quantization_config": {"quant_method": "awq"}}, "quantization_config: not yet: awq"),
        (GEMMA_3_4B | {"text_config": None}, "text_config: this key is required"),
        (
            {"model_type": "gemma3", "text_config": {"hidden_size": "x"}},
            "text_config.hidden_size: must be a whole number",
        ),
    ],
)
def test_what_is_wrong_is_said_by_key(config, message):
    """Each problem names its key, in the mapping in which it is."""
    with pytest.raises(SpecError, match=message):
        load(config)

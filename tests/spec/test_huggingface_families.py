"""Configurations of one published model of each family become models with its parameters."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpusim.errors import SpecError
from gpusim.model.footprint import num_parameters
from gpusim.spec.huggingface import model_from_config
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import read
from gpusim.spec.sampling import SamplingSpec
from gpusim.spec.yaml_files import parse_document

BLOOM = {"model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112, "vocab_size": 250880}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
GPTJ = {
    "model_type": "gptj",
    "n_embd": 4096,
    "n_layer": 28,
    "n_head": 16,
    "n_positions": 2048,
    "vocab_size": 50400,
    "tie_word_embeddings": False,
}


def sized(
    model_type: str, hidden: int, layers: int, heads: int, longest: int, vocab: int, **more: Any
) -> dict[str, Any]:
    """Return a configuration with the keys that most families share."""
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": longest,
        "vocab_size": vocab,
        **more,
    }


NEOX = sized("gpt_neox", 6144, 44, 64, 2048, 50432, intermediate_size=24576, use_parallel_residual=True)
OPT = sized("opt", 4096, 32, 32, 2048, 50272, ffn_dim=16384, word_embed_proj_dim=4096, do_layer_norm_before=True)
QWEN3 = sized(
    "qwen3",
    4096,
    36,
    32,
    40960,
    151936,
    intermediate_size=12288,
    num_key_value_heads=8,
    head_dim=128,
    use_sliding_window=False,
)
PHI4 = sized("phi3", 5120, 40, 40, 16384, 100352, intermediate_size=17920, num_key_value_heads=10)
GRANITE = sized(
    "granite", 4096, 40, 32, 131072, 49155, intermediate_size=12800, num_key_value_heads=8, tie_word_embeddings=True
)
INTERNLM = sized("internlm2", 4096, 32, 32, 32768, 92544, intermediate_size=14336, num_key_value_heads=8, bias=False)
PUBLISHED = {
    "bloom": (BLOOM, 176_247_271_424),
    "gpt2": (GPT2, 124_439_808),
    "gptj": (GPTJ, 6_050_882_784),
    "gpt_neox": (NEOX, 20_554_567_680),
    "opt": (OPT, 6_658_473_984),
    "qwen3": (QWEN3, 8_190_735_360),
    "phi3": (PHI4, 14_659_507_200),
    "granite": (GRANITE, 8_170_848_256),
    "internlm2": (INTERNLM, 7_737_708_544),
}
"""BLOOM, GPT-2, GPT-J-6B, GPT-NeoX-20B, OPT-6.7B, Qwen3-8B, Phi-4, Granite-3.1-8B, InternLM2-7B: parameters of their
checkpoints on the Hugging Face Hub, recalled."""


def load(config: dict[str, Any], folder: Path = Path()) -> ModelSpec:
    return model_from_config(parse_document(json.dumps(config, indent=2), "some-model/config.json", folder))


@pytest.mark.parametrize(("config", "published"), PUBLISHED.values(), ids=PUBLISHED)
def test_parameter_counts_are_the_published_ones(config, published):
    """A translated model has as many parameters as its checkpoint."""
    assert num_parameters(load(config)) == published


@pytest.mark.parametrize(("config", "name"), [(BLOOM, "bloom-176b"), (QWEN3, "qwen3-8b")])
def test_a_config_and_the_catalog_say_the_same(config, name):
    """The catalog's file and the published configuration describe one model."""
    known = ModelSpec.model_validate(read("model", name).data)
    apart = {key: getattr(known, key) for key in ("name", "source", "generation")}
    assert load(config).model_copy(update=apart) == known


def test_positions_are_learned_rotated_or_neither():
    """GPT-2 and OPT look positions up (OPT leaves two rows unused), GPT-J rotates, BLOOM biases attention (ALiBi)."""
    found = {name: load(PUBLISHED[name][0]) for name in ("gpt2", "opt", "gptj", "bloom")}
    assert {name: model.position_embeddings for name, model in found.items()} == {
        "gpt2": 1024,
        "opt": 2050,
        "gptj": 0,
        "bloom": 0,
    }
    assert [name for name, model in found.items() if model.layers[0].attention.rope] == ["gptj"]
    assert load({**BLOOM, "seq_length": 4096}).max_model_len == 4096


def test_blocks_side_by_side():
    """GPT-J and GPT-NeoX compute attention and MLP in parallel, from one norm or two; `use_parallel_residual` decides."""
    layers = [load(config).layers[0] for config in (GPTJ, NEOX, NEOX | {"use_parallel_residual": False})]
    assert [(each.parallel, each.num_norms) for each in layers] == [(True, 1), (True, 2), (False, 2)]


def test_qwen3_has_its_own_head_size():
    """Without `head_dim` Qwen3's heads are 128 wide, whatever its hidden size."""
    small = {key: value for key, value in QWEN3.items() if key != "head_dim"} | {"hidden_size": 1024}
    assert load(small).layers[0].attention.head_dim == 128


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OPT | {"word_embed_proj_dim": 512}, "word_embed_proj_dim: not yet: an embedding of another width"),
        (OPT | {"do_layer_norm_before": False}, "do_layer_norm_before: not yet"),
        (GPT2 | {"n_head": 7}, "n_head: 7 does not divide n_embd = 768"),
        (GPT2 | {"n_positions": None}, "n_positions: this key is required"),
        (BLOOM | {"n_layer": "many"}, "n_layer: must be a whole number of at least 1, not 'many'"),
    ],
)
def test_what_cannot_be_is_refused_by_its_own_key(config, message):
    """Problems name the key as the family calls it, with its line."""
    with pytest.raises(SpecError, match=rf"line \d+: {message}"):
        load(config)


def test_architectures_name_every_family():
    """GPTNeoXForCausalLM and GPT2LMHeadModel are known without `model_type`."""
    for config, architecture in ((NEOX, "GPTNeoXForCausalLM"), (GPT2, "GPT2LMHeadModel"), (QWEN3, "Qwen3ForCausalLM")):
        without = {key: value for key, value in config.items() if key != "model_type"}
        assert load(without | {"architectures": [architecture]}) == load(config)


def test_generation_config_is_read_beside_it(tmp_path):
    """Sampling is what `generation_config.json` says, whatever its `do_sample`; without the file nothing is cut off."""
    (tmp_path / "config.json").write_text(json.dumps(QWEN3))
    assert ModelSpec.model_validate(read("model", str(tmp_path)).data).generation == SamplingSpec()
    stated = {"do_sample": False, "top_p": 0.95, "top_k": 20, "temperature": 0.6, "eos_token_id": [1], "min_p": None}
    (tmp_path / "generation_config.json").write_text(json.dumps(stated))
    found = ModelSpec.model_validate(read("model", str(tmp_path)).data).generation
    assert found == SamplingSpec(top_p=0.95, top_k=20, temperature=0.6)


def test_a_wrong_generation_config_is_named(tmp_path):
    """A value that cannot be is an error of that file, by line."""
    (tmp_path / "config.json").write_text(json.dumps(QWEN3))
    (tmp_path / "generation_config.json").write_text('{\n  "top_p": 9\n}')
    with pytest.raises(SpecError, match=r"generation_config.json:\n  line 2: top_p: must be at most 1, not 9"):
        read("model", str(tmp_path))

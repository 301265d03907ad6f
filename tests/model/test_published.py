"""Every model of the catalog has the parameters its makers publish, whole and split."""

from __future__ import annotations

import pytest

from builders import build_lowering, build_model, catalog_model
from gpusim.model.footprint import num_active_parameters, num_parameters
from gpusim.model.layout import Layout
from gpusim.model.step import BatchShape
from gpusim.model.work import Gemm
from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec, MoeSpec
from gpusim.spec.names import names

MADE_UP = {"tiny", "tiny-moe", "tiny-mla"}
HUB = {
    "bloom-176b": 176_247_271_424,
    "codellama-34b": 33_743_970_304,
    "falcon-180b": 179_522_565_120,
    "falcon-40b": 41_835_970_560,
    "falcon-7b": 7_217_189_760,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-1b": 999_885_952,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-2-7b": 6_738_415_616,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.3-70b": 70_553_706_496,
    "mistral-7b": 7_248_023_552,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-nemo-12b": 12_247_782_400,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "yi-34b": 34_388_917_248,
    "yi-6b": 6_061_035_520,
}
"""Parameters of the checkpoints on the Hugging Face Hub, as their model pages count them; recalled, not read again for
this test. Where a page counts a tied embedding twice, Qwen3's are the different ones, Falcon's the published."""
TIED_AND_STORED_TWICE = {"falcon-7b", "falcon-40b", "falcon-180b"}
MILLIONS = {
    "gpt-3-125m": 125,
    "gpt-3-350m": 356,
    "gpt-3-760m": 760,
    "gpt-3-1.3b": 1320,
    "gpt-3-2.7b": 2650,
    "gpt-3-6.7b": 6660,
    "gpt-3-13b": 12850,
    "gpt-3-175b": 174_600,
    "palm-540b": 540_350,
}
"""Brown et al., 2020, table D.1; Chowdhery et al., 2022, table 1."""
ACTIVE = {
    "gpt-oss-20b": (20_914_757_184, 3.61e9),
    "gpt-oss-120b": (116_829_156_672, 5.13e9),
    "mixtral-8x7b": (46_702_792_704, 12.9e9),
    "mixtral-8x22b": (140_620_634_112, 39e9),
    "qwen3-30b-a3b": (30_532_122_624, 3.3e9),
    "qwen3-235b-a22b": (235_093_634_560, 22e9),
    "deepseek-v2-lite": (15_706_484_224, 2.4e9),
    "deepseek-v3": (671_026_419_200, 36.7e9),
    "deepseek-r1": (671_026_419_200, 36.7e9),
    "llama-4-scout": (108_641_793_536, 17e9),
    "llama-4-maverick": (401_583_781_376, 17e9),
}
"""Parameters of mixtures of experts: of the checkpoint (DeepSeek's without MTP; recalled), and active ones as their makers
round them: DeepSeek's and gpt-oss's without the input embedding (README_WEIGHTS of V3's repository, model card)."""
ROUNDED_AWAY = {"qwen3-30b-a3b": 0.017, "deepseek-v2-lite": 0.022, "llama-4-scout": 0.011, "llama-4-maverick": 0.011}
"""Beyond 1 %: 3.353 billion are published as 3.3, 2.451 as 2.4, 17.17 and 17.18 as 17."""
TEXT_OF_GEMMA_3 = {"gemma-3-4b": 3_880_099_328, "gemma-3-12b": 11_765_788_416, "gemma-3-27b": 27_009_002_240}
"""The language models alone, as KerasHub's presets count them: with 64 rows of the vocabulary less, which are images'."""


@pytest.mark.parametrize(("name", "published"), HUB.items())
def test_checkpoints_have_their_published_parameters(name, published):
    """Layer arithmetic counts every parameter of a released checkpoint, exactly."""
    model = catalog_model(name)
    twice = model.vocab_size * model.hidden_size if name in TIED_AND_STORED_TWICE else 0
    assert num_parameters(model) + twice == published


@pytest.mark.parametrize(("name", "published"), TEXT_OF_GEMMA_3.items())
def test_gemma_3_without_images_has_its_published_parameters(name, published):
    """From 4B on Gemma 3 comes with a vision tower; the rest of it is counted exactly."""
    model = catalog_model(name)
    assert num_parameters(model) - 64 * model.hidden_size == published


@pytest.mark.parametrize(("name", "published"), ACTIVE.items())
def test_mixtures_of_experts_have_their_published_parameters(name, published):
    """All parameters exactly, those active for a token within 1 % of what is published, or its rounding."""
    model, (total, active) = catalog_model(name), published
    assert num_parameters(model) == total
    assert num_active_parameters(model) == pytest.approx(active, rel=ROUNDED_AWAY.get(name, 0.01))


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_papers_state_the_same_parameters(name, millions):
    """Models known from papers alone are within half a percent of the count there, which is rounded."""
    assert num_parameters(catalog_model(name)) == pytest.approx(millions * 1e6, rel=0.005)


def router(moe, hidden):
    """Count what every rank keeps of a mixture of experts: the scores' weights, and biases added after a sum."""
    biases = (moe.num_experts + moe.num_shared_experts) * hidden * moe.bias
    return moe.num_experts * (hidden + moe.router_bias) + biases


def into_latent(latent, hidden):
    """Count the projections into latent space with their norms: every rank computes the whole latent."""
    query = 0 if latent.q_lora_rank is None else latent.q_lora_rank * (hidden + 1)
    return hidden * (latent.kv_lora_rank + latent.qk_rope_head_dim) + latent.kv_lora_rank + query


def replicated(model, tp):
    """Count what *tp* ranks hold together beyond the model: on all of them alike, KV heads in copies, padding."""
    hidden, extra = model.hidden_size, 0
    alike = hidden * ((2 if model.final_norm_bias else 1) + 2 * model.embedding_norm + model.position_embeddings)
    for group in model.layers:
        attention = group.attention
        norms = (group.num_norms + 2 * group.post_norms) * hidden * (2 if group.norm_bias else 1)
        norms += 2 * attention.head_dim * attention.qk_norm
        alike += group.count * (norms + hidden * attention.out_bias)
        alike += group.count * (
            hidden * group.mlp.bias if isinstance(group.mlp, MlpSpec) else router(group.mlp, hidden)
        )
        if attention.latent is not None:
            alike += group.count * into_latent(attention.latent, hidden)
            continue
        copies = max(0, tp - attention.num_kv_heads)
        extra += group.count * 2 * copies * attention.head_dim * (hidden + attention.qkv_bias)
    padding = -model.vocab_size % tp
    extra += padding * hidden * (1 if model.tie_word_embeddings else 2) + padding * model.lm_head_bias
    return (tp - 1) * alike + extra


@pytest.mark.parametrize("name", names("model"))
def test_shards_hold_each_parameter_once(name):
    """All ranks of a split together hold the model; beside it norms, biases added after a sum, copied KV heads, padding."""
    model = catalog_model(name)
    sizes = [tp for tp in (2, 4, 7, 8, 16, 64) if Layout(tp).problem(model) is None]
    for tp in sizes:
        assert tp * num_parameters(model, Layout(tp)) == num_parameters(model) + replicated(model, tp)


@pytest.mark.parametrize("name", names("model"))
def test_whole_experts_add_up_like_slices_of_them(name):
    """With expert parallelism all ranks together hold what they hold with slices, routed experts' biases but once."""
    model = catalog_model(name)
    for tp in (2, 4, 8):
        layout = Layout(tp, enable_expert_parallel=True)
        if layout.problem(model) is None:
            once = sum(
                group.count * (tp - 1) * group.mlp.num_experts * model.hidden_size * group.mlp.bias
                for group in model.layers
                if isinstance(group.mlp, MoeSpec)
            )
            assert tp * (num_parameters(model, layout) - num_parameters(model, Layout(tp))) == -once


@pytest.mark.parametrize("name", sorted(set(HUB) | set(MILLIONS) - set(ACTIVE)))
def test_dense_models_use_all_their_parameters(name):
    """Active parameters of a dense model are all, the embedding included, as they are published."""
    model = catalog_model(name)
    assert num_active_parameters(model) == num_parameters(model)


def test_every_model_has_a_published_count():
    """No model enters the catalog without a count that its sizes are held against."""
    assert set(names("model")) - MADE_UP <= set(ACTIVE) | set(HUB) | set(MILLIONS) | set(TEXT_OF_GEMMA_3)


def test_palm_is_padded_to_64_heads():
    """Split over 64 chips PaLM's 48 heads become 64: 18 billion parameters more (Pope et al., 2023, section 4)."""
    palm, padded = catalog_model("palm-540b"), Layout(64, pad_heads=True)
    assert "or pad_heads: true" in Layout(64).problem(palm)
    assert padded.problem(palm) is None
    added = 64 * num_parameters(palm, padded) - replicated(palm, 64) - num_parameters(palm)
    assert added == 118 * 16 * 2 * 256 * 18432 == pytest.approx(18e9, rel=0.02)


def test_padded_heads_are_computed_like_others():
    """Projections of padded query heads cost FLOPs in proportion: PaLM's output projection 64/48 on 64 chips."""
    palm, shape = catalog_model("palm-540b"), BatchShape(8, 800, (), 8)
    program = build_lowering(palm, layout=Layout(64, pad_heads=True)).lower(shape)
    output = next(k for _, part in program.parts for k in part if isinstance(k, Gemm) and k.name == "o")
    assert 64 * output.flops == 2 * 8 * 18432 * 64 * 256


@pytest.mark.parametrize(
    ("heads", "kv_heads", "tp", "expected"),
    [(12, 12, 8, (2, 2)), (12, 4, 8, (2, 1)), (12, 6, 4, (4, 2)), (12, 1, 8, (2, 1)), (12, 4, 4, (3, 1))],
)
def test_padding_keeps_groups_whole(heads, kv_heads, tp, expected):
    """A rank's query heads are those of its KV heads: padding adds whole groups, or query heads to a shared KV head."""
    attention, layout = AttentionSpec(num_heads=heads, num_kv_heads=kv_heads, head_dim=64), Layout(tp, pad_heads=True)
    assert (layout.heads(attention), layout.kv_heads(attention)) == expected
    group = LayersSpec(count=1, attention=attention, mlp=MlpSpec(intermediate_size=1024))
    assert layout.problem(build_model(group=group)) is None


def test_padding_cannot_split_a_kv_head_unevenly():
    """Fewer KV heads than ranks must divide them: padding query heads does not help."""
    assert Layout(4, pad_heads=True).problem(build_model(heads=12, kv_heads=3)) is not None

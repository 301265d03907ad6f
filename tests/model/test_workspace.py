"""Activations of the largest step: closed forms, and what they grow with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_model, catalog_model
from gpusim.model.layout import Layout
from gpusim.model.workspace import peak_activation_bytes, position_table_bytes
from gpusim.spec.model import MoeSpec


def peak(*, tokens=2048, sequences=128, tp=1, dtype="bf16", **changes):
    return peak_activation_bytes(build_model(**changes), dtype, Layout(tp), tokens=tokens, sequences=sequences)


def test_layers_by_hand():
    """With a small vocabulary the MLP decides: 2 x 1024 in, 1024 out, beside hidden and residual of 512."""
    assert peak(tokens=100, sequences=1) == 100 * 2 * (2 * 512 + 2 * 512 + 3 * 1024)


def test_logits_by_hand():
    """With a large one the sampler does: 2 B of the LM head and three arrays of fp32."""
    assert peak(tokens=100, sequences=8, vocab_size=200_000) == 100 * 2 * 2 * 512 + 8 * 200_000 * 14


def test_a_step_has_no_more_sequences_than_tokens():
    """Logits are made for one token of each."""
    assert peak(tokens=4, sequences=128, vocab_size=200_000) == peak(tokens=4, sequences=4, vocab_size=200_000)


def test_the_two_copies_of_hidden_states_are_what_a_token_budget_costs_beside_the_sampler():
    """As vLLM's Qwen2.5-7B: 1,024 tokens of 3,584 x 2 B more are 14.7 MB, 16 of its blocks of 0.92 MB."""
    large = {"heads": 56, "kv_heads": 56, "vocab_size": 152_064}
    assert peak(tokens=2048, **large) - peak(tokens=1024, **large) == 16 * 16 * 57_344


@given(tokens=st.integers(1, 10_000), sequences=st.integers(1, 1000), vocabulary=st.integers(1, 300_000))
def test_larger_steps_need_no_less(tokens, sequences, vocabulary):
    """More tokens, sequences or vocabulary never lower the peak; splitting over ranks never raises it."""
    sizes = {"tokens": tokens, "sequences": sequences, "vocab_size": vocabulary}
    base = peak(**sizes)
    assert all(peak(**{**sizes, key: 2 * value}) >= base for key, value in sizes.items())
    assert peak(**sizes, tp=4) <= base
    assert peak(**sizes, dtype="fp32") == pytest.approx(2 * base, rel=0.5)


def test_positions_by_hand():
    """Half the dimensions have a sine and a cosine for each of 4,096 positions."""
    assert position_table_bytes(build_model(), "bf16") == 4096 * 64 * 2
    assert position_table_bytes(build_model(), "fp32") == 4096 * 64 * 4


def test_who_does_not_rotate_has_no_table():
    """ALiBi needs none, and learned positions are weights."""
    (group,) = build_model().layers
    still = group.model_copy(update={"attention": group.attention.model_copy(update={"rope": False})})
    assert position_table_bytes(build_model(group=still), "bf16") == 0


def test_experts_by_hand():
    """The experts that compute a token are there at once, 2 of 16 with 3 x 256 each, beside the shared one."""
    (group,) = build_model().layers
    moe = MoeSpec(num_experts=16, experts_per_token=2, expert_intermediate_size=256, num_shared_experts=1)
    sizes = {"tokens": 100, "sequences": 1, "group": group.model_copy(update={"mlp": moe})}
    assert peak(**sizes) == 100 * 2 * (2 * 512 + 2 * 512 + max(3 * 3 * 256, 4 * 512))
    whole = Layout(4, enable_expert_parallel=True)
    assert peak_activation_bytes(build_model(group=sizes["group"]), "bf16", whole, tokens=100, sequences=1) == peak(
        **sizes, tp=4
    )


def test_latent_attention_by_hand():
    """DeepSeek V3's 128 heads have queries and keys of 192, values and outputs of 128; 64 dimensions are rotated."""
    model = catalog_model("deepseek-v3")
    widest = 128 * 2 * (192 + 128)
    expected = 8192 * 2 * (2 * 7168 + 2 * 7168 + widest)
    assert peak_activation_bytes(model, "bf16", Layout(), tokens=8192, sequences=1) == expected
    assert position_table_bytes(model, "bf16") == 163_840 * 64 * 2

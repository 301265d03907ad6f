"""What a model file may say of experts and latent attention, and what is wrong with it."""

from pathlib import Path

import pytest

from gpusim.errors import SpecError
from gpusim.spec.document import Document, validate
from gpusim.spec.model import ModelSpec, MoeSpec

GQA = {"num_heads": 8, "num_kv_heads": 2, "head_dim": 64}
LATENT = {"kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32}
MOE = {"num_experts": 8, "experts_per_token": 2, "expert_intermediate_size": 128}


def load(*, attention=GQA, mlp=MOE):
    layers = [{"count": 2, "attention": attention, "mlp": mlp}]
    sizes = {"hidden_size": 512, "vocab_size": 1000, "max_model_len": 100}
    return validate(ModelSpec, Document("m.yaml", {"schema": 1, "name": "m", **sizes, "layers": layers}, folder=Path()))


def test_a_block_is_told_by_its_keys():
    """`num_experts` makes a mixture of experts, `intermediate_size` a dense block."""
    assert isinstance(load().layers[0].mlp, MoeSpec)
    assert not isinstance(load(mlp={"intermediate_size": 128}).layers[0].mlp, MoeSpec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mlp": MOE | {"experts_per_token": 9}}, "experts_per_token = 9 exceeds num_experts = 8"),
        ({"mlp": MOE | {"num_experts": 0}}, "layers[0].mlp.num_experts: must be at least 1, not 0"),
        ({"mlp": MOE | {"expert_intermediat_size": 1}}, 'did you mean "expert_intermediate_size"?'),
        ({"mlp": {"intermediat_size": 1}}, 'did you mean "intermediate_size"?'),
        ({"attention": GQA | {"latent": LATENT}}, "write num_kv_heads: 1 and head_dim: 96, not 2 and 64"),
        (
            {"attention": {"num_heads": 8, "num_kv_heads": 1, "head_dim": 96, "latent": LATENT, "qkv_bias": True}},
            "not yet: latent attention with q/k norms",
        ),
    ],
)
def test_mistakes_are_named(change, message):
    """Each with its key and the way out, without a word of the other kind of block."""
    with pytest.raises(SpecError) as raised:
        load(**change)
    assert message in str(raised.value)


def test_shared_experts_are_one_block():
    """Two shared experts of 128 units are computed as a dense block of 256."""
    shared = MoeSpec(**MOE, num_shared_experts=2).shared
    assert shared is not None
    assert shared.intermediate_size == 256
    assert MoeSpec(**MOE).shared is None

"""ModelSpec: a decoder-only transformer, its layers grouped by kind."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gpusim.spec.base import SchemaNumber, Spec
from gpusim.spec.sampling import SamplingSpec


class AttentionSpec(Spec):
    """Softmax attention with grouped KV heads: MHA (as many as heads), GQA, MQA (one)."""

    num_heads: int = Field(ge=1)
    num_kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    projection_kv_heads: int | None = Field(default=None, ge=1)
    """KV heads of the projection weights, where they differ from those cached (`attention_keeps_weights`)."""
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    """Queries and keys are normalised head by head, with one weight of head_dim each (Qwen3)."""
    rope: bool = True
    """Queries and keys are rotated by their position; not with ALiBi or learned positions."""

    @model_validator(mode="after")
    def _groups_are_whole(self) -> AttentionSpec:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads = {self.num_kv_heads} does not divide num_heads = {self.num_heads}")
        return self


class MlpSpec(Spec):
    """Dense feed-forward block."""

    kind: Literal["gated", "plain"] = "gated"
    """gated: gate and up projections with a product (SwiGLU); plain: one up projection."""
    intermediate_size: int = Field(ge=1)
    bias: bool = False


class LayersSpec(Spec):
    """Consecutive identical layers."""

    count: int = Field(ge=1)
    attention: AttentionSpec
    mlp: MlpSpec
    parallel: bool = False
    """Attention and MLP read the same normalised input and share one all-reduce (Falcon)."""
    num_norms: int = Field(default=2, ge=0)
    norm_bias: bool = False
    """LayerNorm has a bias beside its weight; RMSNorm has not."""


class ModelSpec(Spec):
    """A decoder-only transformer."""

    schema_number: SchemaNumber = Field(default=1, alias="schema")
    name: str
    source: str = ""
    hidden_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    max_model_len: int = Field(ge=1)
    """Longest prompt plus output the model was trained for, in tokens."""
    attention_window: int | None = Field(default=None, ge=1)
    """Tokens that a layer attends to; requests up to it see full attention, longer ones are not modelled yet."""
    tie_word_embeddings: bool = False
    """Input and output embedding are one matrix."""
    lm_head_bias: bool = False
    final_norm_bias: bool = False
    position_embeddings: int = Field(default=0, ge=0)
    """Rows of a learned table of positions, which every rank holds whole; 0: there is none."""
    embedding_norm: bool = False
    """LayerNorm, with a bias, between embedding and first layer (BLOOM)."""
    generation: SamplingSpec = SamplingSpec()
    """What its makers publish as the defaults of sampling (`generation_config.json`)."""
    layers: list[LayersSpec] = Field(min_length=1)
    """In order, from the first layer to the last."""

    @property
    def num_layers(self) -> int:
        """Layers of all kinds together."""
        return sum(group.count for group in self.layers)

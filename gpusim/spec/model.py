"""ModelSpec: a decoder-only transformer, its layers grouped by kind."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from gpusim.spec.base import Dtype, SchemaNumber, Spec, not_yet
from gpusim.spec.sampling import SamplingSpec


class LatentSpec(Spec):
    """Multi-head latent attention: one vector a token is cached for all heads, from which keys and values are made."""

    kv_lora_rank: int = Field(ge=1)
    """Size of the latent vector."""
    q_lora_rank: int | None = Field(default=None, ge=1)
    """Size of the queries' own latent; None: they are projected from the hidden state."""
    qk_nope_head_dim: int = Field(ge=1)
    """Part of a query or key head that is made from the latent."""
    qk_rope_head_dim: int = Field(ge=1)
    """Part that is rotated by position; of the key it is one for all heads, cached beside the latent."""
    v_head_dim: int = Field(ge=1)
    """Size of a value head."""

    @property
    def qk_head_dim(self) -> int:
        """Size of a query or key head as prefill sees it."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim


class AttentionSpec(Spec):
    """Softmax attention with grouped KV heads: MHA (as many as heads), GQA, MQA (one)."""

    num_heads: int = Field(ge=1)
    """Query heads."""
    num_kv_heads: int = Field(ge=1)
    """Heads of keys and values, which are cached."""
    head_dim: int = Field(ge=1)
    """Size of a head."""
    projection_kv_heads: int | None = Field(default=None, ge=1)
    """KV heads of the projection weights, where they differ from those cached (`attention_keeps_weights`)."""
    window: int | None = Field(default=None, ge=1)
    """Tokens that a query attends to, itself included: key j of query i where i - window < j <= i, as in Hugging Face's
    masks and with vLLM's left window of `window - 1`. None: all up to itself."""
    qkv_bias: bool = False
    """The projections to queries, keys and values have a bias."""
    out_bias: bool = False
    """The output projection has a bias."""
    qk_norm: bool = False
    """Queries and keys are normalised head by head, with one weight of head_dim each (Qwen3)."""
    sinks: bool = False
    """A learned logit per head joins its softmax (gpt-oss)."""
    rope: bool = True
    """Queries and keys are rotated by their position; not with ALiBi or learned positions."""

    latent: LatentSpec | None = None
    """Multi-head latent attention (MLA): to its cache, one KV head of kv_lora_rank + qk_rope_head_dim."""

    @model_validator(mode="after")
    def _latent_is_one_head(self) -> AttentionSpec:
        latent = self.latent
        if latent is not None and self.window is not None:
            raise not_yet("latent attention through a window; leave window out")
        if latent is not None:
            size = latent.kv_lora_rank + latent.qk_rope_head_dim
            if (self.num_kv_heads, self.head_dim) != (1, size):
                raise ValueError(
                    f"latent attention caches one head of kv_lora_rank + qk_rope_head_dim = {size}: write num_kv_heads: 1 "
                    f"and head_dim: {size}, not {self.num_kv_heads} and {self.head_dim}"
                )
            if self.qk_norm or self.qkv_bias or self.projection_kv_heads:
                raise not_yet("latent attention with q/k norms, biases or other projections; leave them out")
        return self

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
    """Hidden units."""
    bias: bool = False
    """The projections have a bias."""


class MoeSpec(Spec):
    """Mixture of experts: a router sends each token to a few of many feed-forward blocks, the shared ones take all."""

    kind: Literal["gated", "plain"] = "gated"
    """As of a dense block; of all experts."""
    num_experts: int = Field(ge=1)
    """Routed ones."""
    experts_per_token: int = Field(ge=1)
    """Routed experts that compute a token (top-k)."""
    expert_intermediate_size: int = Field(ge=1)
    """Hidden units of a routed expert."""
    num_shared_experts: int = Field(default=0, ge=0)
    """Experts that compute every token."""
    shared_intermediate_size: int | None = Field(default=None, ge=1)
    """Hidden units of a shared expert; default: those of a routed one."""
    router_bias: bool = False
    """The router has a bias."""
    bias: bool = False
    """Of the experts' projections."""
    weight_dtype: Dtype | None = None
    """Stored type of the routed experts; None: the scenario's `dtype.weights`."""

    @model_validator(mode="after")
    def _tokens_find_experts(self) -> MoeSpec:
        if self.experts_per_token > self.num_experts:
            raise ValueError(f"experts_per_token = {self.experts_per_token} exceeds num_experts = {self.num_experts}")
        return self

    @property
    def shared(self) -> MlpSpec | None:
        """The shared experts as one dense block, which is what engines compute; None without."""
        if not self.num_shared_experts:
            return None
        size = self.num_shared_experts * (self.shared_intermediate_size or self.expert_intermediate_size)
        return MlpSpec(kind=self.kind, intermediate_size=size, bias=self.bias)


def _kind_of_mlp(value: Any) -> str:
    """Tell a mixture of experts from a dense block by the key that only it has."""
    is_moe = "num_experts" in value if isinstance(value, dict) else isinstance(value, MoeSpec)
    return "MoeSpec" if is_moe else "MlpSpec"


AnyMlpSpec = Annotated[
    Annotated[MlpSpec, Tag("MlpSpec")] | Annotated[MoeSpec, Tag("MoeSpec")], Discriminator(_kind_of_mlp)
]


class LayersSpec(Spec):
    """Identical layers, one after the other or, with `ModelSpec.pattern`, among others."""

    count: int = Field(ge=1)
    """Layers of this kind."""
    attention: AttentionSpec
    mlp: AnyMlpSpec
    """A dense block, or a mixture of experts, which has `num_experts`."""
    parallel: bool = False
    """Attention and MLP read the same normalised input and share one all-reduce (Falcon)."""
    num_norms: int = Field(default=2, ge=0)
    """Norms before attention and MLP."""
    post_norms: bool = False
    """One norm more behind attention and one behind the MLP, before the residual is added (Gemma 2 and 3)."""
    norm_bias: bool = False
    """LayerNorm has a bias beside its weight; RMSNorm has not."""
    kv_dtype: Dtype | None = None
    """Stored type of these layers' cache; None: the scenario's `dtype.kv`."""


class ModelSpec(Spec):
    """A decoder-only transformer."""

    schema_number: SchemaNumber = Field(default=1, alias="schema")
    """Version of the file format: 1."""
    name: str
    """What reports call it."""
    source: str = ""
    """Where the values come from."""
    hidden_size: int = Field(ge=1)
    """Width of the hidden states."""
    vocab_size: int = Field(ge=1)
    """Rows of the embedding."""
    max_model_len: int = Field(ge=1)
    """Longest prompt plus output the model was trained for, in tokens."""
    tie_word_embeddings: bool = False
    """Input and output embedding are one matrix."""
    lm_head_bias: bool = False
    """The output embedding has a bias."""
    final_norm_bias: bool = False
    """The last norm has a bias."""
    logit_softcap: bool = False
    """Logits are bounded by a tanh before sampling (Gemma 2); not to be confused with the one inside attention."""
    position_embeddings: int = Field(default=0, ge=0)
    """Rows of a learned table of positions, which every rank holds whole; 0: there is none."""
    embedding_norm: bool = False
    """LayerNorm, with a bias, between embedding and first layer (BLOOM)."""
    other_parameters: int = Field(default=0, ge=0)
    """Parameters in memory that text does not use, such as a vision encoder: in 16 bit, divided over the ranks."""
    embedding_is_active: bool = True
    """Whether its makers count the input embedding, of which a token reads a row, among the parameters it uses."""
    generation: SamplingSpec = SamplingSpec()
    """What its makers publish as the defaults of sampling (`generation_config.json`)."""
    layers: list[LayersSpec] = Field(min_length=1)
    """In order, from the first layer to the last, unless there is a pattern."""
    pattern: list[int] | None = None
    """Groups in `layers`, counted from 0, of the first layers; repeated up to the last. None: one group after the other."""

    @model_validator(mode="after")
    def _pattern_deals_out_all_layers(self) -> ModelSpec:
        if self.pattern is None:
            return self
        if not self.pattern or not all(0 <= group < len(self.layers) for group in self.pattern):
            raise ValueError(
                f"pattern = {self.pattern} must name some of the {len(self.layers)} groups of layers, from 0"
            )
        order = self.layer_order
        dealt, stated = [order.count(group) for group in range(len(self.layers))], [g.count for g in self.layers]
        if dealt != stated:
            raise ValueError(f"pattern = {self.pattern} makes {dealt} of {self.num_layers} layers, count says {stated}")
        return self

    @property
    def num_layers(self) -> int:
        """Layers of all kinds together."""
        return sum(group.count for group in self.layers)

    @property
    def layer_order(self) -> list[int]:
        """Group of each layer, from the first to the last."""
        if self.pattern is not None:
            return list(islice(cycle(self.pattern), self.num_layers))
        return [index for index, group in enumerate(self.layers) for _ in range(group.count)]

    @property
    def windows(self) -> tuple[int, ...]:
        """Attention windows of its layers, each once, the narrowest first."""
        return tuple(sorted({group.attention.window for group in self.layers if group.attention.window is not None}))

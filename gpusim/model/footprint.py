"""Bytes of weights and KV cache: the only source of both, for time and for capacity."""

from __future__ import annotations

from dataclasses import dataclass

from gpusim.model.latent import latent_elements, latent_norms
from gpusim.model.layout import Layout
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec, ModelSpec, MoeSpec

WHOLE = Layout()


def num_parameters(model: ModelSpec, layout: Layout = WHOLE) -> int:
    """Count the parameters that one rank holds (all of them without a split)."""
    matrices, kept = _counts(model, layout)
    return matrices + kept


def num_active_parameters(model: ModelSpec) -> int:
    """Count the parameters that a token uses, as the model's makers count them.

    All but the experts it does not choose and what text does not use. Of the input embedding a token reads a row; most
    count it all the same (Mixtral 8x7B: 12.9 of 46.7 billion), some do not (`ModelSpec.embedding_is_active`).
    """
    idle = model.other_parameters
    if not (model.embedding_is_active or model.tie_word_embeddings):
        idle += model.vocab_size * model.hidden_size
    for group in model.layers:
        if isinstance(group.mlp, MoeSpec):
            of_one = expert_matrices(group.mlp, model.hidden_size, WHOLE)
            per_expert = of_one.elements + _expert_biases(group.mlp, model.hidden_size, WHOLE)
            idle += group.count * (group.mlp.num_experts - group.mlp.experts_per_token) * per_expert
    return num_parameters(model) - idle


def weight_bytes(model: ModelSpec, dtype: Dtype, layout: Layout = WHOLE) -> float:
    """Bytes of weights on one rank; where they are quantised, embedding, LM head, norms and biases stay in 16 bit."""
    matrices, kept = _counts(model, layout)
    return matrices * DTYPE_BYTES[dtype] + kept * activation_bytes(dtype) + _of_own_type(model, dtype, layout)


def _of_own_type(model: ModelSpec, dtype: Dtype, layout: Layout) -> float:
    """Bytes that experts with a stored type of their own have beyond those of *dtype*; negative where it is smaller."""
    beyond = 0.0
    for group in model.layers:
        if isinstance(group.mlp, MoeSpec) and group.mlp.weight_dtype is not None:
            elements = layout.experts(group.mlp) * expert_matrices(group.mlp, model.hidden_size, layout).elements
            beyond += group.count * elements * (DTYPE_BYTES[group.mlp.weight_dtype] - DTYPE_BYTES[dtype])
    return beyond


def activation_bytes(weights: Dtype) -> float:
    """Bytes of one activation element: 4 for fp32 weights, else 2 (quantised weights work on 16-bit activations)."""
    return 4.0 if weights == "fp32" else 2.0


def _counts(model: ModelSpec, layout: Layout) -> tuple[int, int]:
    """Elements in the layers' matrices (stored in the weights' type), and in all that is never quantised."""
    matrices, kept = 0, _outside_layers(model, layout)
    for group in model.layers:
        attention = attention_elements(group.attention, model.hidden_size, layout)
        feed_forward, router = _feed_forward(group.mlp, model.hidden_size, layout)
        matrices += group.count * (attention + feed_forward)
        kept += group.count * router
        kept += group.count * _vectors(group, model.hidden_size, layout)
    return matrices, kept


def _feed_forward(mlp: MlpSpec | MoeSpec, hidden: int, layout: Layout) -> tuple[int, int]:
    """Elements in the matrices of a block, and in its router, which is never quantised and on every rank."""
    if isinstance(mlp, MlpSpec):
        return mlp_matrices(mlp, hidden, layout).elements, 0
    routed = layout.experts(mlp) * expert_matrices(mlp, hidden, layout).elements
    shared = 0 if mlp.shared is None else mlp_matrices(mlp.shared, hidden, layout.of_shared).elements
    return routed + shared, hidden * mlp.num_experts


def _outside_layers(model: ModelSpec, layout: Layout) -> int:
    """Elements of embedding, positions, norms and LM head on one rank."""
    hidden, rows = model.hidden_size, layout.vocabulary(model)
    count = hidden * rows * (1 if model.tie_word_embeddings else 2)
    count += rows if model.lm_head_bias else 0
    count += hidden * model.position_embeddings
    count += -(-model.other_parameters // layout.tensor_parallel_size)
    count += 2 * hidden if model.embedding_norm else 0
    return count + hidden * (2 if model.final_norm_bias else 1)


def unquantised(weights: Dtype) -> Dtype:
    """Return the type of matrices that stay as they are where the others are quantised."""
    return weights if weights in {"fp32", "bf16", "fp16"} else "bf16"


def _vectors(group: LayersSpec, hidden: int, layout: Layout) -> int:
    attention = group.attention
    count = (group.num_norms + 2 * group.post_norms) * hidden * (2 if group.norm_bias else 1)
    count += layout.heads(attention) if attention.sinks else 0
    count += attention_matrices(attention, hidden, layout).in_columns if attention.qkv_bias else 0
    count += hidden if attention.out_bias else 0
    count += 2 * attention.head_dim if attention.qk_norm else 0
    count += latent_norms(attention.latent) if attention.latent else 0
    return count + _biases(group.mlp, hidden, layout)


def _biases(mlp: MlpSpec | MoeSpec | None, hidden: int, layout: Layout) -> int:
    if isinstance(mlp, MoeSpec):
        routed = layout.experts(mlp) * _expert_biases(mlp, hidden, layout)
        return routed + _biases(mlp.shared, hidden, layout.of_shared) + (mlp.num_experts if mlp.router_bias else 0)
    return mlp_matrices(mlp, hidden, layout).in_columns + hidden if mlp is not None and mlp.bias else 0


def _expert_biases(moe: MoeSpec, hidden: int, layout: Layout) -> int:
    return expert_matrices(moe, hidden, layout).in_columns + hidden if moe.bias else 0


@dataclass(frozen=True, slots=True)
class MatrixPair:
    """The two projections of a block on one rank: into it (hidden × in_columns) and out of it (out_rows × hidden)."""

    hidden: int
    in_columns: int
    out_rows: int

    @property
    def elements(self) -> int:
        """Weights of both."""
        return self.hidden * (self.in_columns + self.out_rows)


def attention_matrices(attention: AttentionSpec, hidden: int, layout: Layout) -> MatrixPair:
    """Shapes of the QKV and output projections on one rank."""
    query = layout.heads(attention) * attention.head_dim
    kv = layout.projection_kv_heads(attention) * attention.head_dim
    return MatrixPair(hidden, query + 2 * kv, query)


def attention_elements(attention: AttentionSpec, hidden: int, layout: Layout) -> int:
    """Weights of all projections of an attention on one rank."""
    if attention.latent is not None:
        return latent_elements(attention, attention.latent, hidden, layout)
    return attention_matrices(attention, hidden, layout).elements


def mlp_matrices(mlp: MlpSpec, hidden: int, layout: Layout) -> MatrixPair:
    """Shapes of the gate/up and down projections on one rank."""
    return _pair(mlp, hidden, layout.intermediate(mlp))


def expert_matrices(moe: MoeSpec, hidden: int, layout: Layout) -> MatrixPair:
    """Shapes of the gate/up and down projections of a routed expert on a rank that holds it or a slice of it."""
    return _pair(moe, hidden, layout.expert_intermediate(moe))


def _pair(mlp: MlpSpec | MoeSpec, hidden: int, inner: int) -> MatrixPair:
    return MatrixPair(hidden, inner * (2 if mlp.kind == "gated" else 1), inner)


def kv_bytes_per_token_and_layer(attention: AttentionSpec, dtype: Dtype, layout: Layout = WHOLE) -> float:
    """Bytes that one token keeps in one layer's cache on one rank: a key and a value per KV head, or its latent."""
    return (1 if attention.latent else 2) * layout.kv_heads(attention) * attention.head_dim * DTYPE_BYTES[dtype]


def kv_bytes_per_token_in(group: LayersSpec, dtype: Dtype, layout: Layout = WHOLE) -> float:
    """Bytes that one token keeps in each of a group's layers on one rank; *dtype* where the group has none of its own."""
    return kv_bytes_per_token_and_layer(group.attention, group.kv_dtype or dtype, layout)


def kv_bytes_per_token(model: ModelSpec, dtype: Dtype, layout: Layout = WHOLE) -> float:
    """Bytes that one token keeps in the cache of all layers on one rank."""
    return sum(group.count * kv_bytes_per_token_in(group, dtype, layout) for group in model.layers)

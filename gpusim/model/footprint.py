"""Bytes of weights and KV cache: the only source of both, for time and for capacity."""

from __future__ import annotations

from dataclasses import dataclass

from gpusim.model.layout import Layout
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec, ModelSpec

WHOLE = Layout()


def num_parameters(model: ModelSpec, layout: Layout = WHOLE) -> int:
    """Count the parameters that one rank holds (all of them without a split)."""
    matrices, kept = _counts(model, layout)
    return matrices + kept


def num_active_parameters(model: ModelSpec) -> int:
    """Count the parameters that a token uses, embedding and LM head included.

    That is how "active parameters" are published (Mixtral 8x7B: 12.9 of 46.7 billion): a dense model uses all of its
    own, though of the embedding only a row is read.
    """
    return num_parameters(model)


def weight_bytes(model: ModelSpec, dtype: Dtype, layout: Layout = WHOLE) -> float:
    """Bytes of weights on one rank; where they are quantised, embedding, LM head, norms and biases stay in 16 bit."""
    matrices, kept = _counts(model, layout)
    return matrices * DTYPE_BYTES[dtype] + kept * activation_bytes(dtype)


def activation_bytes(weights: Dtype) -> float:
    """Bytes of one activation element: 4 for fp32 weights, else 2 (quantised weights work on 16-bit activations)."""
    return 4.0 if weights == "fp32" else 2.0


def _counts(model: ModelSpec, layout: Layout) -> tuple[int, int]:
    """Elements in the layers' matrices (stored in the weights' type), and in all that is never quantised."""
    matrices, kept = 0, _outside_layers(model, layout)
    for group in model.layers:
        attention = attention_matrices(group.attention, model.hidden_size, layout)
        mlp = mlp_matrices(group.mlp, model.hidden_size, layout)
        matrices += group.count * (attention.elements + mlp.elements)
        kept += group.count * _vectors(group, model.hidden_size, layout)
    return matrices, kept


def _outside_layers(model: ModelSpec, layout: Layout) -> int:
    """Elements of embedding, positions, norms and LM head on one rank."""
    hidden, rows = model.hidden_size, layout.vocabulary(model)
    count = hidden * rows * (1 if model.tie_word_embeddings else 2)
    count += rows if model.lm_head_bias else 0
    count += hidden * model.position_embeddings
    count += 2 * hidden if model.embedding_norm else 0
    return count + hidden * (2 if model.final_norm_bias else 1)


def unquantised(weights: Dtype) -> Dtype:
    """Return the type of matrices that stay as they are where the others are quantised."""
    return weights if weights in {"fp32", "bf16", "fp16"} else "bf16"


def _vectors(group: LayersSpec, hidden: int, layout: Layout) -> int:
    attention, mlp = group.attention, group.mlp
    count = group.num_norms * hidden * (2 if group.norm_bias else 1)
    count += attention_matrices(attention, hidden, layout).in_columns if attention.qkv_bias else 0
    count += hidden if attention.out_bias else 0
    count += 2 * attention.head_dim if attention.qk_norm else 0
    if mlp.bias:
        count += mlp_matrices(mlp, hidden, layout).in_columns + hidden
    return count


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


def mlp_matrices(mlp: MlpSpec, hidden: int, layout: Layout) -> MatrixPair:
    """Shapes of the gate/up and down projections on one rank."""
    inner = layout.intermediate(mlp)
    return MatrixPair(hidden, inner * (2 if mlp.kind == "gated" else 1), inner)


def kv_bytes_per_token_and_layer(attention: AttentionSpec, dtype: Dtype, layout: Layout = WHOLE) -> float:
    """Bytes that one token keeps in one layer's cache on one rank: a key and a value per KV head."""
    return 2 * layout.kv_heads(attention) * attention.head_dim * DTYPE_BYTES[dtype]


def kv_bytes_per_token(model: ModelSpec, dtype: Dtype, layout: Layout = WHOLE) -> float:
    """Bytes that one token keeps in the cache of all layers on one rank."""
    return sum(group.count * kv_bytes_per_token_and_layer(group.attention, dtype, layout) for group in model.layers)

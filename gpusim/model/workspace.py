"""Bytes that a step needs beside weights and cache, as vLLM finds them: by a dummy step as large as they get.

    peak = 2 · T · hidden · e + max(layers, sampler)
    layers  = T · (2 · hidden + widest) · e       the widest block: its projections into and out of it; hidden and residual
    sampler = S · vocabulary · (e + 3 · 4)        logits of the LM head; in fp32 logits, probabilities and noise

with T tokens, S sequences and e bytes an element. Two copies of the hidden states outlive the layers: vLLM's block counts of
Qwen2.5-7B at token budgets of 1,024 and 2,048 differ by just these, which also shows that its peak is the sampler's.
"""

from __future__ import annotations

from gpusim.model.footprint import activation_bytes, attention_matrices, expert_matrices, mlp_matrices
from gpusim.model.layout import Layout
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec, ModelSpec, MoeSpec

_SAMPLER_ARRAYS = 3
"""In fp32: logits, probabilities, noise. A sampler that sorts has more for a while, up to 38 B an entry in PyTorch."""


def peak_activation_bytes(model: ModelSpec, weights: Dtype, layout: Layout, *, tokens: int, sequences: int) -> float:
    """Return the largest size of activations on one rank.

    Args:
        model: As served.
        weights: Stored type of the weights.
        layout: How the model is split; the sampler works on whole logits on every rank.
        tokens: In a step, at most.
        sequences: In a step, at most.
    """
    element, hidden = activation_bytes(weights), model.hidden_size
    widest = max(_block_width(group, hidden, layout) for group in model.layers)
    layers = tokens * (2 * hidden + widest) * element
    sampler = min(sequences, tokens) * model.vocab_size * (element + _SAMPLER_ARRAYS * DTYPE_BYTES["fp32"])
    return 2 * tokens * hidden * element + max(layers, sampler)


def position_table_bytes(model: ModelSpec, weights: Dtype) -> float:
    """Return the size of the rotary embedding's table: a sine and a cosine for each pair of dimensions and position."""
    rotated = (_rotated(group.attention) for group in model.layers)
    return model.max_model_len * max(rotated) * activation_bytes(weights)


def _rotated(attention: AttentionSpec) -> int:
    """Dimensions of a head that are rotated by position."""
    if attention.latent is not None:
        return attention.latent.qk_rope_head_dim
    return attention.head_dim if attention.rope else 0


def _block_width(group: LayersSpec, hidden: int, layout: Layout) -> int:
    """Elements a token has at once in the wider of attention and MLP."""
    return max(_attention_width(group.attention, hidden, layout), _mlp_width(group.mlp, hidden, layout))


def _attention_width(attention: AttentionSpec, hidden: int, layout: Layout) -> int:
    """Queries, keys, values and outputs; of latent attention as prefill expands them."""
    if attention.latent is not None:
        return layout.heads(attention) * 2 * (attention.latent.qk_head_dim + attention.latent.v_head_dim)
    block = attention_matrices(attention, hidden, layout)
    return block.in_columns + block.out_rows


def _mlp_width(mlp: MlpSpec | MoeSpec | None, hidden: int, layout: Layout) -> int:
    """What goes into and out of the activation function; of the experts that compute a token, all at once."""
    if mlp is None:
        return 0
    if isinstance(mlp, MlpSpec):
        block = mlp_matrices(mlp, hidden, layout)
        return block.in_columns + block.out_rows
    expert = expert_matrices(mlp, hidden, layout)
    routed = mlp.experts_per_token * (expert.in_columns + expert.out_rows) // layout.expert_parallel_size
    return routed + _mlp_width(mlp.shared, hidden, layout)

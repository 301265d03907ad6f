"""Bytes that a step needs beside weights and cache, as vLLM finds them: by a dummy step as large as they get.

    peak = 2 · T · hidden · e + max(layers, sampler)
    layers  = T · (2 · hidden + widest) · e       the widest block: its projections into and out of it; hidden and residual
    sampler = S · vocabulary · (e + 3 · 4)        logits of the LM head; in fp32 logits, probabilities and noise

with T tokens, S sequences and e bytes an element. Two copies of the hidden states outlive the layers: vLLM's block counts of
Qwen2.5-7B at token budgets of 1,024 and 2,048 differ by just these, which also shows that its peak is the sampler's.
"""

from __future__ import annotations

from gpusim.model.footprint import activation_bytes, attention_matrices, mlp_matrices
from gpusim.model.layout import Layout
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import LayersSpec, ModelSpec

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
    rotated = [group.attention.head_dim for group in model.layers if group.attention.rope]
    return model.max_model_len * max(rotated, default=0) * activation_bytes(weights)


def _block_width(group: LayersSpec, hidden: int, layout: Layout) -> int:
    """Elements a token has at once in the wider of attention and MLP."""
    blocks = (attention_matrices(group.attention, hidden, layout), mlp_matrices(group.mlp, hidden, layout))
    return max(block.in_columns + block.out_rows for block in blocks)

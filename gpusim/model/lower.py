"""From a batch to the kernels of its step: bytes and FLOPs of each, per rank.

The kernels are those a serving engine launches: fused add and norm, QKV, rotary embedding, cache write, attention,
output projection, [all-reduce], add and norm, gate and up, activation, down, [all-reduce]; before the layers the
embedding, after them norm, LM head and sampling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from gpusim.model.footprint import (
    activation_bytes,
    attention_matrices,
    kv_bytes_per_token_and_layer,
    mlp_matrices,
    unquantised,
)
from gpusim.model.layout import Layout
from gpusim.model.work import (
    AllGather,
    AllReduce,
    Attention,
    BatchShape,
    Count,
    Elementwise,
    FloatArray,
    Gemm,
    Kernel,
    Size,
    Sort,
    StepProgram,
    StepShapes,
)
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import LayersSpec, ModelSpec
from gpusim.spec.sampling import SamplingSpec

_FROM_ALL = SamplingSpec()

SCORE_BYTES = 4.0
"""Attention scores are kept in fp32 by kernels that write them to memory."""
PENALTY_READ, PENALTY_WRITTEN = 47.0, 38.0
"""Bytes a logit that vLLM's penalties read and write: 64-bit counts of the prompt's and the output's tokens, cleared and
compared (16 and 18), then in fp32 repetition (6 and 4), frequency (16 and 8) and presence (9 and 8), all of which it
applies where one is asked for. Counted in its source (`apply_penalties`), not measured."""


@dataclass(frozen=True)
class Lowering:
    """Turns batches of one model on one layout into programs; what repeats is made once."""

    model: ModelSpec
    layout: Layout
    weights: Dtype = "bf16"
    kv: Dtype = "bf16"
    attention_kernel: Literal["fused", "naive"] = "fused"
    sampling: SamplingSpec = _FROM_ALL
    _parts: dict[tuple[int, int], tuple[tuple[int, tuple[Kernel | None, ...]], ...]] = field(default_factory=dict)

    @cached_property
    def width(self) -> float:
        """Bytes of an activation element."""
        return activation_bytes(self.weights)

    def lower(self, shape: BatchShape, steps: int = 1) -> StepProgram:
        """Return the program of *steps* steps of *shape*, each decode's context growing by a token a step."""
        key = (shape.num_tokens, shape.num_sampled)
        if key not in self._parts:
            self._parts[key] = self._fixed_parts(*key)
        parts = []
        layer = (attention for _, attention in self.attention(StepShapes.of(shape, steps)))
        for count, kernels in self._parts[key]:
            own = next(layer) if None in kernels else None
            parts.append((count, tuple(own if kernel is None else kernel for kernel in kernels)))
        return StepProgram(shape, steps, tuple(parts))  # type: ignore[arg-type]  # every None was replaced

    def _fixed_parts(self, num_tokens: int, num_sampled: int) -> tuple[tuple[int, tuple[Kernel | None, ...]], ...]:
        """Everything but attention, whose place is marked by None."""
        after = self._after(num_sampled) if num_sampled else ()
        return (*self._token_parts(num_tokens), (1, after))

    def _token_parts(self, num_tokens: Count) -> tuple[tuple[int, tuple[Kernel | None, ...]], ...]:
        layers = tuple((group.count, self._layer(group, num_tokens)) for group in self.model.layers)
        return ((1, self._before(num_tokens)), *layers)

    def token_kernels(self, num_tokens: Count) -> list[tuple[int, Kernel]]:
        """Return the kernels of a step that depend on its tokens alone, and how often it runs each: all up to the head."""
        return [
            (count, kernel) for count, part in self._token_parts(num_tokens) for kernel in part if kernel is not None
        ]

    def sampling_kernels(self, num_sampled: Count) -> list[tuple[int, Kernel]]:
        """Return the kernels of a step that depend on its sampled sequences alone, at least one."""
        return [(1, kernel) for kernel in self._after(num_sampled)]

    def _before(self, num_tokens: Count) -> tuple[Kernel, ...]:
        size = num_tokens * self.model.hidden_size * self.width
        kernels = [Elementwise("embedding", size, size, hbm_bytes=size), *self._all_reduce("embedding", size)]
        if self.model.position_embeddings:
            kernels.append(Elementwise("position_embedding", 2 * size, size, hbm_bytes=size))
        if self.model.embedding_norm:
            kernels.append(Elementwise("embedding_norm", size, size))
        return tuple(kernels)

    def _after(self, num_sampled: Count) -> tuple[Kernel, ...]:
        model, rows = self.model, self.layout.vocabulary(self.model)
        logits = num_sampled * model.vocab_size * self.width
        head = self._gemm("lm_head", num_sampled, rows, model.hidden_size, unquantised(self.weights))
        gather = (AllGather("logits", logits),) if self.layout.tensor_parallel_size > 1 else ()
        draw = (*self._candidates(num_sampled), Elementwise("sample", logits, 4.0 * num_sampled))
        return (self._norm("final_norm", num_sampled), head, *gather, *draw)

    def _candidates(self, num_sampled: Count) -> tuple[Kernel, ...]:
        """What is done to the logits before a token is drawn; every rank has them all, and does the same."""
        elements = 1.0 * num_sampled * self.model.vocab_size
        kernels: list[Kernel] = []
        if self.sampling.penalises:
            kernels.append(Elementwise("penalties", PENALTY_READ * elements, PENALTY_WRITTEN * elements))
        if self.sampling.sorts:
            kernels.append(Sort("sort_logits", elements))
        return tuple(kernels)

    def _layer(self, group: LayersSpec, num_tokens: Count) -> tuple[Kernel | None, ...]:
        attention, mlp = self._attention_block(group, num_tokens), self._mlp_block(group, num_tokens)
        size = num_tokens * self.model.hidden_size * self.width
        norms = [self._norm(f"norm{index}", num_tokens) for index in range(group.num_norms)]
        if group.parallel:
            return (*norms, *attention, *mlp, *self._all_reduce("layer", size))
        return (
            *norms[:1],
            *attention,
            *self._all_reduce("attention", size),
            *norms[1:],
            *mlp,
            *self._all_reduce("mlp", size),
        )

    def _attention_block(self, group: LayersSpec, num_tokens: Count) -> tuple[Kernel | None, ...]:
        attention, hidden = group.attention, self.model.hidden_size
        shapes = attention_matrices(attention, hidden, self.layout)
        kv_columns = 2 * self.layout.kv_heads(attention) * attention.head_dim
        query, key = (num_tokens * columns * self.width for columns in (shapes.out_rows, kv_columns / 2))
        cached = num_tokens * kv_bytes_per_token_and_layer(attention, self.kv, self.layout)
        return (
            self._gemm("qkv", num_tokens, shapes.in_columns, hidden),
            *((Elementwise("q_norm", query, query), Elementwise("k_norm", key, key)) if attention.qk_norm else ()),
            *((Elementwise("rope", query + key, query + key),) if attention.rope else ()),
            Elementwise("cache_write", num_tokens * kv_columns * self.width, cached, hbm_bytes=cached),
            None,
            self._gemm("o", num_tokens, hidden, shapes.out_rows),
        )

    def _mlp_block(self, group: LayersSpec, num_tokens: Count) -> tuple[Kernel, ...]:
        hidden = self.model.hidden_size
        shapes = mlp_matrices(group.mlp, hidden, self.layout)
        return (
            self._gemm("gate_up" if group.mlp.kind == "gated" else "up", num_tokens, shapes.in_columns, hidden),
            Elementwise(
                "activation", num_tokens * shapes.in_columns * self.width, num_tokens * shapes.out_rows * self.width
            ),
            self._gemm("down", num_tokens, hidden, shapes.out_rows),
        )

    def _gemm(self, name: str, m: Count, n: int, k: int, dtype: Dtype | None = None) -> Gemm:
        dtype = dtype or self.weights
        return Gemm(name, m, n, k, dtype, n * k * DTYPE_BYTES[dtype], m * (n + k) * self.width)

    def _norm(self, name: str, num_tokens: Count) -> Elementwise:
        """Fused residual add and norm: both are read, both written."""
        size = 2 * num_tokens * self.model.hidden_size * self.width
        return Elementwise(name, size, size)

    def _all_reduce(self, name: str, size_bytes: Size) -> tuple[Kernel, ...]:
        return (AllReduce(name, size_bytes),) if self.layout.tensor_parallel_size > 1 else ()

    def attention(self, shapes: StepShapes) -> list[tuple[int, Attention]]:
        """Return the attention kernel of each kind of layer over all steps, and how often a step runs it."""
        return [(group.count, self._attention(group, shapes)) for group in self.model.layers]

    def _attention(self, group: LayersSpec, shapes: StepShapes) -> Attention:
        attention, layout = group.attention, self.layout
        heads = layout.heads(attention)
        decode = shapes.decode_context.astype(np.float64)
        kv_tokens = decode + shapes.chunk_context
        activations = 2 * heads * attention.head_dim * self.width * shapes.num_tokens
        return Attention(
            name="attention",
            num_sequences=shapes.num_sequences.astype(np.float64),
            num_heads=heads,
            num_kv_heads=layout.kv_heads(attention),
            head_dim=attention.head_dim,
            dtype=self.kv,
            kv_tokens=kv_tokens,
            kv_bytes=kv_tokens * kv_bytes_per_token_and_layer(attention, self.kv, layout),
            activation_bytes=activations + self._scores(heads, decode + shapes.chunk_pairs),
            decode_flops=4.0 * heads * attention.head_dim * decode,
            prefill_flops=4.0 * heads * attention.head_dim * shapes.chunk_pairs,
        )

    def _scores(self, heads: int, pairs: FloatArray) -> FloatArray:
        """Bytes of the scores: written and read once as logits and once as probabilities, if they are written."""
        return 4 * SCORE_BYTES * heads * pairs if self.attention_kernel == "naive" else 0.0 * pairs

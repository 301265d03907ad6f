"""From a batch to the kernels of its step: bytes and FLOPs of each, per rank.

The kernels are those a serving engine launches: fused add and norm, QKV, rotary embedding, cache write, attention,
output projection, [all-reduce], add and norm, gate and up, activation, down, [all-reduce]; before the layers the
embedding, after them norm, LM head and sampling. A mixture of experts (`gpusim.model.experts`) takes the place of gate
and up, activation and down.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from gpusim.model.arrays import Count, FloatArray, Size
from gpusim.model.chunks import ChunkWork, chunk_work
from gpusim.model.collectives import AllGather, AllReduce
from gpusim.model.dispatch import dispatched_experts, part_of
from gpusim.model.experts import expert_kernels
from gpusim.model.footprint import (
    activation_bytes,
    attention_matrices,
    kv_bytes_per_token_in,
    mlp_matrices,
    unquantised,
)
from gpusim.model.latent import latent_attention, projections
from gpusim.model.layout import Layout
from gpusim.model.step import BatchShape, StepProgram, StepShapes
from gpusim.model.window import NO_WINDOWS, KvKind, Windows, WindowShapes
from gpusim.model.work import Attention, Elementwise, Gemm, HostWork, Kernel, Sort
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import LatentSpec, LayersSpec, MlpSpec, ModelSpec, MoeSpec
from gpusim.spec.sampling import SamplingSpec

_FROM_ALL = SamplingSpec()

SCORE_BYTES = 4.0
"""Attention scores are kept in fp32 by kernels that write them to memory."""
LOGIT_BYTES = 4.0
"""Of a logit that is sampled from: fp32, whatever the head computes in."""
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
    expert_skew: float = 0.0
    """Zipf exponent of how often experts are chosen."""
    graph_sizes: tuple[int, ...] = ()
    """Tokens of the steps for which there are CUDA graphs, ascending."""
    waits_for_host: bool = False
    """Whether steps hold what the GPU waits for the host to do."""
    _parts: dict[tuple[int, int, int], tuple[tuple[int, tuple[Kernel | None, ...]], ...]] = field(default_factory=dict)

    @cached_property
    def width(self) -> float:
        """Bytes of an activation element."""
        return activation_bytes(self.weights)

    @cached_property
    def kv_kinds(self) -> tuple[KvKind, ...]:
        """Every kind of KV that its layers read."""
        return tuple(dict.fromkeys(self._kv_kind(group) for group in self.model.layers))

    def _kv_kind(self, group: LayersSpec) -> KvKind:
        return KvKind(kv_bytes_per_token_in(group, self.kv, self.layout), group.attention.window)

    @cached_property
    def _order(self) -> tuple[int, ...] | None:
        """Parts of a program in the order of the model's layers, where it has a pattern; what is before them is the first."""
        if self.model.pattern is None:
            return None
        return (0, *(1 + group for group in self.model.layer_order), 1 + len(self.model.layers))

    def lower(self, shape: BatchShape, steps: int = 1, windows: Windows = NO_WINDOWS) -> StepProgram:
        """Return the program of *steps* steps of *shape*, each decode's context growing by a token a step.

        Args:
            shape: Of the first step.
            steps: How many.
            windows: What the steps read in layers with a window; one for each that the model has.
        """
        return self._program(
            shape, steps, [kernel for _, kernel in self.attention(StepShapes.of(shape, steps, windows))]
        )

    def beside(self, program: StepProgram, num_tokens: int, gathered: int) -> StepProgram:
        """Return *program* as it is run beside those of other replicas that share experts.

        Args:
            program: Of one replica.
            num_tokens: Rows to which its activations are padded; attention leaves those out that are added.
            gathered: Rows of all replicas together.
        """
        attention = [kernel for _, part in program.parts for kernel in part if isinstance(kernel, Attention)]
        shape = replace(program.shape, padded_to=num_tokens, gathered=gathered)
        return self._program(shape, program.steps, attention)

    def _program(self, shape: BatchShape, steps: int, attention: list[Attention]) -> StepProgram:
        key = (shape.num_tokens, shape.num_sampled, shape.gathered)
        if key not in self._parts:
            self._parts[key] = self._fixed_parts(*key)
        parts, layer = [], iter(attention)
        for count, kernels in self._parts[key]:
            own = next(layer) if None in kernels else None
            parts.append((count, tuple(own if kernel is None else kernel for kernel in kernels)))
        return StepProgram(shape, steps, tuple(parts), self._order)  # type: ignore[arg-type]  # every None was replaced

    def _fixed_parts(
        self, num_tokens: int, num_sampled: int, gathered: int
    ) -> tuple[tuple[int, tuple[Kernel | None, ...]], ...]:
        """Everything but attention, whose place is marked by None."""
        after = self._after(num_sampled) if num_sampled else ()
        return (*self.token_parts(num_tokens, gathered or None), (1, after))

    def token_parts(
        self, num_tokens: Count, gathered: Count | None = None
    ) -> tuple[tuple[int, tuple[Kernel | None, ...]], ...]:
        """Return what comes before the layers and each kind of layer, attention marked by None; see `token_kernels`."""
        padded = self._padded(num_tokens)
        layers = tuple((group.count, self._layer(group, padded, gathered)) for group in self.model.layers)
        return ((1, self._before(padded)), *layers)

    def _padded(self, num_tokens: Count) -> Count:
        """Return the tokens of the smallest graph that holds so many; as many where none does.

        Replicas that share experts are padded together, see `rows_together`.
        """
        if not self.graph_sizes or self.layout.shares_experts:
            return num_tokens
        sizes = np.array(self.graph_sizes)
        tokens = np.asarray(num_tokens)
        place = np.minimum(np.searchsorted(sizes, tokens), len(sizes) - 1)
        padded = np.maximum(sizes[place], tokens)
        return padded if isinstance(num_tokens, np.ndarray) else int(padded)

    def token_kernels(self, num_tokens: Count, gathered: Count | None = None) -> list[tuple[int, Kernel]]:
        """Return the kernels of a step that depend on its tokens alone, and how often it runs each: all up to the head.

        Args:
            num_tokens: Of the step.
            gathered: Of all replicas that share experts; None: as if all had as many.
        """
        parts = self.token_parts(num_tokens, gathered)
        return [(count, kernel) for count, part in parts for kernel in part if kernel is not None]

    def sampling_kernels(self, num_sampled: Count) -> list[tuple[int, Kernel]]:
        """Return the kernels of a step that depend on its sampled sequences alone, at least one."""
        return [(1, kernel) for kernel in self._after(num_sampled)]

    def _before(self, num_tokens: Count) -> tuple[Kernel, ...]:
        size = num_tokens * self.model.hidden_size * self.width
        columns = self.model.hidden_size
        looked_up = Elementwise("embedding", size, size, "embedding", num_tokens, columns, hbm_bytes=size)
        host = [HostWork("host", steps=1)] if self.waits_for_host else []
        kernels: list[Kernel] = [*host, looked_up, *self._all_reduce("embedding", size)]
        if self.model.position_embeddings:
            kernels.append(Elementwise("position_embedding", 2 * size, size, "embedding", num_tokens, columns, size))
        if self.model.embedding_norm:
            kernels.append(self._plain_norm("embedding_norm", num_tokens, columns))
        return tuple(kernels)

    def _after(self, num_sampled: Count) -> tuple[Kernel, ...]:
        model, rows = self.model, self.layout.vocabulary(self.model)
        logits = num_sampled * model.vocab_size * self.width
        head = self._gemm("lm_head", num_sampled, rows, model.hidden_size, unquantised(self.weights))
        gather = (AllGather("logits", logits),) if self.layout.tensor_parallel_size > 1 else ()
        # vLLM divides, takes the tanh and multiplies, in a kernel each.
        capped = 3 * (Elementwise("softcap", logits, logits),) if model.logit_softcap else ()
        entries = num_sampled * model.vocab_size
        # Converted to fp32, then searched.
        sample = Elementwise(
            "sample", logits + LOGIT_BYTES * entries, LOGIT_BYTES * entries + 4.0 * num_sampled, "sample"
        )
        draw = (*self._candidates(num_sampled), sample)
        if self.waits_for_host:
            draw = (*draw, HostWork("host", sequences=num_sampled, logit_passes=self.sampling.logit_passes))
        return (self._norm("final_norm", num_sampled), head, *gather, *capped, *draw)

    def _candidates(self, num_sampled: Count) -> tuple[Kernel, ...]:
        """What is done to the logits before a token is drawn; every rank has them all, and does the same."""
        elements = 1.0 * num_sampled * self.model.vocab_size
        kernels: list[Kernel] = []
        if self.sampling.penalises:
            kernels.append(Elementwise("penalties", PENALTY_READ * elements, PENALTY_WRITTEN * elements))
        if self.sampling.sorts:
            kernels.append(Sort("sort_logits", elements))
        return tuple(kernels)

    def _layer(self, group: LayersSpec, num_tokens: Count, gathered: Count | None) -> tuple[Kernel | None, ...]:
        attention, mlp = self._attention_block(group, num_tokens), self._feed_forward(group.mlp, num_tokens, gathered)
        size = num_tokens * self.model.hidden_size * self.width
        norms = [self._norm(f"norm{index}", num_tokens) for index in range(group.num_norms)]
        if group.parallel:
            return (*norms, *attention, *mlp, *self._all_reduce("layer", size))
        return (
            *norms[:1],
            *attention,
            *self._all_reduce("attention", size),
            *(
                (self._plain_norm("post_attention_norm", num_tokens, self.model.hidden_size),)
                if group.post_norms
                else ()
            ),
            *norms[1:],
            *mlp,
            *(() if self._is_dispatched(group.mlp) else self._all_reduce("mlp", size)),
            *((self._plain_norm("post_mlp_norm", num_tokens, self.model.hidden_size),) if group.post_norms else ()),
        )

    def _attention_block(self, group: LayersSpec, num_tokens: Count) -> tuple[Kernel | None, ...]:
        attention, hidden = group.attention, self.model.hidden_size
        if attention.latent is not None:
            return self._latent_block(group, attention.latent, num_tokens)
        shapes = attention_matrices(attention, hidden, self.layout)
        kv_columns = 2 * self.layout.kv_heads(attention) * attention.head_dim
        heads, head_dim = (
            (shapes.out_rows // attention.head_dim, kv_columns // 2 // attention.head_dim),
            attention.head_dim,
        )
        cached = num_tokens * kv_bytes_per_token_in(group, self.kv, self.layout)
        return (
            self._gemm("qkv", num_tokens, shapes.in_columns, hidden),
            *(
                self._plain_norm(name, num_tokens * count, head_dim)
                for name, count in zip(("q_norm", "k_norm"), heads, strict=True)
                if attention.qk_norm
            ),
            *((self._rope(num_tokens, sum(heads) * head_dim),) if attention.rope else ()),
            Elementwise("cache_write", num_tokens * kv_columns * self.width, cached, hbm_bytes=cached),
            None,
            self._gemm("o", num_tokens, hidden, shapes.out_rows),
        )

    def _latent_block(self, group: LayersSpec, latent: LatentSpec, num_tokens: Count) -> tuple[Kernel | None, ...]:
        attention = group.attention
        into, output = projections(
            attention, latent, self.model.hidden_size, num_tokens, layout=self.layout, weights=self.weights
        )
        # The rotated part of the key is one for all heads.
        rope = self._rope(num_tokens, (self.layout.heads(attention) + 1) * latent.qk_rope_head_dim)
        cached = num_tokens * kv_bytes_per_token_in(group, self.kv, self.layout)
        write = Elementwise("cache_write", num_tokens * (attention.head_dim * self.width), cached, hbm_bytes=cached)
        return (*into, rope, write, None, output)

    def _feed_forward(self, mlp: MlpSpec | MoeSpec, num_tokens: Count, gathered: Count | None) -> tuple[Kernel, ...]:
        if isinstance(mlp, MlpSpec):
            return self._mlp_block(mlp, num_tokens)
        hidden, layout = self.model.hidden_size, self.layout
        own = part_of(num_tokens, layout) if layout.shares_experts else num_tokens
        router = self._gemm("router", own, mlp.num_experts, hidden, unquantised(self.weights))
        shared = () if mlp.shared is None else self._mlp_block(mlp.shared, own, "shared_", layout.of_shared)
        weights, width, skew = mlp.weight_dtype or self.weights, self.width, self.expert_skew
        if layout.shares_experts:
            return dispatched_experts(
                mlp, router, gathered, shared, layout=layout, weights=weights, width=width, skew=skew
            )
        routed = expert_kernels(mlp, hidden, num_tokens, layout=layout, weights=weights, width=width, skew=skew)
        return (router, *routed, *shared)

    def _is_dispatched(self, mlp: MlpSpec | MoeSpec) -> bool:
        """Tell whether a block puts its outputs together by itself."""
        return self.layout.shares_experts and isinstance(mlp, MoeSpec)

    def _mlp_block(
        self, mlp: MlpSpec, num_tokens: Count, prefix: str = "", layout: Layout | None = None
    ) -> tuple[Kernel, ...]:
        hidden = self.model.hidden_size
        shapes = mlp_matrices(mlp, hidden, layout or self.layout)
        up = "gate_up" if mlp.kind == "gated" else "up"
        read, written = (num_tokens * size * self.width for size in (shapes.in_columns, shapes.out_rows))
        return (
            self._gemm(f"{prefix}{up}", num_tokens, shapes.in_columns, hidden),
            Elementwise(f"{prefix}activation", read, written, "activation", num_tokens, shapes.out_rows),
            self._gemm(f"{prefix}down", num_tokens, hidden, shapes.out_rows),
        )

    def _gemm(self, name: str, m: Count, n: int, k: int, dtype: Dtype | None = None) -> Gemm:
        dtype = dtype or self.weights
        return Gemm(name, m, n, k, dtype, n * k * DTYPE_BYTES[dtype], m * (n + k) * self.width)

    def _norm(self, name: str, num_tokens: Count) -> Elementwise:
        """Fused residual add and norm: both are read, both written."""
        size = 2 * num_tokens * self.model.hidden_size * self.width
        return Elementwise(name, size, size, "norm", num_tokens, self.model.hidden_size)

    def _plain_norm(self, name: str, rows: Count, columns: int) -> Elementwise:
        """A norm by itself, of tokens or of heads."""
        size = rows * (columns * self.width)
        return Elementwise(name, size, size, "norm", rows, columns)

    def _rope(self, num_tokens: Count, elements: int) -> Elementwise:
        """Rotation of the *elements* of all heads of a token, pair by pair."""
        size = num_tokens * (elements * self.width)
        return Elementwise("rope", size, size, "rope", num_tokens, elements / 2)

    def _all_reduce(self, name: str, size_bytes: Size) -> tuple[Kernel, ...]:
        return (AllReduce(name, size_bytes),) if self.layout.tensor_parallel_size > 1 else ()

    def attention(self, shapes: StepShapes) -> list[tuple[int, Attention]]:
        """Return the attention kernel of each kind of layer over all steps, and how often a step runs it."""
        return [(group.count, self._attention(group, shapes)) for group in self.model.layers]

    def _attention(self, group: LayersSpec, shapes: StepShapes) -> Attention:
        attention, layout, kind = group.attention, self.layout, self._kv_kind(group)
        dtype = group.kv_dtype or self.kv
        if attention.latent is not None:
            return latent_attention(
                attention,
                attention.latent,
                shapes,
                layout=layout,
                dtype=dtype,
                token_bytes=kind.token_bytes,
                kv_kind=self.kv_kinds.index(kind),
            )
        heads = layout.heads(attention)
        read: StepShapes | WindowShapes = shapes if kind.window is None else shapes.windows[kind.window]
        decode = read.decode_context.astype(np.float64)
        kv_tokens = decode + read.chunk_context
        activations = 2 * heads * attention.head_dim * self.width * shapes.num_tokens
        return Attention(
            name="attention",
            num_sequences=shapes.num_sequences.astype(np.float64),
            num_heads=heads,
            num_kv_heads=layout.kv_heads(attention),
            head_dim=attention.head_dim,
            dtype=dtype,
            kv_tokens=kv_tokens,
            kv_bytes=kv_tokens * kind.token_bytes,
            activation_bytes=activations + self._scores(heads, decode + read.chunk_pairs),
            decode_flops=4.0 * heads * attention.head_dim * decode,
            prefill_flops=4.0 * heads * attention.head_dim * read.chunk_pairs,
            kv_kind=self.kv_kinds.index(kind),
            chunks=_chunks(shapes, read, kind),
            longest=shapes.longest if kind.window is None else np.minimum(shapes.longest, kind.window),
            is_windowed=kind.window is not None,
        )

    def _scores(self, heads: int, pairs: FloatArray) -> FloatArray:
        """Bytes of the scores: written and read once as logits and once as probabilities, if they are written."""
        return 4 * SCORE_BYTES * heads * pairs if self.attention_kernel == "naive" else 0.0 * pairs


def _chunks(shapes: StepShapes, read: StepShapes | WindowShapes, kind: KvKind) -> ChunkWork | None:
    if not shapes.chunk_tokens.any():
        return None
    number = shapes.num_sequences - shapes.num_decodes
    return chunk_work(number, shapes.chunk_tokens, (read.chunk_context, read.chunk_pairs), kind)

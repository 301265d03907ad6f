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

from gpusim.core.arrays import FloatArray
from gpusim.model.around_layers import AroundLayers
from gpusim.model.arrays import Count
from gpusim.model.chunks import ChunkWork, chunk_work
from gpusim.model.common_kernels import CommonKernels
from gpusim.model.footprint import kv_bytes_per_token_in
from gpusim.model.latent import latent_attention
from gpusim.model.layer import LayerKernels
from gpusim.model.layout import Layout
from gpusim.model.step import BatchShape, StepProgram, StepShapes
from gpusim.model.window import NO_WINDOWS, KvKind, Windows, WindowShapes
from gpusim.model.work import Attention, Kernel
from gpusim.spec.base import Dtype
from gpusim.spec.model import LayersSpec, ModelSpec
from gpusim.spec.sampling import SamplingSpec

_FROM_ALL = SamplingSpec()

SCORE_BYTES = 4.0
"""Attention scores are kept in fp32 by kernels that write them to memory."""


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
    def _common(self) -> CommonKernels:
        return CommonKernels(self.model.hidden_size, self.layout, self.weights)

    @cached_property
    def _layers(self) -> LayerKernels:
        return LayerKernels(self._common, self.kv, self.expert_skew)

    @cached_property
    def _around(self) -> AroundLayers:
        return AroundLayers(self.model, self._common, self.sampling, self.waits_for_host)

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
        after = self._around.after(num_sampled) if num_sampled else ()
        return (*self.token_parts(num_tokens, gathered or None), (1, after))

    def token_parts(
        self, num_tokens: Count, gathered: Count | None = None
    ) -> tuple[tuple[int, tuple[Kernel | None, ...]], ...]:
        """Return what comes before the layers and each kind of layer, attention marked by None; see `token_kernels`."""
        padded = self._padded(num_tokens)
        layers = tuple((group.count, self._layers.of(group, padded, gathered)) for group in self.model.layers)
        return ((1, self._around.before(padded)), *layers)

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
        return [(1, kernel) for kernel in self._around.after(num_sampled)]

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
        activations = 2 * heads * attention.head_dim * self._common.width * shapes.num_tokens
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

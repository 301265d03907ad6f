"""The work of kernels: sizes only, no time. Bytes and FLOPs are those of one rank.

Values that differ from step to step are arrays of shape (steps,). A kernel whose work depends on the number of tokens
alone may be described for many such numbers at once: its ``m`` or its bytes are then arrays too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from gpusim.model.chunks import ChunkWork
from gpusim.model.window import NO_WINDOWS, Windows
from gpusim.spec.base import Dtype, WeightDtype

FloatArray: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
IntArray: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
BoolArray: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
Count: TypeAlias = "int | np.ndarray[Any, np.dtype[Any]]"
"""A whole number, or one for each of many rows."""
Size: TypeAlias = "float | np.ndarray[Any, np.dtype[Any]]"
"""Bytes, of one call or of each of many rows."""


@dataclass(frozen=True, slots=True)
class Gemm:
    """``y[m, n] = x[m, k] · w[k, n]``."""

    name: str
    m: Count
    n: Count
    k: Count
    dtype: Dtype
    """Of the weights."""
    weight_bytes: Size
    activation_bytes: Size
    """x read and y written."""
    reuse_distance: Size | None = None
    """Bytes touched between two readings of the same weights, as where a benchmark cycles a few copies; None: too many for
    any cache, as between two steps of a model."""
    scaled_in_blocks: bool = False
    """Whether fp8 weights are scaled in blocks of 128 x 128, not as a whole."""
    is_alone: bool = False
    """Whether it is called by itself, as benchmarks do, and not compiled into one program with the rest of a model."""

    @property
    def flops(self) -> Size:
        """Multiplications and additions."""
        return 2.0 * self.m * self.n * self.k


@dataclass(frozen=True, slots=True)
class ExpertKernels:
    """Which kernels compute the experts of a layer."""

    stored: WeightDtype
    """Type of the weights."""
    library: str | None = None
    """Whose; None: those that an engine takes first on the GPU."""


@dataclass(frozen=True, slots=True)
class GroupedGemm:
    """A product with the weights of each expert that a token chose, ``y[rows of e] = x[rows of e] · w[e, k, n]``."""

    name: str
    tokens: Count
    """That were routed."""
    rows: Size
    """Pairs of a token and an expert it chose, on this rank: an expectation, as all loads, and no whole number."""
    experts: Size
    """Distinct ones among those."""
    other_rows: Size
    """Choices of experts that other ranks hold."""
    other_experts: Size
    """Distinct ones among those."""
    held: Count
    """Experts on this rank."""
    n: Count
    k: Count
    dtype: Dtype
    """Of the weights."""
    weight_bytes: Size
    """Of the distinct experts."""
    activation_bytes: Size
    """x read and y written."""
    kernels: ExpertKernels
    reuse_distance: Size | None = None
    """Bytes read between two readings of the same weights, see `Gemm`."""

    @property
    def flops(self) -> Size:
        """Multiplications and additions."""
        return 2.0 * self.rows * self.n * self.k


@dataclass(frozen=True, slots=True)
class LatentWork:
    """What multi-head latent attention does beside attending to a cache; arrays (steps,)."""

    num_decodes: FloatArray
    decode_context: FloatArray
    """Tokens of all decoding sequences together, absorbed."""
    chunk_context: FloatArray
    """Tokens of all chunks together, expanded."""
    latent_dim: int
    rope_dim: int
    weight_bytes: FloatArray
    """Projections that absorb, and that expand."""
    projection_flops: FloatArray
    """Of both."""
    expanded_bytes: FloatArray
    """Keys and values made from the latent, written and read."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of one layer over a batch of decoding sequences and prefill chunks."""

    name: str
    num_sequences: FloatArray
    """(steps,)"""
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count
    dtype: Dtype
    """Of the cache."""
    kv_tokens: FloatArray
    """(steps,) Tokens of context read, all sequences together."""
    kv_bytes: FloatArray
    """(steps,) Bytes of those."""
    activation_bytes: FloatArray
    """(steps,) Queries read and outputs written; with the naive kernel also the scores, out and back."""
    decode_flops: FloatArray
    """(steps,)"""
    prefill_flops: FloatArray
    """(steps,)"""
    latent: LatentWork | None = None
    """The rest of multi-head latent attention; None: another kind."""
    kv_kind: int = 0
    """Which of the model's kinds of KV it reads, see `KvKind`."""
    reuse_distance: FloatArray | None = None
    """(steps,) Bytes read between two readings of the same KV, see `Gemm`."""
    chunks: ChunkWork | None = None
    """Which part of it is prefill chunks, in kernels that attend to the cache itself; None: no step has any."""
    longest: IntArray | FloatArray | None = None
    """(steps,) Most tokens that one sequence reads; None, or less than the mean: not known."""
    is_windowed: BoolArray | bool = False
    """Whether the layers attend to a window only: some kernels then run another way."""

    @property
    def flops(self) -> FloatArray:
        """(steps,) Multiplications and additions of both products, and of the projections that go with them."""
        flops = self.decode_flops + self.prefill_flops
        return flops if self.latent is None else flops + self.latent.projection_flops


ElementwiseKind: TypeAlias = Literal["norm", "activation", "rope", "embedding", "pointwise", "sample"]
"""What is done to each element, which decides how the kernel goes about it; pointwise: all that has no kernel of its own."""


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Norms, rotary embedding, activations, cache writes, sampling: rows of elements, bytes in and out."""

    name: str
    bytes_read: Size
    bytes_written: Size
    kind: ElementwiseKind = "pointwise"
    rows: Size = 0.0
    """Tokens, or heads of all tokens where each is normed by itself; of no account to pointwise kernels."""
    columns: Size = 0.0
    """Elements of a row: those written, of a norm or an activation; pairs that are rotated, of all heads."""
    hbm_bytes: Size = 0.0
    """Part that cannot be in L2 whatever its size: weights looked up, cache lines written."""


@dataclass(frozen=True, slots=True)
class ExpertPass:
    """A kernel around the products of a mixture of experts, as choosing, sorting, activation and sum: bytes in and out.

    Its launch is counted with the products.
    """

    name: str
    token_bytes: Size
    """Of all tokens that were routed."""
    row_bytes: Size
    """Of the rows of this rank's experts."""
    other_bytes: Size
    """The same of other ranks' experts, over whose rows some kernels pass too."""
    kernels: ExpertKernels


@dataclass(frozen=True, slots=True)
class Sort:
    """The logits of sampled sequences sorted with their indices, and the candidates among them found."""

    name: str
    elements: Size
    """Sequences · vocabulary."""


Among: TypeAlias = Literal["tensor", "expert"]
"""Which ranks take part in a collective: those of a replica, or all over which experts are dealt."""


@dataclass(frozen=True, slots=True)
class HostWork:
    """What the GPU waits for the host to do."""

    name: str
    steps: int = 0
    """1 where it is done once a step."""
    sequences: Count = 0
    """For which it is done once each."""
    logit_passes: int = 0
    """What is done to the logits before a token is drawn, each in many small kernels: finding candidates, penalties."""


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Sum of a buffer over all ranks."""

    name: str
    size_bytes: Size
    """The full buffer on each rank."""
    among: Among = "tensor"


@dataclass(frozen=True, slots=True)
class AllGather:
    """Concatenation of all ranks' buffers on each rank."""

    name: str
    size_bytes: Size
    """The full, gathered buffer."""
    among: Among = "tensor"


@dataclass(frozen=True, slots=True)
class ReduceScatter:
    """Sum of a buffer over all ranks, of which each keeps a part."""

    name: str
    size_bytes: Size
    """The full buffer on each rank."""
    among: Among = "tensor"


@dataclass(frozen=True, slots=True)
class AllToAll:
    """Every rank sends each rank, itself included, another part of its buffer."""

    name: str
    size_bytes: Size
    """The full buffer on each rank."""
    among: Among = "tensor"


@dataclass(frozen=True, slots=True)
class SendRecv:
    """The first rank sends the second a buffer."""

    name: str
    size_bytes: Size
    among: Among = "tensor"


Collective: TypeAlias = AllReduce | AllGather | ReduceScatter | AllToAll | SendRecv
Kernel: TypeAlias = Gemm | GroupedGemm | Attention | Elementwise | ExpertPass | Sort | HostWork | Collective


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What a step computes: decoding sequences and prefill chunks."""

    num_decodes: int
    decode_context: int
    """Tokens of context of all decoding sequences together, each including the token it computes."""
    chunks: tuple[tuple[int, int], ...] = ()
    """Per prefill chunk: its new tokens, and the context up to and including them."""
    num_sampled: int = 0
    """Sequences that get a token: the decodes and the chunks that complete a prompt."""
    padded_to: int = 0
    """Rows of the activations at least, where replicas are made equal."""
    gathered: int = 0
    """Rows of all replicas together that share experts; 0: as if all had as many."""
    longest_decode: int = 0
    """Tokens of context of the decoding sequence that has most; 0: not known."""

    @property
    def num_tokens(self) -> int:
        """Rows of the activations."""
        return max(self.padded_to, self.num_decodes + sum(new for new, _ in self.chunks))

    @property
    def num_sequences(self) -> int:
        """Sequences that take part."""
        return self.num_decodes + len(self.chunks)


@dataclass(frozen=True, slots=True)
class StepShapes:
    """What each of a series of steps computes, as far as the time of its kernels depends on it; arrays (steps,)."""

    num_tokens: IntArray
    """Rows of the activations."""
    num_sampled: IntArray
    """Sequences that get a token."""
    num_sequences: IntArray
    """Sequences that take part."""
    num_decodes: IntArray
    """Of those, the ones that decode."""
    decode_context: IntArray
    """Tokens of context of the decoding sequences, see `BatchShape`."""
    chunk_context: IntArray
    """Tokens of context of the prefill chunks, up to and including them."""
    chunk_pairs: FloatArray
    """Pairs of a new token of a chunk and a token it attends to."""
    chunk_tokens: IntArray
    """New tokens of the prefill chunks."""
    longest: IntArray
    """Tokens of the sequence with the longest context, as far as it is known; 0: not at all."""
    windows: Windows = field(default_factory=lambda: NO_WINDOWS)
    """Contexts and pairs for each window that the model's layers have."""

    @classmethod
    def of(cls, shape: BatchShape, steps: int, windows: Windows = NO_WINDOWS) -> StepShapes:
        """Return *steps* steps of one batch, each decode's context growing by a token a step."""
        alike = [shape.num_tokens, shape.num_sampled, shape.num_sequences, shape.num_decodes]
        tokens, sampled, sequences, decodes = (np.full(steps, value, dtype=np.int64) for value in alike)
        chunk_context = np.full(steps, sum(end for _, end in shape.chunks), dtype=np.int64)
        decode_context = shape.decode_context + shape.num_decodes * np.arange(steps, dtype=np.int64)
        pairs = np.full(steps, chunk_pairs(shape.chunks))
        new = np.full(steps, sum(new for new, _ in shape.chunks), dtype=np.int64)
        longest = np.full(steps, max((context for _, context in shape.chunks), default=0), dtype=np.int64)
        if shape.longest_decode:
            longest = np.maximum(longest, shape.longest_decode + np.arange(steps))
        return cls(tokens, sampled, sequences, decodes, decode_context, chunk_context, pairs, new, longest, windows)


def chunk_pairs(chunks: Iterable[tuple[int, int]]) -> float:
    """Count the pairs of a new token and a token it attends to: its predecessors and itself."""
    return float(sum(new * (context - (new - 1) / 2) for new, context in chunks))


@dataclass(frozen=True, slots=True)
class StepProgram:
    """The kernels of *steps* consecutive steps of one batch, in order, on each rank.

    Every part is a sequence of kernels that is run *count* times: the layers of one kind, or what comes once.
    """

    shape: BatchShape
    steps: int
    parts: tuple[tuple[int, tuple[Kernel, ...]], ...]
    order: tuple[int, ...] | None = None
    """Parts as they are run, each *count* times in all; None: one after the other."""

    @property
    def sequence(self) -> tuple[int, ...]:
        """Number of the part that is run first, second, and so on."""
        if self.order is not None:
            return self.order
        return tuple(number for number, (count, _) in enumerate(self.parts) for _ in range(count))

    @property
    def fixed_key(self) -> tuple[int, int, int]:
        """Programs of one lowering with the same key differ in attention only."""
        return self.shape.num_tokens, self.shape.num_sampled, self.shape.gathered

    @property
    def num_kernels(self) -> int:
        """Kernels of one step on one rank, collectives left out."""
        return sum(count * sum(not isinstance(k, Collective) for k in kernels) for count, kernels in self.parts)

    @property
    def num_collectives(self) -> int:
        """Collectives of one step."""
        return sum(count * sum(isinstance(k, Collective) for k in kernels) for count, kernels in self.parts)

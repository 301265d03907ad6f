"""The work of kernels: sizes only, no time. Bytes and FLOPs are those of one rank.

Values that grow while a batch decodes (the context) are arrays of shape (steps,); all others are the same in each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from gpusim.spec.base import Dtype

FloatArray: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


@dataclass(frozen=True, slots=True)
class Gemm:
    """``y[m, n] = x[m, k] · w[k, n]``."""

    name: str
    m: int
    n: int
    k: int
    dtype: Dtype
    """Of the weights."""
    weight_bytes: float
    activation_bytes: float
    """x read and y written."""

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.m * self.n * self.k


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of one layer over a batch of decoding sequences and prefill chunks."""

    name: str
    num_sequences: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
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
    prefill_flops: float

    @property
    def flops(self) -> FloatArray:
        """(steps,) Multiplications and additions of both products."""
        return self.decode_flops + self.prefill_flops


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Norms, rotary embedding, activations, cache writes, sampling: bytes in and out."""

    name: str
    bytes_read: float
    bytes_written: float
    hbm_bytes: float = 0.0
    """Part that cannot be in L2 whatever its size: weights looked up, cache lines written."""


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Sum of a buffer over all ranks."""

    name: str
    size_bytes: float
    """The full buffer on each rank."""


@dataclass(frozen=True, slots=True)
class AllGather:
    """Concatenation of all ranks' buffers on each rank."""

    name: str
    size_bytes: float
    """The full, gathered buffer."""


Collective: TypeAlias = AllReduce | AllGather
Kernel: TypeAlias = Gemm | Attention | Elementwise | AllReduce | AllGather


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

    @property
    def num_tokens(self) -> int:
        """Rows of the activations."""
        return self.num_decodes + sum(new for new, _ in self.chunks)

    @property
    def num_sequences(self) -> int:
        """Sequences that take part."""
        return self.num_decodes + len(self.chunks)


@dataclass(frozen=True, slots=True)
class StepProgram:
    """The kernels of *steps* consecutive steps of one batch, in order, on each rank.

    Every part is a sequence of kernels that is run *count* times: the layers of one kind, or what comes once.
    """

    shape: BatchShape
    steps: int
    parts: tuple[tuple[int, tuple[Kernel, ...]], ...]

    @property
    def fixed_key(self) -> tuple[int, int]:
        """Programs of one lowering with the same key differ in attention only."""
        return self.shape.num_tokens, self.shape.num_sampled

    @property
    def num_kernels(self) -> int:
        """Kernels of one step on one rank, collectives left out."""
        return sum(count * sum(not isinstance(k, Collective) for k in kernels) for count, kernels in self.parts)

    @property
    def num_collectives(self) -> int:
        """Collectives of one step."""
        return sum(count * sum(isinstance(k, Collective) for k in kernels) for count, kernels in self.parts)

"""The work of kernels: sizes only, no time. Bytes and FLOPs are those of one rank.

Values that differ from step to step are arrays of shape (steps,). A kernel whose work depends on the number of tokens
alone may be described for many such numbers at once: its ``m`` or its bytes are then arrays too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gpusim.core.arrays import BoolArray, FloatArray, IntArray
from gpusim.model.arrays import Count, Size
from gpusim.model.chunks import ChunkWork
from gpusim.model.collectives import Collective
from gpusim.spec.base import Dtype, WeightDtype


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


Kernel: TypeAlias = Gemm | GroupedGemm | Attention | Elementwise | ExpertPass | Sort | HostWork | Collective

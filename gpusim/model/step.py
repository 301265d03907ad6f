"""Steps: what batches compute, and the kernels they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.model.collectives import Collective
from gpusim.model.window import NO_WINDOWS, Windows
from gpusim.model.work import Kernel


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

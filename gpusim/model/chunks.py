"""The prefill chunks of an attention call: kernels run them as tiles of queries, not as they run decodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpusim.model.window import FloatArray, KvKind, WindowShapes

if TYPE_CHECKING:
    from gpusim.model.work import StepShapes


@dataclass(frozen=True, slots=True)
class ChunkWork:
    """The part of an attention call that is prefill chunks; arrays (steps,), 0 in steps without any."""

    num_chunks: FloatArray
    new_tokens: FloatArray
    """Of all chunks together."""
    pairs: FloatArray
    """Of a new token and a token it attends to."""
    kv_tokens: FloatArray
    """Tokens of context that chunks read, each once a chunk."""
    kv_bytes: FloatArray
    """Bytes of those."""
    longest: FloatArray
    """Most tokens that one sequence reads, decoding ones included; 0: not known."""


def chunk_work(shapes: StepShapes, read: StepShapes | WindowShapes, kind: KvKind) -> ChunkWork:
    """Return what of an attention of one *kind* of layer is chunks."""
    tokens = read.chunk_context.astype(np.float64)
    longest = shapes.longest if kind.window is None else np.minimum(shapes.longest, kind.window)
    return ChunkWork(
        num_chunks=(shapes.num_sequences - shapes.num_decodes).astype(np.float64),
        new_tokens=shapes.chunk_tokens.astype(np.float64),
        pairs=read.chunk_pairs,
        kv_tokens=tokens,
        kv_bytes=tokens * kind.token_bytes,
        longest=longest.astype(np.float64),
    )

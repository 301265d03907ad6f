"""The prefill chunks of an attention call: kernels run them as tiles of queries, not as they run decodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.model.window import KvKind


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


def chunk_work(number: IntArray, new_tokens: IntArray, read: tuple[IntArray, FloatArray], kind: KvKind) -> ChunkWork:
    """Return what of an attention is chunks.

    Args:
        number: (steps,) Of chunks.
        new_tokens: (steps,) Of all of them.
        read: (steps,) each, tokens that the chunks read in this kind of layer, and their pairs.
        kind: Of the layer.
    """
    tokens = read[0].astype(np.float64)
    return ChunkWork(
        num_chunks=number.astype(np.float64),
        new_tokens=new_tokens.astype(np.float64),
        pairs=read[1],
        kv_tokens=tokens,
        kv_bytes=tokens * kind.token_bytes,
    )

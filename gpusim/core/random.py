"""Random streams keyed by name and index, never by the order of draws.

Entry *i* of a stream depends on (seed, stream name, *i*) only: a longer run, a cut run or another reader of the same
stream sees the same values. Streams are drawn in blocks, each from its own counter of a Philox generator (Salmon et
al., 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from gpusim.core.arrays import FloatArray

BLOCK = 1024
"""Values drawn at a time."""


class Streams:
    """All random streams of one simulation.

    Args:
        seed: The scenario's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def block(self, stream: str, index: int) -> np.random.Generator:
        """Return the generator for block *index* of *stream*; it gives the same draws every time."""
        digest = hashlib.sha256(f"{self.seed}/{stream}".encode()).digest()
        key = np.frombuffer(digest[:16], dtype="<u8")
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, 0]))

    def blocks(self, stream: str, draw: Callable[[np.random.Generator, int], FloatArray]) -> Iterator[FloatArray]:
        """Yield the values of *stream* for ever, `BLOCK` at a time; ``draw(generator, BLOCK)`` makes one block."""
        return (draw(self.block(stream, index), BLOCK) for index in count())

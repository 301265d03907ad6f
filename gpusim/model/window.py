"""Sliding-window attention: how much of each sequence's context a step reads in layers with a window.

A query attends to the last `window` tokens, itself included (`AttentionSpec.window`). The sum over sequences does not
follow from the sum of their contexts, so whoever knows the sequences states it, window by window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class KvKind:
    """Layers that read their KV alike: of the same bytes a token, through the same window."""

    token_bytes: float
    """In one layer on one rank."""
    window: int | None
    """None: all of the context."""


@dataclass(frozen=True, slots=True)
class WindowShapes:
    """What a series of steps reads and computes in a layer with a window, see `StepShapes`; arrays (steps,)."""

    decode_context: IntArray
    """Tokens inside the windows of the decoding sequences: the sum of min(context, window)."""
    chunk_context: IntArray
    """Tokens inside the window of any query of a prefill chunk."""
    chunk_pairs: FloatArray
    """Pairs of a new token of a chunk and a token it attends to."""

    @classmethod
    def of_decodes(cls, read: IntArray) -> WindowShapes:
        """Return those of steps without prefill chunks that *read* so many tokens, (steps,)."""
        nothing = np.zeros_like(read)
        return cls(read, nothing, nothing.astype(np.float64))


Windows: TypeAlias = Mapping[int, WindowShapes]
"""By the window of a layer."""
NO_WINDOWS: Final[Windows] = MappingProxyType({})


def tokens_in_window(new: IntArray, context: IntArray, window: int) -> IntArray:
    """Return the tokens that a chunk's queries attend to, each token once: none below the first query's window.

    Args:
        new: Tokens of each chunk.
        context: Tokens up to and including them.
        window: Of the layer.
    """
    tokens: IntArray = np.minimum(context, new + (window - 1))
    return tokens


def pairs_in_window(new: IntArray, context: IntArray, window: int) -> IntArray:
    """Return the pairs of a new token and one it attends to: ``Σ min(i, window)`` over i in (context - new, context].

    See `tokens_in_window`. The first tokens, up to number *window*, attend to all before them, the others to a window.
    """
    before = context - new
    growing = np.clip(window - before, 0, new)
    pairs: IntArray = growing * before + growing * (growing + 1) // 2 + (new - growing) * window
    return pairs

"""On which memory channels the KV of each running request lies.

A layer's KV region starts at a stripe boundary and blocks lie in it by number, so one histogram over channels holds
for every layer and rank. Histograms follow the cache: they grow as tokens are filled in and vanish with release.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusim.core.clock import FloatArray, IntArray
from gpusim.hardware.channel_map import ChannelMap
from gpusim.serving.request import Request


class KvChannels:
    """Bytes of each running request on each channel.

    Args:
        channel_map: Of the ranks' memory.
        token_bytes: KV of a token in one layer on one rank.
        block_size: Tokens in a block.
        num_slots: Requests that can run at once.
    """

    def __init__(self, channel_map: ChannelMap, token_bytes: float, block_size: int, num_slots: int) -> None:
        self._map = channel_map
        self._token_bytes = token_bytes
        self._block_size = block_size
        self.num_channels = channel_map.num_channels
        self._rows = np.zeros((num_slots, self.num_channels))

    def fill(self, request: Request, until: int) -> None:
        """Add the tokens of *request* that are in the cache from `request.computed` up to *until*."""
        first, last = request.computed // self._block_size, (until - 1) // self._block_size
        blocks = np.array(request.blocks[first : last + 1], dtype=np.int64)
        start = np.zeros(len(blocks), dtype=np.int64)
        end = np.full(len(blocks), self._block_size, dtype=np.int64)
        start[0] = request.computed - first * self._block_size
        end[-1] = until - last * self._block_size
        self._rows[request.slot] += self._map.histogram(*self._addresses(blocks, start, end))

    def clear(self, request: Request) -> None:
        """Forget what lies where for *request*."""
        self._rows[request.slot] = 0.0

    def growth(self, requests: Sequence[Request], steps: int) -> FloatArray:
        """(steps, requests, channels) Bytes that each of the next *steps* tokens of decoding *requests* adds."""
        computed = np.array([request.computed for request in requests], dtype=np.int64)
        tokens = computed + np.arange(steps)[:, None]
        index = tokens // self._block_size
        blocks = np.array(
            [[request.blocks[i] for i in column] for request, column in zip(requests, index.T.tolist(), strict=True)],
            dtype=np.int64,
        ).T
        offset = tokens % self._block_size
        ranges = self._addresses(blocks.ravel(), offset.ravel(), offset.ravel() + 1)
        grown: FloatArray = self._map.histograms(*ranges).reshape(steps, len(requests), -1).astype(np.float64)
        return grown

    def grow(self, requests: Sequence[Request], growth: FloatArray) -> None:
        """Add (steps, requests, channels) bytes of tokens that were computed."""
        self._rows[[request.slot for request in requests]] += growth.sum(axis=0)

    def bytes_of(self, requests: Sequence[Request]) -> FloatArray:
        """(channels,) Bytes of all *requests* together."""
        total: FloatArray = self._rows[[request.slot for request in requests]].sum(axis=0)
        return total

    def _addresses(self, blocks: IntArray, start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        """First and past-the-last byte of tokens *start* to *end* of *blocks*, in the layer's region."""
        base = blocks * self._block_size
        return (
            np.rint((base + start) * self._token_bytes).astype(np.int64),
            np.rint((base + end) * self._token_bytes).astype(np.int64),
        )

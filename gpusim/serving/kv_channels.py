"""On which memory channels the KV that the running requests read lies.

A layer's KV region starts at a stripe boundary and blocks lie in it by number, so one histogram over channels holds
for every layer and rank. It follows the cache: it grows as tokens are filled in and shrinks with release.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gpusim.core.clock import IntArray
from gpusim.hardware.channel_map import ChannelMap
from gpusim.serving.kv_cache import KvCache, Tenures
from gpusim.serving.outlook import Outlook
from gpusim.serving.request import Request

Reads = Iterable[tuple[int, Request, int, int, int]]
"""Step, request, first and past-the-last token, and 1 or -1: whether they are read from that step on, or no more."""


class KvChannels:
    """Bytes on each channel that a step reads.

    Args:
        channel_map: Of the ranks' memory.
        token_bytes: KV of a token in one layer on one rank.
        kv: Which blocks a request has.
    """

    def __init__(self, channel_map: ChannelMap, token_bytes: float, kv: KvCache) -> None:
        self._map = channel_map
        self._token_bytes = int(token_bytes) if token_bytes == int(token_bytes) else token_bytes
        self._kv = kv
        self.num_channels = channel_map.num_channels
        self._read: IntArray = np.zeros(self.num_channels, dtype=np.int64)
        self._held: IntArray = np.zeros((0, self.num_channels), dtype=np.int64)
        """What each step of the outlook would read, if nobody paused."""

    @property
    def held_bytes(self) -> IntArray:
        """(channels,) Bytes that the next step reads on each channel, beside those of its new tokens."""
        return self._read

    def look_ahead(self, outlook: Outlook, tenures: Tenures) -> IntArray:
        """Return the bytes on each channel that every step of *outlook* reads, (steps, channels)."""
        changes = self._filled(outlook, tenures)
        changes += self._ranges(_reads_of(outlook), outlook.num_steps)
        changes[0] += self._read
        read: IntArray = changes.T.cumsum(axis=1).T
        self._held = read
        if outlook.pauses:
            # Only prompts are read there, from their first token on.
            pauses = set(outlook.pauses)
            alone = [
                (step, r, 0, computed + tokens, 1) for step, r, computed, tokens in outlook.chunks if step in pauses
            ]
            read = read.copy()
            read[outlook.pauses] = self._ranges(alone, outlook.num_steps)[outlook.pauses]
        return read

    def keep(self, outlook: Outlook, steps: int) -> None:
        """Note that *steps* steps of *outlook*, which `look_ahead` was asked about, were played."""
        held = self._held[steps - 1]
        over = [(0, r, 0, r.most_cached_tokens, -1) for last, r in outlook.finished if last == steps - 1]
        self._read = held + self._ranges(over, 1)[0] if over else held.copy()

    def _filled(self, outlook: Outlook, tenures: Tenures) -> IntArray:
        """Return the bytes of the tokens that decodes add in each step, (steps, channels)."""
        counts = tenures.end - tenures.begin
        of = np.repeat(np.arange(len(counts)), counts)
        after = np.arange(len(of)) - (np.cumsum(counts) - counts)[of]
        token = tenures.cached[of] + after
        block = token // self._kv.block_size
        # The number of a token in the region is its block's first one's, and how far it is from that.
        number = (self._kv.tables[tenures.slot[of], block] - block) * self._kv.block_size + token
        steps = outlook.steps_of(tenures.begin[of] + after)
        return self._map.changes(steps, outlook.num_steps, *self._addresses(number, number + 1))

    def _ranges(self, reads: Reads, num_steps: int) -> IntArray:
        """Return the bytes of *reads* by the step from which on they count, (steps, channels)."""
        size = self._kv.block_size
        rows = [(step, r.slot, first, end, sign) for step, r, first, end, sign in reads if step < num_steps]
        step, slot, first, end, sign = np.array(rows, dtype=np.int64).reshape(-1, 5).T
        counts = np.where(end > first, -(-end // size) - first // size, 0)
        of = np.repeat(np.arange(len(counts)), counts)
        block = first[of] // size + np.arange(len(of)) - (np.cumsum(counts) - counts)[of]
        base = (self._kv.tables[slot[of], block] - block) * size
        begin, until = np.maximum(first[of], block * size), np.minimum(end[of], (block + 1) * size)
        return self._map.changes(step[of], num_steps, *self._addresses(base + begin, base + until), sign[of])

    def _addresses(self, first: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        """First and past-the-last byte of tokens, by their numbers in the layer's region."""
        if isinstance(self._token_bytes, int):
            return first * self._token_bytes, end * self._token_bytes
        return (
            np.rint(first * self._token_bytes).astype(np.int64),
            np.rint(end * self._token_bytes).astype(np.int64),
        )


def _reads_of(outlook: Outlook) -> Reads:
    """Yield what *outlook* reads more, or no more, beside the new tokens of decodes."""
    for request, cached in outlook.preempted:
        yield 0, request, 0, cached, -1
    for step, request, computed, tokens in outlook.chunks:
        yield step, request, computed, computed + tokens, 1
    for step, request, cached, sign in outlook.reads:
        yield step, request, 0, cached, sign
    for step, request in outlook.finished:
        yield step + 1, request, 0, request.most_cached_tokens, -1

"""On which memory channels the KV that the running requests read lies.

A layer's KV region starts at a stripe boundary and blocks lie in it by number, so one histogram over channels holds for
every layer and rank whose tokens have as many bytes and are read through the same window. It follows the cache: it grows
as tokens are filled in and shrinks with release, and as tokens fall behind the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.hardware.channel_map import ChannelMap
from gpusim.model.window import KvKind
from gpusim.serving.kv_cache import KvCache, Tenures
from gpusim.serving.outlook import Outlook
from gpusim.serving.request import Request

Reads = Iterable[tuple[int, Request, int, int, int]]
"""Step, request, first and past-the-last token, and 1 or -1: whether they are read from that step on, or no more."""


class KvChannels:
    """Bytes on each channel that a step reads, for each kind of KV.

    Args:
        channel_map: Of the ranks' memory.
        kinds: Of the model's layers.
        kv: Which blocks a request has.
    """

    def __init__(self, channel_map: ChannelMap, kinds: Sequence[KvKind], kv: KvCache) -> None:
        self.channel_map = channel_map
        self._kinds = [_Kind(channel_map, kind.token_bytes, kind.window, kv) for kind in kinds]

    @property
    def held_bytes(self) -> list[IntArray]:
        """(channels,) of each kind: bytes that the next step reads on each channel, beside those of its new tokens."""
        return [kind.read for kind in self._kinds]

    def look_ahead(self, outlook: Outlook, tenures: Tenures) -> list[IntArray]:
        """Return the bytes on each channel that every step of *outlook* reads, (steps, channels) of each kind."""
        return [kind.look_ahead(outlook, tenures) for kind in self._kinds]

    def keep(self, outlook: Outlook, steps: int) -> None:
        """Note that *steps* steps of *outlook*, which `look_ahead` was asked about, were played."""
        for kind in self._kinds:
            kind.keep(outlook, steps)


class _Kind:
    """One histogram: of the tokens that the next step reads beside its new ones, whoever computes how many of them.

    Of n tokens in the cache that is all from ``n + 1 - window`` on, what the query behind them attends to. A step adds its
    new tokens; from the next one on it has left behind as many, so that the same holds again.
    """

    def __init__(self, channel_map: ChannelMap, token_bytes: float, window: int | None, kv: KvCache) -> None:
        self._map = channel_map
        self._token_bytes = int(token_bytes) if token_bytes == int(token_bytes) else token_bytes
        self._window = window
        self._kv = kv
        self.read: IntArray = np.zeros(channel_map.num_channels, dtype=np.int64)
        self._held: IntArray = np.zeros((0, channel_map.num_channels), dtype=np.int64)
        """(steps, channels) What each step of the outlook would read, if nobody paused."""
        self._left_behind: IntArray | None = None
        """(steps + 1, channels) Bytes that steps of the outlook do not read any more, but the ones before them did."""

    def look_ahead(self, outlook: Outlook, tenures: Tenures) -> IntArray:
        """See `KvChannels.look_ahead`."""
        changes = self._filled(outlook, tenures)
        changes += self._ranges(self._reads_of(outlook), outlook.num_steps)
        changes[0] += self.read
        if self._window is not None:
            self._left_behind = self._left_by(outlook, tenures, self._window)
            changes -= self._left_behind[:-1]
        read: IntArray = changes.T.cumsum(axis=1).T
        self._held = read
        if outlook.pauses:
            # Only prompts are read there.
            pauses = set(outlook.pauses)
            chunks = [chunk for chunk in outlook.chunks if chunk[0] in pauses]
            alone = [(step, r, self._first(computed), computed + tokens, 1) for step, r, computed, tokens in chunks]
            read = read.copy()
            read[outlook.pauses] = self._ranges(alone, outlook.num_steps)[outlook.pauses]
        return read

    def keep(self, outlook: Outlook, steps: int) -> None:
        """See `KvChannels.keep`."""
        held = self._held[steps - 1]
        over = [
            (0, r, self._first(r.most_cached_tokens), r.most_cached_tokens, -1)
            for last, r in outlook.finished
            if last == steps - 1
        ]
        self.read = held + self._ranges(over, 1)[0] if over else held.copy()
        if self._left_behind is not None:
            self.read -= self._left_behind[steps]

    def _first(self, cached: int) -> int:
        """Return the first of *cached* tokens that the query behind them attends to."""
        return 0 if self._window is None else max(0, cached + 1 - self._window)

    def _reads_of(self, outlook: Outlook) -> Reads:
        """Yield what *outlook* reads more, or no more, beside the new tokens of decodes."""
        for request, cached in outlook.preempted:
            yield 0, request, self._first(cached), cached, -1
        for request, cached in outlook.swapped_in:
            yield 0, request, self._first(cached), cached, 1
        for step, request, computed, tokens in outlook.chunks:
            yield step, request, computed, computed + tokens, 1
        for step, request, cached, sign in outlook.reads:
            yield step, request, self._first(cached), cached, sign
        for step, request in outlook.finished:
            cached = request.most_cached_tokens
            yield step + 1, request, self._first(cached), cached, -1

    def _left_by(self, outlook: Outlook, tenures: Tenures, window: int) -> IntArray:
        """Return the bytes that fall behind the window with the step before each, (steps + 1, channels)."""
        rows = outlook.num_steps + 1
        of, after = _written_out(tenures)
        token = tenures.cached[of] + after + 1 - window
        falls = token >= 0
        of, after, token = of[falls], after[falls], token[falls]
        changes = self._tokens(tenures.slot[of], token, outlook.steps_of(tenures.begin[of] + after) + 1, rows)
        chunks = [
            (step + 1, request, self._first(computed), self._first(computed + tokens), 1)
            for step, request, computed, tokens in outlook.chunks
        ]
        return changes + self._ranges(chunks, rows) if chunks else changes

    def _filled(self, outlook: Outlook, tenures: Tenures) -> IntArray:
        """Return the bytes of the tokens that decodes add in each step, (steps, channels)."""
        of, after = _written_out(tenures)
        steps = outlook.steps_of(tenures.begin[of] + after)
        return self._tokens(tenures.slot[of], tenures.cached[of] + after, steps, outlook.num_steps)

    def _tokens(self, slot: IntArray, token: IntArray, step: IntArray, num_steps: int) -> IntArray:
        """Return the bytes of single tokens by their step, (steps, channels)."""
        block = token // self._kv.block_size
        # The number of a token in the region is its block's first one's, and how far it is from that.
        number = (self._kv.tables[slot, block] - block) * self._kv.block_size + token
        return self._map.changes(step, num_steps, *self._addresses(number, number + 1))

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
        begin, until = base + begin, base + until
        # Blocks one behind the other are one range.
        starts = np.append(True, (begin[1:] != until[:-1]) | (of[1:] != of[:-1]))[: len(of)]
        of, begin, until = of[starts], begin[starts], until[np.append(starts[1:], True)[: len(of)]]
        return self._map.changes(step[of], num_steps, *self._addresses(begin, until), sign[of])

    def _addresses(self, first: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        """First and past-the-last byte of tokens, by their numbers in the layer's region."""
        if isinstance(self._token_bytes, int):
            return first * self._token_bytes, end * self._token_bytes
        return (
            np.rint(first * self._token_bytes).astype(np.int64),
            np.rint(end * self._token_bytes).astype(np.int64),
        )


def _written_out(tenures: Tenures) -> tuple[IntArray, IntArray]:
    """Return a row for each round of each tenure: which tenure, and how many rounds after its first."""
    counts = tenures.end - tenures.begin
    of = np.repeat(np.arange(len(counts)), counts)
    return of, np.arange(len(of)) - (np.cumsum(counts) - counts)[of]

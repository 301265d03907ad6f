"""What a stream of requests is like: how many, how often, how long, and how much of it repeats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.workload.content import Content
from gpusim.workload.shapes import RequestBlock

LEVELS: Final = (0.01, 0.1, 0.5, 0.9, 0.99)
CACHE_BLOCK: Final = 16
"""Tokens of a KV block, vLLM's default: prefixes are found again in whole blocks."""
_WINDOW_S: Final = 10.0


def describe(blocks: Iterable[RequestBlock]) -> dict[str, Any]:
    """Return what *blocks* are like, in SI.

    Memory grows with the number of different lengths, and of different texts that requests begin with; not with requests.
    """
    lengths, arrivals, repeats, sessions = _Lengths(), _Arrivals(), _Repeats(), _Sessions()
    for block in blocks:
        lengths.add(block)
        arrivals.add(block)
        repeats.add(block)
        sessions.add(block)
    prompts, outputs = lengths.prompts.summary(), lengths.outputs.summary()
    return {
        "requests": lengths.prompts.count,
        **sessions.summary(),
        **arrivals.summary(),
        "prompt_tokens": prompts,
        "output_tokens": outputs,
        "repeated_prompt_share": repeats.tokens / prompts["total"] if prompts["total"] else 0.0,
    }


class _Histogram:
    """How often each whole number occurred."""

    def __init__(self) -> None:
        self.count = 0
        self._times: dict[int, int] = {}

    def add(self, values: list[int]) -> None:
        numbers, times = np.unique(np.array(values, dtype=np.int64), return_counts=True)
        for number, more in zip(numbers.tolist(), times.tolist(), strict=True):
            self._times[number] = self._times.get(number, 0) + more
        self.count += len(values)

    def summary(self) -> dict[str, Any]:
        """Return total, mean, percentiles and maximum; a percentile is the smallest value that as many do not exceed."""
        numbers = sorted(self._times)
        up_to = np.cumsum([self._times[number] for number in numbers], dtype=np.int64)
        total = sum(number * times for number, times in self._times.items())
        ranks = np.ceil(np.array(LEVELS) * self.count - 1e-9)
        found = [numbers[int(np.searchsorted(up_to, rank))] for rank in ranks] if numbers else [None] * len(LEVELS)
        return {
            "total": total,
            "mean": total / self.count if self.count else None,
            **{f"p{level * 100:.0f}": value for level, value in zip(LEVELS, found, strict=True)},
            "max": numbers[-1] if numbers else None,
        }


class _Lengths:
    def __init__(self) -> None:
        self.prompts, self.outputs = _Histogram(), _Histogram()

    def add(self, block: RequestBlock) -> None:
        self.prompts.add(block.prompt_tokens)
        self.outputs.add(block.output_tokens)


class _Sessions:
    """Requests that follow others."""

    def __init__(self) -> None:
        self._count = self._turns = self._longest = self._num_followers = 0

    def add(self, block: RequestBlock) -> None:
        for after in block.after or [None] * len(block):
            if after is None:
                self._count += 1
                self._turns = 0
            else:
                self._num_followers += 1
            self._turns += 1
            self._longest = max(self._longest, self._turns)

    def summary(self) -> dict[str, Any]:
        if not self._num_followers:
            return {"sessions": None, "turns_mean": None, "turns_max": None}
        mean = (self._count + self._num_followers) / self._count
        return {"sessions": self._count, "turns_mean": mean, "turns_max": self._longest}


class _Arrivals:
    """When requests come that state it; turns of a session but the first do not."""

    def __init__(self) -> None:
        self._count = 0
        self._first_s = self._last_s = math.nan
        self._gaps = _Moments()
        self._seconds, self._minutes, self._windows = _Windows(1.0), _Windows(60.0), _Windows(_WINDOW_S)

    def add(self, block: RequestBlock) -> None:
        times = np.array([time_s for time_s in block.arrival_s or () if time_s is not None])
        if not len(times):
            return
        if not self._count:
            self._first_s = float(times[0])
        self._gaps.add(np.diff(times, prepend=[self._last_s] if self._count else times[:0]))
        self._count += len(times)
        self._last_s = float(times[-1])
        for windows in (self._seconds, self._minutes, self._windows):
            windows.add(times)

    def summary(self) -> Mapping[str, Any]:
        keys = ("first_arrival_s", "last_arrival_s", "rate_per_s", "peak_1_s_per_s", "peak_60_s_per_s")
        if not self._count:
            return dict.fromkeys((*keys, "gap_cv", "count_cv_10_s"))
        length_s = self._last_s - self._first_s
        rate = (self._count - 1) / length_s if length_s > 0 else None
        peaks = (self._seconds.peak_per_s(), self._minutes.peak_per_s())
        values = (self._first_s, self._last_s, rate, *peaks)
        return dict(zip(keys, values, strict=True)) | {
            "gap_cv": self._gaps.variation(),
            "count_cv_10_s": self._windows.variation(),
        }


class _Moments:
    """Mean and variance of values that come in parts (Chan et al., 1979)."""

    def __init__(self) -> None:
        self.count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: FloatArray) -> None:
        size = len(values)
        if not size:
            return
        mean = float(values.mean())
        apart, total = mean - self._mean, self.count + size
        self._squares += float(((values - mean) ** 2).sum()) + apart**2 * self.count * size / total
        self._mean += apart * size / total
        self.count = total

    def variation(self) -> float | None:
        """Return the coefficient of variation: standard deviation / mean."""
        if self.count < 2 or self._mean == 0:
            return None
        return math.sqrt(self._squares / self.count) / self._mean


class _Windows:
    """How many arrivals fall into each window of a width, counted from 0; times ascend."""

    def __init__(self, width_s: float) -> None:
        self._width_s = width_s
        self._open, self._in_open = 0, 0
        self._largest = 0
        self._sum = self._squares = 0

    def add(self, times: FloatArray) -> None:
        numbers, counts = np.unique((times / self._width_s).astype(np.int64), return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if number != self._open:
                self._close()
                self._open = number
            self._in_open += count
            self._largest = max(self._largest, self._in_open)

    def _close(self) -> None:
        self._sum += self._in_open
        self._squares += self._in_open**2
        self._in_open = 0

    def peak_per_s(self) -> float | None:
        """Return the most arrivals in one window, a second; None if there is but one, which may be cut short."""
        return self._largest / self._width_s if self._open else None

    def variation(self) -> float | None:
        """Return the coefficient of variation of the counts, without the last window, which may not be over."""
        if self._open < 2 or not self._sum:
            return None
        mean = self._sum / self._open
        return math.sqrt(max(0.0, self._squares / self._open - mean**2)) / mean


class _Repeats:
    """Prompt tokens that an endless prefix cache would hold from a request before, in whole blocks.

    A bound: it takes every earlier request to be over, and its answer in the cache. As in vLLM the last token of a prompt is
    computed in any case.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._longest: dict[tuple[int, int], int] = {}
        """Most tokens of a key that were seen, by the node of what stood before them."""
        self._next: dict[tuple[int, int, int], int] = {}
        """Nodes by that before, the key and its tokens."""

    def add(self, block: RequestBlock) -> None:
        for prompt, output, content in zip(block.prompt_tokens, block.output_tokens, block.content or (), strict=False):
            if content:
                shared = min(self._shared(content, prompt + output - 1), prompt - 1)
                self.tokens += shared // CACHE_BLOCK * CACHE_BLOCK

    def _shared(self, content: Content, cached: int) -> int:
        """Return how much of *content* was seen before, and keep its first *cached* tokens."""
        node, shared, is_known = 0, 0, True
        for position, (key, tokens) in enumerate(content):
            kept = min(tokens, cached)
            seen = self._longest.get((node, key), 0)
            if is_known:
                shared += min(tokens, seen)
            if kept > seen:
                self._longest[node, key] = kept
            cached -= kept
            if position == len(content) - 1 or not cached:
                break
            step = (node, key, tokens)
            is_known = is_known and step in self._next
            node = self._next.setdefault(step, len(self._next) + 1)
        return shared

"""The stream of requests that a workload states: drawn, or read from a trace."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, repeat
from pathlib import Path
from typing import TypeAlias

from gpusim.core.random import BLOCK, Streams
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.arrivals import arrival_blocks
from gpusim.workload.lengths import length_blocks
from gpusim.workload.trace import locate_trace
from gpusim.workload.trace_blocks import TraceBlock, trace_blocks

PROMPTS = "workload.prompt_tokens"
OUTPUTS = "workload.output_tokens"
"""Random streams of the two lengths."""

Content: TypeAlias = tuple[tuple[int, int], ...]
"""Spans (key, tokens) that a request begins with. A key, from 0 to 2^60, stands for one endless sequence of tokens, so two requests begin
with the same tokens as far as their spans agree in key; after a span that is shorter than the other's they differ. The
spans may go on into the generated tokens, which the next turn of a conversation repeats; what follows them is nobody else's."""


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What the outside world says of one request: when it comes and how long it is."""

    index: int
    """Position in the stream, from 0."""
    arrival_s: float | None
    """Seconds from the start; None in a closed loop, where the client decides, and where it follows another request."""
    prompt_tokens: int
    output_tokens: int
    content: Content = ()
    """What the tokens are, as far as other requests may begin with the same ones."""
    priority: int = 0
    """Lower comes first, where the engine schedules by priority."""
    after: int | None = None
    """Index of the request, before this one in the stream, that must be over before this one is sent."""
    think_s: float = 0.0
    """Seconds between the end of that request and this one."""


@dataclass(frozen=True, slots=True)
class RequestBlock:
    """Successive requests as columns of equal length, at least one, at most `BLOCK`."""

    first: int
    """Position of the first of them in the stream."""
    arrival_s: list[float] | None
    """Seconds from the start, ascending; None in a closed loop."""
    prompt_tokens: list[int]
    output_tokens: list[int]

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def head(self, size: int) -> RequestBlock:
        """Return the first *size* of these requests."""
        arrival_s = None if self.arrival_s is None else self.arrival_s[:size]
        return RequestBlock(self.first, arrival_s, self.prompt_tokens[:size], self.output_tokens[:size])

    def requests(self) -> Iterator[RequestShape]:
        """Yield them one by one."""
        arrivals = repeat(None) if self.arrival_s is None else self.arrival_s
        return map(RequestShape, count(self.first), arrivals, self.prompt_tokens, self.output_tokens)


def requests(spec: WorkloadSpec, *, seed: int, folder: Path) -> Iterator[RequestShape]:
    """Yield the requests of *spec* one by one; see `request_blocks`."""
    return chain.from_iterable(block.requests() for block in request_blocks(spec, seed=seed, folder=folder))


def request_blocks(spec: WorkloadSpec, *, seed: int, folder: Path) -> Iterator[RequestBlock]:
    """Yield the requests of *spec* in order of arrival, a block at a time as they are asked for.

    Request *i* depends on the spec, the seed and *i* only: more requests, or another reader, change none of them.

    Args:
        spec: The workload; its own seed, if it has one, comes first.
        seed: The scenario's seed.
        folder: What the path of a trace is relative to; else the working directory.

    Raises:
        SpecError: If there is no such trace (at once), or a line of it is wrong (when all before it were yielded).
    """
    blocks = _drawn(spec, seed if spec.seed is None else spec.seed) if spec.trace is None else _read(spec.trace, folder)
    return _limited(blocks, spec.duration, spec.num_requests)


def _limited(
    blocks: Iterator[RequestBlock], duration_s: float | None, num_requests: int | None
) -> Iterator[RequestBlock]:
    """Cut the stream at the first arrival at *duration_s* or later, or after *num_requests*, and look no further."""
    for block in blocks:
        size = len(block)
        if duration_s is not None and block.arrival_s is not None:
            size = bisect_left(block.arrival_s, duration_s)
        if num_requests is not None:
            size = min(size, num_requests - block.first)
        if size:
            yield block if size == len(block) else block.head(size)
        if size < len(block) or block.first + size == num_requests:
            return


def _drawn(spec: WorkloadSpec, seed: int) -> Iterator[RequestBlock]:
    assert spec.arrivals is not None
    assert spec.prompt_tokens is not None
    assert spec.output_tokens is not None
    streams = Streams(seed)
    arrivals = arrival_blocks(spec.arrivals, streams)
    prompts = length_blocks(spec.prompt_tokens, PROMPTS, streams)
    outputs = length_blocks(spec.output_tokens, OUTPUTS, streams)
    return map(RequestBlock, count(0, BLOCK), arrivals, prompts, outputs)


def _read(trace: str, folder: Path) -> Iterator[RequestBlock]:
    return _numbered(trace_blocks(locate_trace(trace, folder)))


def _numbered(blocks: Iterator[TraceBlock]) -> Iterator[RequestBlock]:
    first = 0
    for block in blocks:
        yield RequestBlock(first, *block)
        first += len(block.arrival_s)

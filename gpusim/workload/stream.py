"""The stream of requests that a workload states: drawn, read from a trace, or merged from several."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from heapq import merge
from itertools import chain
from pathlib import Path

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.content import Content, renamed
from gpusim.workload.drawn import drawn
from gpusim.workload.files import locate_trace
from gpusim.workload.replayed import check_use, replayed
from gpusim.workload.shapes import RequestBlock, RequestShape, groups, in_blocks
from gpusim.workload.trace import open_trace

__all__ = [
    "Content",
    "RequestBlock",
    "RequestShape",
    "may_follow",
    "merged_seed",
    "request_blocks",
    "requests",
    "stream_numbers",
]


def requests(spec: WorkloadSpec, *, seed: int, folder: Path) -> Iterator[RequestShape]:
    """Yield the requests of *spec* one by one; see `request_blocks`."""
    return chain.from_iterable(block.requests() for block in request_blocks(spec, seed=seed, folder=folder))


def request_blocks(spec: WorkloadSpec, *, seed: int, folder: Path) -> Iterator[RequestBlock]:
    """Yield the requests of *spec* in order of arrival, a block at a time as they are asked for.

    The turns of a session stand directly behind the one that it begins with. Request *i* depends on the spec, the seed and
    *i* only: more requests, or another reader, change none of them.

    Args:
        spec: The workload; its own seed, if it has one, comes first.
        seed: The scenario's seed.
        folder: What the path of a trace is relative to; else the working directory.

    Raises:
        SpecError: If there is no such trace (at once), or a line of it is wrong (when all before it were yielded).
    """
    own = seed if spec.seed is None else spec.seed
    if spec.merge is not None:
        blocks = in_blocks(_merged(spec, own, folder))
    elif spec.trace is not None:
        trace = open_trace(locate_trace(spec.trace, folder))
        check_use(spec, trace)
        blocks = replayed(spec, trace, own)
    else:
        blocks = drawn(spec, own)
    return _limited(blocks, spec.duration, spec.num_requests)


def may_follow(spec: WorkloadSpec, folder: Path) -> bool:
    """Tell whether requests may wait for others to be over, other than as clients of a closed loop do.

    Raises:
        SpecError: If a trace cannot be read.
    """
    if spec.merge is not None:
        return any(may_follow(part, folder) for part in _parts(spec))
    if spec.trace is not None:
        return open_trace(locate_trace(spec.trace, folder)).may_follow
    return spec.sessions is not None


def _limited(
    blocks: Iterator[RequestBlock], duration_s: float | None, num_requests: int | None
) -> Iterator[RequestBlock]:
    """Cut the stream at the first arrival at *duration_s* or later, or after *num_requests*, and look no further."""
    for block in blocks:
        size = len(block)
        if duration_s is not None and block.arrival_s is not None:
            size = _before(block, duration_s)
        if num_requests is not None:
            size = min(size, num_requests - block.first)
        if size:
            yield block if size == len(block) else block.head(size)
        if size < len(block) or block.first + size == num_requests:
            return


def _before(block: RequestBlock, duration_s: float) -> int:
    """Return how many requests of *block* there are before the first arrival at *duration_s* or later."""
    assert block.arrival_s is not None
    if block.after is None:
        return bisect_left(block.arrival_s, duration_s)  # type: ignore[type-var]  # nobody follows, so all arrive
    late = (index for index, time_s in enumerate(block.arrival_s) if time_s is not None and time_s >= duration_s)
    return next(late, len(block))


def _parts(spec: WorkloadSpec) -> list[WorkloadSpec]:
    assert spec.merge is not None
    parts = [part for part in spec.merge if isinstance(part, WorkloadSpec)]
    assert len(parts) == len(spec.merge), "names of workloads are looked up before they are merged"
    return parts


def stream_numbers(spec: WorkloadSpec, *, seed: int, folder: Path) -> IntArray:
    """Return from which of the streams that *spec* merges each of its requests is, in their order; of no limit of all of them."""
    own = seed if spec.seed is None else spec.seed
    numbers = [number for _, number, group in _merged_sessions(spec, own, folder) for _ in group]
    return np.array(numbers, dtype=np.int64)


def _merged(spec: WorkloadSpec, seed: int, folder: Path) -> Iterator[RequestShape]:
    """Yield several streams as one: in order of arrival, those that come at once in that of the streams."""
    return _renumbered(group for _, _, group in _merged_sessions(spec, seed, folder))


def _merged_sessions(spec: WorkloadSpec, seed: int, folder: Path) -> Iterator[tuple[float, int, list[RequestShape]]]:
    parts = _parts(spec)
    streams = [
        _placed(position, len(parts), requests(part, seed=merged_seed(seed, position), folder=folder))
        for position, part in enumerate(parts)
    ]
    return merge(*streams, key=lambda entry: entry[:2])


def _placed(position: int, of: int, shapes: Iterator[RequestShape]) -> Iterator[tuple[float, int, list[RequestShape]]]:
    """Yield the sessions of a stream with what orders them, under keys that no other stream has."""
    for group in groups(shapes):
        arrival_s = group[0].arrival_s
        assert arrival_s is not None, "closed loops are not merged"
        own = [replace(shape, content=renamed(shape.content, position, of)) for shape in group]
        yield arrival_s, position, own


def _renumbered(sessions: Iterator[list[RequestShape]]) -> Iterator[RequestShape]:
    index = 0
    for session in sessions:
        for shape in session:
            yield replace(shape, index=index, after=None if shape.after is None else index - 1)
            index += 1


def merged_seed(seed: int, position: int) -> int:
    """Return the seed of a merged stream that states none."""
    return int.from_bytes(hashlib.sha256(f"{seed}/merge/{position}".encode()).digest()[:8], "little")

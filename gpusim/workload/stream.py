"""The stream of requests that a workload states: drawn, or read from a trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path

from gpusim.core.random import Streams
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.arrivals import arrival_times
from gpusim.workload.lengths import lengths
from gpusim.workload.trace import locate_trace, read_trace

PROMPTS = "workload.prompt_tokens"
OUTPUTS = "workload.output_tokens"
"""Random streams of the two lengths."""


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What the outside world says of one request: when it comes and how long it is."""

    index: int
    """Position in the stream, from 0."""
    arrival_s: float | None
    """Seconds from the start; None in a closed loop, where the client decides."""
    prompt_tokens: int
    output_tokens: int


def requests(spec: WorkloadSpec, *, seed: int, folder: Path) -> Iterator[RequestShape]:
    """Yield the requests of *spec* in order of arrival, made one by one as they are asked for.

    Request *i* depends on the spec, the seed and *i* only: more requests, or another reader, change none of them.

    Args:
        spec: The workload; its own seed, if it has one, comes first.
        seed: The scenario's seed.
        folder: What the path of a trace is relative to; else the working directory.

    Raises:
        SpecError: If there is no such trace (at once), or a line of it is wrong (when that line is reached).
    """
    shapes = _drawn(spec, seed if spec.seed is None else spec.seed) if spec.trace is None else _read(spec.trace, folder)
    if spec.duration is not None:
        end_s = spec.duration
        shapes = takewhile(lambda shape: shape.arrival_s is None or shape.arrival_s < end_s, shapes)
    return islice(shapes, spec.num_requests)


def _drawn(spec: WorkloadSpec, seed: int) -> Iterator[RequestShape]:
    assert spec.arrivals is not None
    assert spec.prompt_tokens is not None
    assert spec.output_tokens is not None
    streams = Streams(seed)
    arrivals = arrival_times(spec.arrivals, streams)
    prompts = lengths(spec.prompt_tokens, PROMPTS, streams)
    outputs = lengths(spec.output_tokens, OUTPUTS, streams)
    rows = zip(arrivals, prompts, outputs, strict=True)
    return (RequestShape(index, *row) for index, row in enumerate(rows))


def _read(trace: str, folder: Path) -> Iterator[RequestShape]:
    rows = read_trace(locate_trace(trace, folder))
    return (RequestShape(index, *row) for index, row in enumerate(rows))

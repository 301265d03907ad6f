"""Requests read from a trace: as it states them, or its lengths alone, at arrivals of our own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from gpusim.core.random import Streams
from gpusim.errors import SpecError
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.drawn import start_times, think_times
from gpusim.workload.rows import TraceRow
from gpusim.workload.shapes import RequestBlock, RequestShape, in_blocks
from gpusim.workload.trace_blocks import Trace, TraceBlock

SAMPLE = "workload.sample"
"""Random stream of the order in which lengths are taken from a trace."""


def check_use(spec: WorkloadSpec, trace: Trace) -> None:
    """Check that *spec* says what *trace* leaves open.

    Raises:
        SpecError: If the trace states no arrivals and the workload neither.
    """
    if not trace.has_arrivals and spec.arrivals is None:
        raise SpecError(
            f"{trace.path}: {trace.name} states no arrivals; add arrivals to the workload, e.g. "
            f"arrivals: {{kind: poisson, rate: 2 /s}}{trace.hint}"
        )


def replayed(spec: WorkloadSpec, trace: Trace, seed: int) -> Iterator[RequestBlock]:
    """Yield the requests of *trace* as *spec* has them come, to the end of the trace or of the arrivals."""
    if spec.arrivals is None and (spec.sessions is None or not trace.may_follow):
        return _numbered(trace.blocks())
    return in_blocks(_sent(spec, trace, Streams(seed)))


def _numbered(blocks: Iterator[TraceBlock]) -> Iterator[RequestBlock]:
    first = 0
    for block in blocks:
        arrivals, prompts, outputs, content, priority, followers, think_s = block
        after = None
        if followers is not None:
            after = [index - 1 if follows else None for index, follows in enumerate(followers, first)]
        yield RequestBlock(first, arrivals, prompts, outputs, content, priority, after, think_s)
        first += len(block.prompt_tokens)


def _sent(spec: WorkloadSpec, trace: Trace, streams: Streams) -> Iterator[RequestShape]:
    """Yield the sessions of a trace, each as it begins, with the think times of the workload where it states them."""
    sessions = _sessions(chain.from_iterable(block.rows() for block in trace.blocks()))
    if spec.sample == "shuffle":
        sessions = _shuffled(list(sessions), streams)
    thinks = None if spec.sessions is None else think_times(spec.sessions.think_time, streams)
    starts = None if spec.arrivals is None else start_times(spec.arrivals, streams)
    index = 0
    for session in sessions:
        began = (session[0].arrival_s, session[0].think_s) if starts is None else next(starts, None)
        if began is None:
            return
        for row in session:
            think_s = row.think_s if thinks is None else next(thinks)
            when = (None, think_s) if row.is_follower else began
            after = index - 1 if row.is_follower else None
            yield RequestShape(
                index, when[0], row.prompt_tokens, row.output_tokens, row.content, row.priority, after, when[1]
            )
            index += 1


def _sessions(rows: Iterator[TraceRow]) -> Iterator[list[TraceRow]]:
    session: list[TraceRow] = []
    for row in rows:
        if session and not row.is_follower:
            yield session
            session = []
        session.append(row)
    if session:
        yield session


def _shuffled(sessions: list[list[TraceRow]], streams: Streams) -> Iterator[list[TraceRow]]:
    order = streams.block(SAMPLE, 0).permutation(len(sessions))
    return (sessions[position] for position in order.tolist())

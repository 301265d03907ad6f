"""Requests drawn from distributions: one by one, with prefixes and prompts that repeat, or in sessions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, cycle, islice, repeat

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.core.random import BLOCK, Streams
from gpusim.spec.arrivals import ArrivalsSpec, ClosedArrivals
from gpusim.spec.lengths import LengthSpec, TimeSpec
from gpusim.spec.workload import Order, PrefixesSpec, PromptsSpec, SessionsSpec, WorkloadSpec
from gpusim.workload.arrivals import arrival_blocks
from gpusim.workload.content import Content, Kind, begins_with, key
from gpusim.workload.lengths import length_blocks, time_blocks
from gpusim.workload.shapes import RequestBlock, RequestShape, in_blocks

PROMPTS = "workload.prompt_tokens"
OUTPUTS = "workload.output_tokens"
"""Random streams of the two lengths."""
THINK = "workload.think_s"
CLIENTS = "workload.client_think_s"
TURNS = "workload.turns"
PREFIXES = "workload.prefix"
PREFIX_TOKENS = "workload.prefix_tokens"
HAS_PREFIX = "workload.has_prefix"
DISTINCT = "workload.prompt"
"""Random streams of what else is drawn."""


def drawn(spec: WorkloadSpec, seed: int) -> Iterator[RequestBlock]:
    """Yield the requests of a workload that is drawn, without end but for that of its arrivals."""
    assert spec.arrivals is not None
    assert spec.prompt_tokens is not None
    assert spec.output_tokens is not None
    streams = Streams(seed)
    if spec.sessions is not None:
        return in_blocks(_sessions(spec, spec.sessions, streams))
    if spec.prefixes is not None or spec.prompts is not None:
        return in_blocks(_requests(spec, streams))
    prompts = length_blocks(spec.prompt_tokens, PROMPTS, streams)
    outputs = length_blocks(spec.output_tokens, OUTPUTS, streams)
    thinks: Iterator[list[float] | None] = client_times(spec.arrivals, streams) or repeat(None)
    blocks = zip(arrival_blocks(spec.arrivals, streams), prompts, outputs, thinks, strict=False)
    return (
        _block(first, arrivals, prompt, output, think_s)
        for first, (arrivals, prompt, output, think_s) in zip(count(0, BLOCK), blocks, strict=False)
    )


def _block(
    first: int, arrivals: list[float] | None, prompts: list[int], outputs: list[int], think_s: list[float] | None
) -> RequestBlock:
    block = RequestBlock(first, arrivals, prompts, outputs, think_s=think_s)
    if arrivals is None or len(arrivals) == BLOCK:
        return block
    return block.head(len(arrivals))


def start_times(spec: ArrivalsSpec, streams: Streams) -> Iterator[tuple[float | None, float]]:
    """Yield when requests or sessions begin: at a time, or how long after its last one a client begins the next."""
    arrivals = arrival_blocks(spec, streams)
    thinks = client_times(spec, streams) or repeat([0.0] * BLOCK)
    for times, think_s in zip(arrivals, thinks, strict=False):
        # Stages end in a shorter block.
        yield from zip(times or repeat(None, BLOCK), think_s, strict=False)


def client_times(spec: ArrivalsSpec, streams: Streams) -> Iterator[list[float]] | None:
    """Yield how long clients of a closed loop think, a block at a time; None if they do not."""
    if not isinstance(spec, ClosedArrivals) or spec.think_time is None:
        return None
    return time_blocks(spec.think_time, CLIENTS, streams)


def think_times(spec: TimeSpec | None, streams: Streams) -> Iterator[float]:
    """Yield how long before each request its client thinks, should it follow another."""
    return repeat(0.0) if spec is None else chain.from_iterable(time_blocks(spec, THINK, streams))


def _lengths(spec: LengthSpec | None, stream: str, streams: Streams) -> Iterator[int]:
    assert spec is not None
    return chain.from_iterable(length_blocks(spec, stream, streams))


def _requests(spec: WorkloadSpec, streams: Streams) -> Iterator[RequestShape]:
    """Yield requests that begin with a prefix, or have one of a few prompts."""
    assert spec.arrivals is not None
    items = _prompts(spec, streams)
    outputs = _lengths(spec.output_tokens, OUTPUTS, streams)
    starts = start_times(spec.arrivals, streams)
    for index, ((arrival_s, think_s), (prompt, content), output) in enumerate(
        zip(starts, items, outputs, strict=False)
    ):
        yield RequestShape(index, arrival_s, prompt, output, content, think_s=think_s)


def _prompts(spec: WorkloadSpec, streams: Streams) -> Iterator[tuple[int, Content]]:
    """Yield the length and content of one prompt after another."""
    prefixes = _prefixes(spec.prefixes, streams)
    lengths = _lengths(spec.prompt_tokens, PROMPTS, streams)
    fresh = ((own + _size(prefix), prefix) for own, prefix in zip(lengths, prefixes, strict=False))
    return fresh if spec.prompts is None else _repeated(spec.prompts, fresh, streams)


def _repeated(
    spec: PromptsSpec, fresh: Iterator[tuple[int, Content]], streams: Streams
) -> Iterator[tuple[int, Content]]:
    """Yield the first few of *fresh* over and over, all of their tokens the same."""
    known = [
        (tokens, begins_with(prefix, ((key(Kind.PROMPT, number), tokens),)))
        for number, (tokens, prefix) in enumerate(islice(fresh, spec.distinct))
    ]
    return (known[number] for number in _choices(spec.distinct, spec.order, DISTINCT, streams))


def _prefixes(spec: PrefixesSpec | None, streams: Streams) -> Iterator[Content]:
    """Yield what each prompt begins with."""
    if spec is None:
        return repeat(())
    lengths = islice(_lengths(spec.tokens, PREFIX_TOKENS, streams), spec.groups)
    known: list[Content] = [((key(Kind.PREFIX, group), tokens),) for group, tokens in enumerate(lengths)]
    groups = _choices(spec.groups, spec.order, PREFIXES, streams)
    if spec.share == 1:
        return (known[group] for group in groups)
    levels = chain.from_iterable(block.tolist() for block in streams.blocks(HAS_PREFIX, _uniform))
    return (known[group] if level < spec.share else () for group, level in zip(groups, levels, strict=False))


def _choices(number: int, order: Order, stream: str, streams: Streams) -> Iterator[int]:
    """Yield numbers below *number*, in turn or drawn."""
    if order == "cycled":
        return cycle(range(number))
    return chain.from_iterable((block * number).astype(np.int64).tolist() for block in streams.blocks(stream, _uniform))


def _uniform(generator: np.random.Generator, size: int) -> FloatArray:
    return generator.random(size)


def _size(content: Content) -> int:
    return sum(tokens for _, tokens in content)


def _sessions(spec: WorkloadSpec, sessions: SessionsSpec, streams: Streams) -> Iterator[RequestShape]:
    """Yield the turns of one session after another; what a turn adds is drawn by its number among all requests."""
    assert spec.arrivals is not None
    added = zip(
        _lengths(spec.prompt_tokens, PROMPTS, streams),
        _lengths(spec.output_tokens, OUTPUTS, streams),
        think_times(sessions.think_time, streams),
        strict=False,
    )
    starts = zip(
        start_times(spec.arrivals, streams),
        _lengths(sessions.turns, TURNS, streams),
        _prefixes(spec.prefixes, streams),
        strict=False,
    )
    index, turn = 0, next(added)
    for number, ((arrival_s, client_s), num_turns, prefix) in enumerate(starts):
        history = _size(prefix)
        for position in range(num_turns):
            prompt, output, think_s = history + turn[0], turn[1], turn[2]
            history = prompt + output
            if position and sessions.max_tokens is not None and history > sessions.max_tokens:
                break
            content = begins_with(prefix, ((key(Kind.SESSION, number), history),))
            if position:
                yield RequestShape(index, None, prompt, output, content, after=index - 1, think_s=think_s)
            else:
                yield RequestShape(index, arrival_s, prompt, output, content, think_s=client_s)
            index, turn = index + 1, next(added)

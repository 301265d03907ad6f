"""Requests as the outside world states them, one by one and in columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice, repeat
from typing import TypeAlias

from gpusim.core.random import BLOCK
from gpusim.workload.content import Content

Times: TypeAlias = "list[float] | list[float | None]"


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
    """Index of the request that must be over before this one is sent: the one before it in the stream."""
    think_s: float = 0.0
    """Seconds between the end of that request, in a closed loop of the client's last one, and this one."""


@dataclass(frozen=True, slots=True)
class RequestBlock:
    """Successive requests as columns of equal length, at least one, at most `BLOCK`; None: as `RequestShape`'s default."""

    first: int
    """Position of the first of them in the stream."""
    arrival_s: Times | None
    """Seconds from the start, ascending but for None: see `RequestShape`."""
    prompt_tokens: list[int]
    output_tokens: list[int]
    content: list[Content] | None = None
    priority: list[int] | None = None
    after: list[int | None] | None = None
    think_s: list[float] | None = None

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def head(self, size: int) -> RequestBlock:
        """Return the first *size* of these requests."""
        columns = (self.arrival_s, self.content, self.priority, self.after, self.think_s)
        arrival_s, content, priority, after, think_s = (None if column is None else column[:size] for column in columns)
        lengths = {"prompt_tokens": self.prompt_tokens[:size], "output_tokens": self.output_tokens[:size]}
        extras = {"content": content, "priority": priority, "after": after, "think_s": think_s}
        return replace(self, arrival_s=arrival_s, **lengths, **extras)  # type: ignore[arg-type]

    def requests(self) -> Iterator[RequestShape]:
        """Yield them one by one."""
        size = len(self)
        arrivals = self.arrival_s or repeat(None, size)
        lengths = (self.prompt_tokens, self.output_tokens)
        if not any((self.content, self.priority, self.after, self.think_s)):
            return map(RequestShape, count(self.first), arrivals, *lengths)
        return map(
            RequestShape,
            count(self.first),
            arrivals,
            *lengths,
            self.content or repeat((), size),
            self.priority or repeat(0, size),
            self.after or repeat(None, size),
            self.think_s or repeat(0.0, size),
        )


def in_blocks(shapes: Iterable[RequestShape]) -> Iterator[RequestBlock]:
    """Yield *shapes*, numbered one after another, in blocks; what stands before an error is yielded first."""
    source = iter(shapes)
    while True:
        found: list[RequestShape] = []
        error = None
        try:
            for shape in islice(source, BLOCK):
                found.append(shape)  # noqa: PERF402 - what came before an error is kept
        except Exception as raised:  # noqa: BLE001 - raised again below
            error = raised
        if found:
            yield _columns(found)
        if error is not None:
            raise error
        if len(found) < BLOCK:
            return


def _columns(shapes: list[RequestShape]) -> RequestBlock:
    return RequestBlock(
        shapes[0].index,
        [shape.arrival_s for shape in shapes],
        [shape.prompt_tokens for shape in shapes],
        [shape.output_tokens for shape in shapes],
        [shape.content for shape in shapes],
        [shape.priority for shape in shapes],
        [shape.after for shape in shapes],
        [shape.think_s for shape in shapes],
    )


def groups(shapes: Iterable[RequestShape]) -> Iterator[list[RequestShape]]:
    """Yield requests that follow none, each with those that follow it: a session, or one request."""
    group: list[RequestShape] = []
    for shape in shapes:
        if shape.after is None and group:
            yield group
            group = []
        group.append(shape)
    if group:
        yield group

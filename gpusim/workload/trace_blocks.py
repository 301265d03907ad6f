"""Traces a block of requests at a time.

Clean blocks of CSV files that state arrivals and lengths are converted column by column. At the first thing that is unusual
the careful reader takes over; it alone knows what is allowed and how errors read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from operator import itemgetter, le
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from gpusim.core.random import BLOCK
from gpusim.errors import SpecError
from gpusim.spec.lengths import MOST_TOKENS
from gpusim.workload.content import Content
from gpusim.workload.csv_dialects import Dialect, dialect_of
from gpusim.workload.files import LineError, opened
from gpusim.workload.rows import TIMESTAMP, TraceRow

_LONGEST_NUMBER: Final = len(str(MOST_TOKENS))
_UTC: Final = {None, "Z", "+00:00"}
_YEAR_1_S: Final = -62_135_596_800

Texts: TypeAlias = Sequence[str]
Times: TypeAlias = "list[float] | list[float | None]"


class TraceBlock(NamedTuple):
    """Up to `BLOCK` requests of a trace, at least one, as columns of what `TraceRow` states; None: nobody states it."""

    arrival_s: Times | None
    prompt_tokens: list[int]
    output_tokens: list[int]
    content: list[Content] | None = None
    priority: list[int] | None = None
    is_follower: list[bool] | None = None
    think_s: list[float] | None = None

    def rows(self) -> Iterator[TraceRow]:
        """Yield the requests one by one."""
        size = len(self.prompt_tokens)
        return map(
            TraceRow,
            self.arrival_s or repeat(None, size),
            self.prompt_tokens,
            self.output_tokens,
            self.content or repeat((), size),
            self.priority or repeat(0, size),
            self.is_follower or repeat(False, size),
            self.think_s or repeat(0.0, size),
        )


class _UnusualError(Exception):
    """A block that is left to the careful reader."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace of which the first words were read."""

    path: Path
    name: str
    """Of its format."""
    rows: Callable[[], Iterator[TraceRow]]
    """Reads it from the beginning, carefully."""
    has_arrivals: bool
    """Whether it states when requests arrive; else lengths only."""
    may_follow: bool = False
    """Whether requests may wait for others to be over."""
    is_plain: bool = False
    """Whether it is a CSV file of arrivals and lengths alone."""
    hint: str = ""
    """What it says of how its requests were sent, where it has no arrivals."""

    def blocks(self) -> Iterator[TraceBlock]:
        """Yield the requests, as `rows` does, in blocks.

        Raises:
            SpecError: At the first malformed line, when all before it were yielded; names file, line, value, the way out.
        """
        done = 0
        if self.is_plain:
            try:
                for block in _clean_blocks(self.path):
                    yield block
                    done += len(block.prompt_tokens)
            except (_UnusualError, LineError, csv.Error, UnicodeDecodeError, OSError, EOFError):
                pass
            else:
                return
        yield from _careful_blocks(self.rows(), done)


def _careful_blocks(rows: Iterator[TraceRow], done: int) -> Iterator[TraceBlock]:
    """Yield what *rows* has beyond the first *done* requests; an error comes after all that stood before it."""
    rows, size = islice(rows, done, None), BLOCK
    while size == BLOCK:
        found, error = [], None
        try:
            # One by one: what came before an error is kept.
            for row in islice(rows, BLOCK):
                found.append(row)  # noqa: PERF402
        except SpecError as raised:
            error = raised
        size = len(found)
        if size:
            yield _columns(found)
        if error is not None:
            raise error


def _columns(rows: list[TraceRow]) -> TraceBlock:
    arrivals, prompts, outputs, contents, priorities, followers, thinks = map(list, zip(*rows, strict=True))
    return TraceBlock(
        None if arrivals.count(None) == len(rows) else arrivals,
        prompts,
        outputs,
        contents if any(contents) else None,
        priorities if any(priorities) else None,
        followers if any(followers) else None,
        thinks if any(thinks) else None,
    )


def _clean_blocks(path: Path) -> Iterator[TraceBlock]:
    with opened(path) as file:
        header = next(csv.reader([file.readline()], strict=True), [])
        dialect = dialect_of(header)
        arrivals_of = _arrivals_of(dialect)
        pick = itemgetter(*(header.index(name) for name in dialect.columns))
        last_s = -1.0
        while lines := list(islice(file, BLOCK)):
            rows = list(csv.reader(lines, strict=True))
            _require(len(rows) == len(lines) and set(map(len, rows)) == {len(header)})
            arrivals, prompts, outputs = pick(list(zip(*rows, strict=True)))
            times_s = arrivals_of(arrivals)
            block = TraceBlock(times_s, _tokens(prompts), _tokens(outputs))
            _require(_in_order([max(last_s, 0.0), *times_s]) and times_s[-1] < math.inf)
            last_s = times_s[-1]
            yield block
        _require(last_s >= 0)


def _arrivals_of(dialect: Dialect) -> Callable[[Texts], list[float]]:
    return _since_first() if dialect.is_stamped else _seconds


def _in_order(times_s: list[float]) -> bool:
    # NaN is in no order.
    return all(map(le, times_s, islice(times_s, 1, None)))


def _require(usual: bool) -> None:
    if not usual:
        raise _UnusualError


def _tokens(texts: Texts) -> list[int]:
    joined = "".join(texts)
    _require(joined.isascii() and joined.isdigit() and max(map(len, texts)) <= _LONGEST_NUMBER and "" not in texts)
    values = list(map(int, texts))
    _require(min(values) >= 1 and max(values) <= MOST_TOKENS)
    return values


def _seconds(texts: Texts) -> list[float]:
    _require("_" not in "".join(texts))
    try:
        return list(map(float, texts))
    except ValueError:
        raise _UnusualError from None


def _since_first() -> Callable[[Texts], list[float]]:
    """Return what converts time stamps to seconds since the first of them all."""
    first_ns: int | None = None

    def convert(texts: Texts) -> list[float]:
        nonlocal first_ns
        stamps_ns = _timestamps_ns(texts)
        start_ns = first_ns = stamps_ns[0] if first_ns is None else first_ns
        # Integers divided once: nanoseconds since 1970 are more than a float holds.
        return [(stamp_ns - start_ns) / 10**9 for stamp_ns in stamps_ns]

    return convert


def _timestamps_ns(texts: Texts) -> list[int]:
    """Return nanoseconds since 1970 of time stamps in UTC."""
    parts = [match.groups() for match in map(TIMESTAMP.fullmatch, texts) if match]
    _require(len(parts) == len(texts))
    moments, fractions, zones = zip(*parts, strict=True)
    _require(_UTC.issuperset(zones))
    try:
        since_s = np.array(moments, "datetime64[s]").astype(np.int64)
    except ValueError:
        raise _UnusualError from None
    _require(int(since_s.min()) >= _YEAR_1_S)
    nanoseconds = [int((fraction or "").ljust(9, "0")) for fraction in fractions]
    return [second * 10**9 + rest for second, rest in zip(since_s.tolist(), nanoseconds, strict=True)]

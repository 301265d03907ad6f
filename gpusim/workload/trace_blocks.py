"""Request traces a block of lines at a time.

Clean blocks are converted column by column. At the first thing that is unusual the careful reader of
`gpusim.workload.trace` takes over; it alone knows what is allowed and how errors read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter, le
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from gpusim.core.random import BLOCK
from gpusim.errors import SpecError
from gpusim.spec.workload import MOST_TOKENS
from gpusim.workload.trace import GENERIC, TIMESTAMP, LineError, check_format, read_trace, trace_columns

_LONGEST_NUMBER: Final = len(str(MOST_TOKENS))
_UTC: Final = {None, "Z", "+00:00"}
_YEAR_1_S: Final = -62_135_596_800

Texts: TypeAlias = Sequence[str]


class TraceBlock(NamedTuple):
    """Up to `BLOCK` requests of a trace, at least one, as columns."""

    arrival_s: list[float]
    prompt_tokens: list[int]
    output_tokens: list[int]


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What a trace holds."""

    num_requests: int
    last_arrival_s: float
    prompt_tokens: int
    """Of all requests together."""
    output_tokens: int


class _UnusualError(Exception):
    """A block that is left to the careful reader."""


def trace_blocks(path: Path) -> Iterator[TraceBlock]:
    """Yield the requests of the CSV file *path*, as `read_trace` does, in blocks.

    Raises:
        SpecError: At the first malformed line, when all before it were yielded; names file, line, value, the way out.
    """
    done = 0
    try:
        for block in _clean_blocks(path):
            yield block
            done += len(block.arrival_s)
    except (_UnusualError, LineError, csv.Error, UnicodeDecodeError, OSError):
        yield from _careful_blocks(path, done)


def check_trace(path: Path) -> TraceSummary:
    """Read the whole trace *path* and say what it holds.

    Raises:
        SpecError: At its first malformed line.
    """
    check_format(str(path))
    count, last_s, prompts, outputs = 0, 0.0, 0, 0
    for block in trace_blocks(path):
        count, last_s = count + len(block.arrival_s), block.arrival_s[-1]
        prompts, outputs = prompts + sum(block.prompt_tokens), outputs + sum(block.output_tokens)
    return TraceSummary(count, last_s, prompts, outputs)


def _careful_blocks(path: Path, done: int) -> Iterator[TraceBlock]:
    """Yield what `read_trace` finds beyond the first *done* requests; an error comes after all that stood before it."""
    rows = islice(read_trace(path), done, None)
    size = BLOCK
    while size == BLOCK:
        block, error = TraceBlock([], [], []), None
        try:
            for arrival_s, prompt, output in islice(rows, BLOCK):
                block.arrival_s.append(arrival_s)
                block.prompt_tokens.append(prompt)
                block.output_tokens.append(output)
        except SpecError as found:
            error = found
        size = len(block.arrival_s)
        if size:
            yield block
        if error is not None:
            raise error


def _clean_blocks(path: Path) -> Iterator[TraceBlock]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader([file.readline()], strict=True), [])
        columns = trace_columns(header)
        arrivals_of = _seconds if columns == GENERIC else _since_first()
        pick = itemgetter(*(header.index(name) for name in columns))
        last_s = -1.0
        while lines := list(islice(file, BLOCK)):
            rows = list(csv.reader(lines, strict=True))
            _require(len(rows) == len(lines) and set(map(len, rows)) == {len(columns)})
            arrivals, prompts, outputs = pick(list(zip(*rows, strict=True)))
            block = TraceBlock(arrivals_of(arrivals), _tokens(prompts), _tokens(outputs))
            _require(_in_order([max(last_s, 0.0), *block.arrival_s]) and block.arrival_s[-1] < math.inf)
            last_s = block.arrival_s[-1]
            yield block
        _require(last_s >= 0)


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

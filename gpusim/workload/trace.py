"""Request traces in CSV, read line by line, carefully; every malformed line is an error that names it.

Two headers are read: gpusim's own (``arrival_s,prompt_tokens,output_tokens``) and that of the Azure LLM inference
traces (``TIMESTAMP,ContextTokens,GeneratedTokens``), whose time stamps are made relative to the first.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from gpusim.errors import SpecError
from gpusim.spec.problems import unknown_name
from gpusim.spec.workload import MOST_TOKENS

GENERIC: Final = ("arrival_s", "prompt_tokens", "output_tokens")
AZURE: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
LATER: Final = frozenset({"prefix_id", "prefix_tokens", "prompt_id", "session_id"})
"""Columns that have a meaning in traces but no feature here yet."""
_BURSTGPT: Final = frozenset({"Timestamp", "Request tokens", "Response tokens"})
TIMESTAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TraceRow(NamedTuple):
    """One request of a trace."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int


class LineError(Exception):
    """What is wrong with the line being read; its place is added where it is known."""


def locate_trace(trace: str, folder: Path) -> Path:
    """Return the file that *trace* means: relative to *folder*, else to the working directory.

    Raises:
        SpecError: If there is no such file, or it has a format that is not read.
    """
    check_format(trace)
    places = [folder / trace, Path(trace)]
    for path in places:
        if path.is_file():
            return path
    if any(path.is_dir() for path in places):
        raise SpecError(f"trace {trace}: this is a folder; name the CSV file in it")
    looked = " and ".join(dict.fromkeys(str(path) for path in places))
    raise SpecError(f"trace {trace}: no such file (looked for {looked})")


def check_format(trace: str) -> None:
    """Check that the name *trace* is one of a format that is read.

    Raises:
        SpecError: If it is not.
    """
    suffix = Path(trace).suffix.lower()
    if suffix in {".jsonl", ".json"}:
        raise SpecError(f"trace {trace}: not yet: Mooncake JSONL; write it as CSV with the columns {','.join(GENERIC)}")
    if suffix != ".csv":
        raise SpecError(f"trace {trace}: {suffix or 'no ending'} is not a trace format; write a .csv file")


def read_trace(path: Path) -> Iterator[TraceRow]:
    """Yield the requests of the CSV file *path*, in its order, which must be the order of arrival. Skips blank lines.

    Raises:
        SpecError: At the first malformed line, when it is reached; names file, line, value and the way out.
    """
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in _rows(reader):
                line = reader.line_num
                yield row
            line = reader.line_num
    except LineError as error:
        raise SpecError(f"{path}:\n  line {reader.line_num or 1}: {error}") from None
    except csv.Error as error:
        raise SpecError(f"{path}:\n  line {reader.line_num}: not CSV: {error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}:\n  after line {line}: not UTF-8 text") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None


def _rows(lines: Iterator[list[str]]) -> Iterator[TraceRow]:
    header = [name.strip() for name in next(lines, [])]
    columns = trace_columns(header)
    where = [header.index(name) for name in columns]
    arrival_of = _arrival_reader(columns)
    last_s = -math.inf
    for fields in lines:
        if not fields:
            continue
        if len(fields) != len(header):
            raise LineError(f"{len(fields)} fields where the header has {len(header)}: {','.join(fields)[:60]!r}")
        texts = [fields[index].strip() for index in where]
        arrival_s = arrival_of(texts[0])
        if arrival_s < last_s:
            raise LineError(f"{columns[0]} {texts[0]!r} is before the line above; sort the file by {columns[0]}")
        last_s = arrival_s
        yield TraceRow(arrival_s, _tokens(texts[1], columns[1]), _tokens(texts[2], columns[2]))
    if last_s == -math.inf:
        raise LineError("no request follows the header; write one line each")


def trace_columns(header: list[str]) -> tuple[str, ...]:
    """Return the columns to read, as the header names them: arrival, prompt, output.

    Raises:
        LineError: If there are others, or too few.
    """
    columns = AZURE if AZURE[0] in header else GENERIC
    if not any(header):
        raise LineError(f"the header is missing; write {','.join(GENERIC)}")
    if _is_number(header[0]):
        raise LineError(f"{header[0]!r} stands where the header should; write {','.join(GENERIC)} above it")
    if set(header) >= _BURSTGPT:
        raise LineError(f"not yet: BurstGPT's columns; name them {','.join(GENERIC)} and leave the others out")
    for name in header:
        if name in LATER:
            raise LineError(f"not yet: column {name!r}; leave it out to read the trace without it")
        if name not in columns:
            raise LineError(f"{name!r}: {unknown_name(name, columns, 'column')}")
        if header.count(name) > 1:
            raise LineError(f"column {name!r} stands there twice")
    missing = [name for name in columns if name not in header]
    if missing:
        raise LineError(f"the header lacks {' and '.join(missing)}; write {','.join(columns)}")
    return columns


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return TIMESTAMP.fullmatch(text) is not None
    return True


def _arrival_reader(columns: tuple[str, ...]) -> Callable[[str], float]:
    if columns == GENERIC:
        return _seconds
    first_ns: int | None = None

    def since_first(text: str) -> float:
        nonlocal first_ns
        now_ns = _timestamp_ns(text)
        first_ns = now_ns if first_ns is None else first_ns
        return (now_ns - first_ns) / 10**9

    return since_first


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < math.inf) or "_" in text:
        raise LineError(f"arrival_s is {text!r}; write seconds from the start, a number of at least 0")
    return value


def _timestamp_ns(text: str) -> int:
    """Return nanoseconds since 1970, exactly: the traces have 7 decimals, more than `datetime` keeps."""
    match = TIMESTAMP.fullmatch(text)
    try:
        if match is None:
            raise ValueError  # noqa: TRY301 - the same message as for a 13th month
        moment = datetime.fromisoformat(match[1] + (match[3] or "Z"))
    except ValueError:
        raise LineError(f"TIMESTAMP is {text!r}; write it like 2023-11-16 18:15:46.6805900") from None
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + int((match[2] or "").ljust(9, "0"))


def _tokens(text: str, column: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(MOST_TOKENS)) and 1 <= int(text) <= MOST_TOKENS:
        return int(text)
    raise LineError(f"{column} is {text!r}; write a whole number of tokens, from 1 to {MOST_TOKENS}")

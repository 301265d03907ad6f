"""Request traces: which format a file has, and its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gpusim.workload.csv_dialects import OPTIONAL
from gpusim.workload.csv_rows import read_csv, read_header
from gpusim.workload.files import check_suffix, suffix_of
from gpusim.workload.json_rows import how_sent, kind_of, read_document, read_json
from gpusim.workload.jsonl_rows import jsonl_format, read_jsonl
from gpusim.workload.rows import TraceRow
from gpusim.workload.trace_blocks import Trace


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What a trace holds."""

    num_requests: int
    last_arrival_s: float
    """Of those whose arrival it states; 0 if it states none."""
    prompt_tokens: int
    """Of all requests together."""
    output_tokens: int


def open_trace(path: Path) -> Trace:
    """Return what reads the trace *path*, by its ending and its first line.

    Raises:
        SpecError: If it cannot be read, or its format is none that is known.
    """
    check_suffix(str(path))
    return _OPENERS[suffix_of(path)](path)


def read_trace(path: Path) -> Iterator[TraceRow]:
    """Yield the requests of *path* one by one, carefully read.

    Raises:
        SpecError: At the first that is malformed; names file, line, value and the way out.
    """
    return open_trace(path).rows()


def check_trace(path: Path) -> TraceSummary:
    """Read the whole trace *path* and say what it holds.

    Raises:
        SpecError: At its first malformed line.
    """
    count, last_s, prompts, outputs = 0, 0.0, 0, 0
    for block in open_trace(path).blocks():
        count += len(block.prompt_tokens)
        last_s = max((time_s for time_s in block.arrival_s or () if time_s is not None), default=last_s)
        prompts, outputs = prompts + sum(block.prompt_tokens), outputs + sum(block.output_tokens)
    return TraceSummary(count, last_s, prompts, outputs)


def _open_csv(path: Path) -> Trace:
    dialect, header = read_header(path)
    has_arrivals = dialect.arrival in header
    optional = set(dialect.optional) & set(header) & set(OPTIONAL)
    return Trace(
        path,
        dialect.name,
        partial(read_csv, path),
        has_arrivals=has_arrivals,
        may_follow="think_s" in optional,
        is_plain=has_arrivals and not optional,
    )


def _open_jsonl(path: Path) -> Trace:
    form, has_arrivals = jsonl_format(path)
    rows = partial(read_jsonl, path, form, has_arrivals=has_arrivals)
    return Trace(path, form.name, rows, has_arrivals=has_arrivals, may_follow=form.may_follow)


def _open_json(path: Path) -> Trace:
    document = read_document(path)
    name, has_arrivals = kind_of(path, document)
    return Trace(
        path,
        name,
        partial(read_json, path),
        has_arrivals=has_arrivals,
        may_follow=name == "ShareGPT",
        hint=how_sent(document),
    )


_OPENERS: Final[dict[str, Callable[[Path], Trace]]] = {".csv": _open_csv, ".jsonl": _open_jsonl, ".json": _open_json}

"""What the columns of CSV traces are called: by gpusim, and by those who publish traces or measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gpusim.spelling import unknown_name
from gpusim.workload.files import LineError
from gpusim.workload.rows import is_number, seconds, timestamp_ns

OPTIONAL: Final = ("prefix_id", "prefix_tokens", "prompt_id", "session_id", "think_s", "priority")
"""What gpusim's own traces may say besides."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names of the columns of one kind of trace.

    Args:
        name: What people call it.
        marker: A column that no other dialect has.
        arrival: Column of arrivals.
        prompt: Of prompt tokens.
        output: Of output tokens.
        optional: Others that are read.
        ignores_others: Whether further columns are passed over; else they are errors.
        needs_arrivals: Whether the trace must state arrivals.
        has_failures: Whether rows without any output are requests that failed, which are left out.
        is_stamped: Whether arrivals are time stamps, counted from the first, instead of seconds.
    """

    name: str
    marker: str
    arrival: str
    prompt: str
    output: str
    optional: tuple[str, ...] = ()
    ignores_others: bool = True
    needs_arrivals: bool = True
    has_failures: bool = False
    is_stamped: bool = False

    @property
    def columns(self) -> tuple[str, str, str]:
        """Arrival, prompt, output."""
        return (self.arrival, self.prompt, self.output)

    def arrival_reader(self) -> Callable[[str], float]:
        """Return what turns the arrivals of one reading into seconds."""
        return since_first() if self.is_stamped else lambda text: seconds(text, self.arrival)


GPUSIM: Final = Dialect(
    "gpusim",
    "",
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    OPTIONAL,
    ignores_others=False,
    needs_arrivals=False,
)
DIALECTS: Final = (
    Dialect(
        "Azure", "TIMESTAMP", "TIMESTAMP", "ContextTokens", "GeneratedTokens", ignores_others=False, is_stamped=True
    ),
    Dialect("BurstGPT", "Request tokens", "Timestamp", "Request tokens", "Response tokens", has_failures=True),
    Dialect(
        "Vidur", "num_prefill_tokens", "arrived_at", "num_prefill_tokens", "num_decode_tokens", needs_arrivals=False
    ),
    # Measured runs, as per-request tables of benchmarks: what was asked for is read, what was measured is not.
    Dialect(
        "measured requests",
        "output_tokens_requested",
        "arrival_s",
        "prompt_tokens",
        "output_tokens_requested",
        ("prompt_id",),
    ),
    Dialect("measured requests", "ttft_s", "arrival_s", "prompt_tokens", "output_tokens"),
)


def since_first() -> Callable[[str], float]:
    """Return what converts time stamps to seconds since the first of them."""
    first_ns: int | None = None

    def convert(text: str) -> float:
        nonlocal first_ns
        now_ns = timestamp_ns(text)
        first_ns = now_ns if first_ns is None else first_ns
        return (now_ns - first_ns) / 10**9

    return convert


def dialect_of(header: Sequence[str]) -> Dialect:
    """Return the dialect of a trace with these columns.

    Raises:
        LineError: If some are missing, unknown, or there twice.
    """
    usual = ",".join(GPUSIM.columns)
    if not any(header):
        raise LineError(f"the header is missing; write {usual}")
    if is_number(header[0]):
        raise LineError(f"{header[0]!r} stands where the header should; write {usual} above it")
    dialect = next((dialect for dialect in DIALECTS if dialect.marker in header), GPUSIM)
    known = (*dialect.columns, *dialect.optional)
    for name in header:
        if name not in known and not dialect.ignores_others:
            raise LineError(f"{name!r}: {unknown_name(name, known, 'column')}")
        if name in known and header.count(name) > 1:
            raise LineError(f"column {name!r} stands there twice")
    needed = dialect.columns if dialect.needs_arrivals else dialect.columns[1:]
    missing = [name for name in needed if name not in header]
    if missing:
        raise LineError(f"the header lacks {' and '.join(missing)}; write {','.join(dialect.columns)}")
    _check_together(header)
    return dialect


def _check_together(header: Sequence[str]) -> None:
    """Check that columns that mean nothing by themselves are not by themselves."""
    for name, other in (("prefix_id", "prefix_tokens"), ("prefix_tokens", "prefix_id"), ("think_s", "session_id")):
        if name in header and other not in header:
            raise LineError(f"column {name!r} needs a column {other!r}")

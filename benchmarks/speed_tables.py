"""The tables that `benchmarks/speed.py` prints, from the figures that it writes as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MB = 1e6


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of text, the first column to the left, the others to the right."""
    widths = [max(len(row[at]) for row in (columns, *rows)) for at in range(len(columns))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in (columns, *rows)
    ]
    return "\n".join(["", title, *(line.rstrip() for line in lines)])


def circumstances(figures: Mapping[str, Any]) -> str:
    """Say what ran where, and SimPy's own speed there."""
    versions = ", ".join(f"{name} {figures[name]}" for name in ("gpusim", "python", "numpy", "simpy", "polars"))
    return (
        f"{versions}; {figures['processors']} processors, load average {figures['load_average']:.2f}\n"
        f"SimPy alone: {figures['timeouts_per_s']:,.0f} timeouts per CPU second"
    )


def speed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the speeds of whole runs."""
    columns = ["", "requests", "tokens", "steps", "CPU s", "tokens/CPU s", "tokens/timeout", "peak MB", "runs"]
    title = "Conversation: Llama-2-70B, TP 8, DGX H100; CPU time of the whole command, all results written"
    return table(title, columns, [_speed_row(row) for row in rows])


def _speed_row(row: Mapping[str, Any]) -> list[str]:
    return [
        row["case"],
        f"{row['requests']:,}",
        f"{row['tokens']:,}",
        f"{row['steps']:,}",
        f"{row['cpu_s']:.2f}",
        f"{row['tokens_per_cpu_s']:,.0f}",
        f"{row['tokens_per_timeout']:.2f}",
        f"{row['peak_bytes'] / MB:,.0f}",
        str(row["runs"]),
    ]


def growth(exponents: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the exponents of CPU time in requests."""
    rows = [
        [f"{case}, {name.replace('_', ' ')}", f"{of['overall']:.3f}", " ".join(f"{x:.3f}" for x in of["between"])]
        for case, kinds in exponents.items()
        for name, of in kinds.items()
    ]
    return table("Growth of CPU time: exponent of requests", ["", "overall", "between successive rows"], rows)


def foreign(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the speeds beside foreign traffic, the first row being without."""
    return _against_first("Beside foreign traffic", "of alone", rows)


def served(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the speeds of ways of serving, the first row being the plainest."""
    return _against_first("Ways of serving", "of plain", rows)


def _against_first(title: str, ratio: str, rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]["tokens_per_timeout"]
    lines = [[*_speed_row(row), f"{row['tokens_per_timeout'] / first:.2f}"] for row in rows]
    columns = ["", "requests", "CPU s", "tokens/CPU s", ratio]
    return table(title, columns, [[line[0], line[1], line[4], line[5], line[-1]] for line in lines])


def kernel_detail(steps_per_s: Mapping[str, float], timeouts_per_s: float) -> str:
    """Return the speeds of kernel detail."""
    rows = [[name, f"{speed:,.1f}", f"{timeouts_per_s / speed:,.0f}"] for name, speed in steps_per_s.items()]
    return table("Kernel detail", ["", "steps/CPU s", "timeouts/step"], rows)


def start_up(seconds: Mapping[str, Mapping[str, float]]) -> str:
    """Return the times of starting up."""
    rows = [[name, f"{of['wall_s']:.3f}", f"{of['cpu_s']:.3f}"] for name, of in seconds.items()]
    return table("Start-up, medians", ["", "wall s", "CPU s"], rows)

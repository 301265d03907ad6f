"""The tables of `gpusim workload show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gpusim.report.numbers import digits
from gpusim.report.terminal import TableColumn, sweep_table
from gpusim.spelling import counted

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS: Final = tuple(
    TableColumn(key, title or key)
    for key, title in {
        "of": "tokens of", "total": "", "mean": "", "p1": "", "p10": "", "p50": "", "p90": "", "p99": "", "max": "",
    }.items()
)  # fmt: skip


def print_workload(name: str, found: Mapping[str, Any], console: Console) -> None:
    """Print what `gpusim.workload.statistics.describe` found of the workload *name*."""
    for line in (f"{name}: {counted(found['requests'], 'request')}{_sessions(found)}", *_arrivals(found)):
        console.print(line, markup=False, highlight=False)
    rows = [{"of": title, **found[key]} for title, key in (("prompt", "prompt_tokens"), ("output", "output_tokens"))]
    sweep_table(rows, _COLUMNS, console)
    share = f"{100 * found['repeated_prompt_share']:.1f} %"
    text = f"repeated: at most {share} of the prompt tokens, in whole blocks of 16, begin an earlier request as well"
    console.print(text, markup=False, highlight=False)


def _sessions(found: Mapping[str, Any]) -> str:
    if found["sessions"] is None:
        return ""
    return f" in {counted(found['sessions'], 'session')}, {digits(found['turns_mean'])} turns each, {found['turns_max']} at most"


def _arrivals(found: Mapping[str, Any]) -> list[str]:
    """Return what there is to say of arrivals: of sessions, where there are any."""
    if found["first_arrival_s"] is None:
        return ["arrivals: none stated"]
    lines = [f"arrivals: first at {found['first_arrival_s']:.3f} s, last at {found['last_arrival_s']:.3f} s"]
    peaks = {"a second": found["peak_1_s_per_s"], "a minute": found["peak_60_s_per_s"]}
    most = [f"{digits(value)} /s over {what}" for what, value in peaks.items() if value is not None]
    if found["rate_per_s"] is not None:
        lines.append(f"rate: {digits(found['rate_per_s'])} /s" + (f", at most {', '.join(most)}" if most else ""))
    variations = {"gaps": found["gap_cv"], "counts in 10 s": found["count_cv_10_s"]}
    stated = [f"{digits(value)} of {what}" for what, value in variations.items() if value is not None]
    if stated:
        lines.append(f"coefficient of variation: {', '.join(stated)}")
    return lines

"""What `gpusim compare` prints, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from gpusim.report.metric_titles import metric_title, metric_unit
from gpusim.report.numbers import ABSENT, SCALES, digits
from gpusim.report.terminal import TableColumn, sweep_table
from gpusim.results.change import Change
from gpusim.results.comparison import Comparison, Versus
from gpusim.results.differences import Difference
from gpusim.results.limits import Limit
from gpusim.results.setup import About
from gpusim.spelling import counted

if TYPE_CHECKING:
    from rich.console import Console

_MOST_DIFFERENCES: Final = 12
"""Lines that say what differs between two scenarios: another machine alone takes eight."""


def comparison_rows(comparison: Comparison, broken: Sequence[tuple[Versus, Limit]] = ()) -> dict[str, Any]:
    """Return *comparison* as plain data: changes as fractions, values in SI."""
    return {
        "baseline": comparison.baseline,
        "baseline_setup": comparison.about.setup,
        "baseline_warnings": list(comparison.about.warnings),
        "confidence": comparison.confidence,
        "at_least": comparison.at_least,
        "runs": [_versus_rows(versus) for versus in comparison],
        "failed": [{"name": versus.name, "limit": limit.text} for versus, limit in broken],
    }


def _versus_rows(versus: Versus) -> dict[str, Any]:
    return {
        "name": versus.name,
        "setup": versus.about.setup,
        "warnings": list(versus.about.warnings),
        "verdict": versus.verdict,
        "differences": [asdict(difference) for difference in versus.differences],
        "paired": versus.is_paired,
        "requests": list(versus.num_requests),
        "block_length": versus.block_length,
        "metrics": {change.metric: _change_row(change) for change in versus.changes},
    }


def _change_row(change: Change) -> dict[str, Any]:
    return {
        "unit": change.unit,
        "a": change.a,
        "b": change.b,
        "change": change.change,
        "change_is": "relative" if change.is_relative else "difference",
        "interval": None if change.interval is None else list(change.interval),
        "p_value": change.p_value,
        "verdict": change.verdict,
    }


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a table for each run that is held against the baseline, and what it says in words."""
    for versus in comparison:
        named = [f"A: {_named(comparison.baseline, comparison.about)}", f"B: {_named(versus.name, versus.about)}"]
        for line in (*named, *differing(versus.differences), how(versus, comparison.confidence)):
            console.print(line, markup=False, highlight=False)
        columns = [
            TableColumn("metric", "metric"),
            TableColumn("unit", "unit"),
            TableColumn("a", "A"),
            TableColumn("b", "B"),
            TableColumn("change", "change"),
            TableColumn("interval", "interval"),
            TableColumn("verdict", "verdict"),
        ]
        sweep_table([change_texts(change) for change in versus.changes], columns, console)
        console.print(f"{versus.verdict}\n", markup=False, highlight=False)
    for warning, names in _warnings(comparison).items():
        console.print(f"warning: {', '.join(names)}: {warning}", style="yellow", markup=False, highlight=False)


def _named(name: str, about: About) -> str:
    return f"{name} ({about.setup})" if about.setup else name


def _warnings(comparison: Comparison) -> dict[str, list[str]]:
    """Return each warning once, with the runs that have it."""
    found: dict[str, list[str]] = {}
    for name, about in [(comparison.baseline, comparison.about), *((each.name, each.about) for each in comparison)]:
        for warning in about.warnings:
            found.setdefault(warning, []).append(name)
    return found


def sentence(change: Change) -> str:
    """Say *change* in words: ``p99 ITL +12.4 % (9.8 to 15.1), worse``."""
    interval = f" ({_interval(change)})" if change.interval else ""
    return f"{metric_title(change.metric)} {_written(change)}{interval}, {change.verdict}"


def differing(found: Sequence[Difference]) -> list[str]:
    """Say which keys of two scenarios differ, a line each; of many the first few."""
    if not found:
        return ["the scenarios are the same"]
    if [difference.key for difference in found] == ["seed"]:
        return [f"only the seed differs: {found[0].a} → {found[0].b}"]
    lines = [f"  {difference}" for difference in found[:_MOST_DIFFERENCES]]
    left = len(found) - len(lines)
    return ["what differs:", *lines, *([f"  and {counted(left, 'more key')}"] if left else [])]


def how(versus: Versus, confidence: float) -> str:
    """Say how sure the changes of *versus* are, and of what that was found."""
    a, b = versus.num_requests
    what = (
        f"paired, the same {counted(a, 'request')} in both"
        if versus.is_paired
        else f"not paired, {a} and {counted(b, 'request')}"
    )
    drawn = f"drawn again in blocks of {versus.block_length}"
    if versus.is_of_few:
        drawn += f'; "here": for these {counted(a, "request")}, too few to tell of others'
    if not versus.is_paired and {"seed"} < {difference.key for difference in versus.differences}:
        drawn += "; with one seed for both, smaller changes could be told"
    number = len(versus.changes)
    verdicts = f"verdicts for all {number} metrics together" if number > 1 else "the verdict too"
    return f"intervals at {100 * confidence:g} %, {verdicts}: {what}, {drawn}"


def change_texts(change: Change) -> dict[str, str]:
    """Return the cells of *change* in a table."""
    unit = _unit(change)
    scale = SCALES.get(unit, 1.0)
    return {
        "metric": metric_title(change.metric),
        "unit": unit,
        "a": digits(change.a, scale),
        "b": digits(change.b, scale),
        "change": _written(change),
        "interval": _interval(change) if change.interval else ABSENT,
        "verdict": change.verdict,
    }


def _unit(change: Change) -> str:
    return metric_unit(change.unit, [change.a, change.b])


def _written(change: Change) -> str:
    if change.is_relative:
        return f"{_signed(change.change)} %"
    unit = _unit(change)
    return f"{_number(change.change, SCALES.get(unit, 1.0), '+')} {'points' if unit == '%' else unit}"


def _interval(change: Change) -> str:
    assert change.interval is not None
    if change.is_relative:
        return " to ".join(f"{100 * end:.1f}" for end in change.interval)
    return " to ".join(_number(end, SCALES.get(_unit(change), 1.0), "") for end in change.interval)


def _signed(part: float) -> str:
    return f"{100 * part:+.1f}" if abs(part) >= 0.0005 else ("0" if part == 0 else f"{100 * part:+.2g}")


def _number(value: float, scale: float, plus: str) -> str:
    return f"{plus if value > 0 else ''}{digits(value, scale)}"

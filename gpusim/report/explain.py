"""An explanation as tables: parts of tokens' time, what a change would bring, and the short of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gpusim.explain.groups import ALL
from gpusim.explain.sentences import FIGURE_NAMES, NAMES
from gpusim.report.numbers import ABSENT, SCALES, time_unit
from gpusim.report.terminal import TableColumn, sweep_table

if TYPE_CHECKING:
    from rich.console import Console

_GROUPS: Final = {"all": "mean", "median": "median", "slow": "slowest"}

_QUEUE: Final = {
    "step_under_way": "step under way",
    "step_in_flight": "step in flight",
    "token_budget": "token budget",
    "seats": "seats",
    "kv_blocks": "KV blocks",
    "policy": "policy",
}


def print_explanation(told: Mapping[str, Any], console: Console) -> None:
    """Print what `explain` returns."""
    for title, part in (("Gap before a token (ITL)", told["itl"]), ("Time to the first token (TTFT)", told["ttft"])):
        if part:
            _print_parts(title, part, console)
    if told["itl"]:
        _print_steps(told["itl"], console)
    if told["queue"] and told["queue"]["mean_s"]:
        shares = told["queue"]["share"]
        rows = [{"what": _QUEUE[name], "share": share} for name, share in shares.items() if share]
        sweep_table(
            rows, (TableColumn("what", "queue"), TableColumn("share", "share", "%")), console, title="In the queue for"
        )
    if told["sensitivities"]:
        title = f"Change with each {100 * (told['factor'] - 1):.3g} % better: rates higher, times divided by as much"
        _print_changes(told["sensitivities"], title, ("better",), console)
    if told["without"]:
        _print_changes(told["without"], "Change without", ("without", "of"), console)
    for note in told["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)
    for sentence in told["sentences"]:
        console.print(sentence, markup=False, highlight=False)


def _print_parts(title: str, part: Mapping[str, Any], console: Console) -> None:
    unit = time_unit([part["median"]["mean_s"]])
    names = [name for name in part["all"]["seconds"] if any(part[group]["seconds"][name] for group in _GROUPS)]
    rows = [{"part": "all", **{group: part[group]["mean_s"] for group in _GROUPS}}]
    rows += [{"part": name, **{group: part[group]["seconds"][name] for group in _GROUPS}} for name in names]
    columns = (TableColumn("part", ""), *(TableColumn(group, shown, unit) for group, shown in _GROUPS.items()))
    sweep_table(rows, columns, console, title=title)


def _print_steps(itl: Mapping[str, Any], console: Console) -> None:
    rows = []
    for group, shown in _GROUPS.items():
        beside = itl[group]["beside_prefill"]
        rows.append({"group": shown, **itl[group]["step"], **beside})
    unit = time_unit([itl["median"]["mean_s"]])
    columns = (
        TableColumn("group", "tokens"),
        TableColumn("decodes", "decodes"),
        TableColumn("context_tokens", "context tokens"),
        TableColumn("prefill_tokens", "prefill tokens"),
        TableColumn("share", "with prefill", "%"),
        TableColumn("mean_s", "gap with", unit),
        TableColumn("alone_mean_s", "gap without", unit),
    )
    sweep_table(rows, columns, console, title="Their steps")


def _print_changes(told: Sequence[Mapping[str, Any]], title: str, keys: tuple[str, ...], console: Console) -> None:
    """Print a table of changes, and one of the intervals of those that have one; *keys* name what and of which group."""
    named = [TableColumn(key, key, is_label=True) for key in keys]
    shown = [(row, group) for row in told for group in row["change"] if len(keys) > 1 or group == ALL]
    labels = [dict(zip(keys, (NAMES.get(row["what"], row["what"]), group), strict=False)) for row, group in shown]
    rows = [
        {**label, **{figure: _rounded(row["change"][group][figure]) for figure in FIGURE_NAMES}}
        for label, (row, group) in zip(labels, shown, strict=True)
    ]
    figures = [TableColumn(figure, name, "%") for figure, name in FIGURE_NAMES.items()]
    sweep_table(rows, [*named, *figures], console, title=title)
    intervals = [
        {**label, **{figure: _interval(row["interval"][group][figure]) for figure in FIGURE_NAMES}}
        for label, (row, group) in zip(labels, shown, strict=True)
    ]
    if any(row[figure] != ABSENT for row in intervals for figure in FIGURE_NAMES):
        sweep_table(intervals, [*named, *figures], console, title="Between, at 95 %")


def _rounded(change: float | None) -> float | None:
    """Return *change* in hundredths of a percent: beyond that nobody reads."""
    return None if change is None else round(change * SCALES["%"], 2) / SCALES["%"]


def _interval(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ABSENT
    return " to ".join(f"{end * SCALES['%']:.1f}" for end in interval) if any(interval) else "0"

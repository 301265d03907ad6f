"""An explanation as tables: parts of tokens' time, what a change would bring, and the short of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from gpusim.explain.groups import ALL
from gpusim.explain.sentences import NAMES
from gpusim.report.numbers import SCALES, time_unit
from gpusim.report.terminal import TableColumn, sweep_table

if TYPE_CHECKING:
    from rich.console import Console

_FIGURES: Final = {
    "itl_p50_s": "ITL p50",
    "itl_p99_s": "ITL p99",
    "ttft_p50_s": "TTFT p50",
    "ttft_p99_s": "TTFT p99",
}
_GROUPS: Final = {"all": "mean", "median": "median", "slow": "slowest"}


def print_explanation(told: Mapping[str, Any], console: Console) -> None:
    """Print what `explain` returns."""
    for title, part in (("Gap before a token (ITL)", told["itl"]), ("Time to the first token (TTFT)", told["ttft"])):
        if part:
            _print_parts(title, part, console)
    if told["itl"]:
        _print_steps(told["itl"], console)
    if told["queue"] and told["queue"]["mean_s"]:
        rows = [{"what": name.replace("_", " "), "share": share} for name, share in told["queue"]["share"].items()]
        sweep_table(
            rows, (TableColumn("what", "queue"), TableColumn("share", "share", "%")), console, title="In the queue for"
        )
    if told["sensitivities"]:
        title = f"Change with each {100 * (told['factor'] - 1):.3g} % better: rates higher, times divided by as much"
        rows = [_row(NAMES[row["what"]], row["change"][ALL]) for row in told["sensitivities"]]
        sweep_table(rows, _columns("better"), console, title=title)
    if told["without"]:
        sweep_table(list(_left_out(told)), _columns("without", "of"), console, title="Change without")
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


def _columns(*texts: str) -> tuple[TableColumn, ...]:
    return (
        *(TableColumn(name, name) for name in texts),
        *(TableColumn(n, title, "%") for n, title in _FIGURES.items()),
    )


def _row(name: str, change: Mapping[str, float | None], **more: str) -> dict[str, Any]:
    return {"better": name, "without": name, **more, **{figure: _rounded(change[figure]) for figure in _FIGURES}}


def _rounded(change: float | None) -> float | None:
    """Return *change* in hundredths of a percent: beyond that nobody reads."""
    return None if change is None else round(change * SCALES["%"], 2) / SCALES["%"]


def _left_out(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in told["without"]:
        for group, change in row["change"].items():
            yield _row(row["what"], change, of=group)

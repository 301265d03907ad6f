"""The first screen: one table of latencies, and where a step's time goes beside its bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gpusim.report.fitted_table import PROSE, new_table, print_table, stacked
from gpusim.report.metric_titles import LATENCY_KEYS
from gpusim.report.numbers import ABSENT, SCALES, digits, time_unit
from gpusim.report.utilisation import busiest
from gpusim.results.setup import engine_setup
from gpusim.spelling import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of `sweep_table`.

    Args:
        key: Where the value is in a row; dots go into nested mappings (``itl_s.p99``).
        title: What stands above it.
        unit: One of `SCALES`, to which the value (in SI) is converted; others are only printed.
        is_label: It says what the row is, as the first column always does, and stands left of all that do not.
    """

    key: str
    title: str
    unit: str = ""
    is_label: bool = False


_BACKGROUND: Final = (
    TableColumn("name", "name"),
    TableColumn("kind", "kind"),
    TableColumn("moved_bytes", "moved", "GB"),
    TableColumn("finished", "finished"),
    TableColumn("mean_s", "mean", "ms"),
    TableColumn("max_s", "max", "ms"),
)


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Print the summary of a run, as `build_summary` makes it."""
    for line in _head(summary):
        console.print(line, markup=False, highlight=False)
    print_table(console, _latency_table(summary), None)
    for line in _served(summary):
        console.print(line, markup=False, highlight=False)
    print_table(console, _attribution_table(summary), _attribution_title(summary))
    if line := busiest(summary["utilisation"]):
        console.print(line, markup=False, highlight=False)
    if summary["background"]:
        sweep_table(summary["background"], _BACKGROUND, console, title="Background")
    for warning in summary["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


def sweep_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[TableColumn], console: Console, *, title: str | None = None
) -> None:
    """Print one line per row; numbers in SI are converted to the unit of their column, three significant digits."""
    from rich.text import Text  # noqa: PLC0415 - slow to import

    table = new_table()
    headers = _headers(columns)
    for column, header in zip(columns, headers, strict=True):
        values = [look_up(row, column.key) for row in rows]
        numeric = all(value is None or _is_number(value) for value in values)
        prose = max((len(str(value)) for value in values), default=0) > PROSE and not numeric
        table.add_column(
            Text(header),
            justify="right" if numeric else "left",
            no_wrap=not prose,
            overflow="fold",
            min_width=PROSE if prose else None,
        )
    for row in rows:
        # Text, for square brackets in a string would be taken for markup.
        table.add_row(*(Text(_cell(look_up(row, column.key), column.unit)) for column in columns))
    print_table(console, table, title, num_labels=sum(column.is_label for column in columns) or 1)


def _headers(columns: Sequence[TableColumn]) -> list[str]:
    """Return titles a word per line with the unit below, all of the same height."""
    lines = [[*column.title.split(), *([column.unit] if column.unit else [])] for column in columns]
    height = max(map(len, lines), default=0)
    return [stacked(words, height) for words in lines]


def look_up(row: Mapping[str, Any], key: str) -> Any:
    """Return the value of *row* at the *key* of a column; None where there is none."""
    value: Any = row.get(key)
    if value is None and "." in key:
        value = row
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, unit: str) -> str:
    if value is None:
        return ABSENT
    return digits(value, SCALES.get(unit, 1.0)) if _is_number(value) else str(value)


def _head(summary: Mapping[str, Any]) -> Iterator[str]:
    origin = f"gpusim {summary['version']}, scenario {summary['scenario_hash'][:8]}, seed {summary['seed']}"
    if summary["name"]:
        yield summary["name"]
    yield origin
    for name, engine in summary["engines"].items():
        if "model" in engine:
            yield _engine_line(name, engine, engine_setup(summary["scenario"], name, engine))
    requests = summary["requests"]
    parts = [f"{requests[key]} {key}" for key in ("finished", "running", "waiting", "rejected") if requests[key]]
    yield f"{counted(requests['submitted'], 'request')}: {', '.join(parts)}" + (
        "" if summary["complete"] else " (stopped early)"
    )
    if requests["preempted"]:
        yield f"  preempted {requests['preempted']}, {counted(requests['preemptions'], 'time')} in all"
    measured = summary["measured"]
    early, late = measured["left_out_warmup"], measured["left_out_cooldown"]
    if early or late:
        yield (
            f"  measured {measured['requests']}, left out {early} of the warm-up ({digits(measured['warmup_s'])} s) "
            f"and {late} of the cool-down ({digits(measured['cooldown_s'])} s)"
        )


def _engine_line(name: str, engine: Mapping[str, Any], served: str) -> str:
    blocks = f"{engine['kv_blocks_peak']} of {engine['kv_blocks']} KV blocks"
    longest = f"max_model_len {engine['max_model_len']}"
    cache = engine.get("prefix_cache")
    hits = f", {100 * cache['hit_rate']:.1f} % of prompts cached" if cache else ""
    return f"{name}: {served}, {longest}, {blocks} used at most{hits}, {engine['detail']} detail"


def _latency_table(summary: Mapping[str, Any]) -> Table:
    table = new_table()
    table.add_column("", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for title in ("mean", "±95 %", "p50", "p90", "p99", "max", "count"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, title in LATENCY_KEYS.items():
        stats = summary[name]
        # The median should read well; rare extremes may take more digits.
        typical = stats["p50"] or stats["mean"]
        unit = time_unit([typical]) if typical else "ms"
        mean, *others = (digits(stats[key], SCALES[unit]) for key in ("mean", "p50", "p90", "p99", "max"))
        table.add_row(title, unit, mean, half_width(stats), *others, str(stats["count"]))
    return table


def half_width(stats: Mapping[str, Any]) -> str:
    """Write half the confidence interval of the mean, as a part of it: nobody reads more than that from it."""
    if stats["mean_ci95"] is None or not stats["mean"]:
        return ABSENT
    low, high = stats["mean_ci95"]
    return f"{(high - low) / 2 / stats['mean'] * 100:.1f} %"


def _served(summary: Mapping[str, Any]) -> Iterator[str]:
    rates = summary["throughput"]
    yield (
        f"throughput {digits(rates['requests_per_s'])} requests/s, {digits(rates['output_tokens_per_s'])} output tokens/s, "
        f"{digits(rates['prompt_tokens_per_s'])} prompt tokens/s"
    )
    slo = summary["slo"]
    if slo["met"] is not None:
        targets = [
            f"{name} ≤ {digits(slo[key], SCALES[time_unit([slo[key]])])} {time_unit([slo[key]])}"
            for name, key in (("TTFT", "ttft_s"), ("TPOT", "itl_s"))
            if slo[key] is not None
        ]
        yield (
            f"goodput {digits(summary['goodput_per_s'])} requests/s: {digits(slo['attainment'], 100)} % of the requests "
            f"meet {' and '.join(targets)}"
        )


def _attribution_title(summary: Mapping[str, Any]) -> str:
    attribution, bound_s = summary["attribution"], summary["bounds"].get("step")
    num_steps = attribution["num_steps"]
    beside = ""
    if bound_s and num_steps:
        unit = time_unit([bound_s / num_steps])
        ratio, bound = digits(attribution["step_time_s"] / bound_s), digits(bound_s / num_steps, SCALES[unit])
        beside = f", {ratio} × their bound of {bound} {unit}"
    return f"Where a step's time goes (mean of {counted(num_steps, 'step')}{beside})"


def _attribution_table(summary: Mapping[str, Any]) -> Table:
    attribution = summary["attribution"]
    per_step = 1 / max(attribution["num_steps"], 1)
    step_s = attribution["step_time_s"]
    unit = time_unit([step_s * per_step])
    table = new_table()
    table.add_column("", no_wrap=True)
    for title in (f"time\n{unit}", "share\n%"):
        table.add_column(title, justify="right", no_wrap=True)
    rows = [("step", step_s, 1.0)]
    rows += [(name, s, attribution["share"][name]) for name, s in attribution["seconds"].items() if s]
    for name, spent_s, share in rows:
        table.add_row(name, digits(spent_s * per_step, SCALES[unit]), f"{share * 100:.1f}")
    return table

"""Tables of the summaries of runs on a page: latencies, rates, and each engine where there are several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from gpusim.report.metric_titles import LATENCY_KEYS
from gpusim.report.numbers import ABSENT, SCALES, digits, time_unit
from gpusim.report.page import heading, paragraph, table
from gpusim.report.terminal import half_width
from gpusim.results.setup import interrupted, setup
from gpusim.spelling import counted

Summaries: TypeAlias = "Mapping[str, Mapping[str, Any]]"
"""Of runs by name, as `Result.summary` returns them."""

_STATISTICS: Final = ("p50", "p90", "p99", "p999", "max")
_TARGETS: Final = {"ttft_s": "ttft_s", "tpot_s": "itl_s"}
"""Which target of the SLO is on which latency: the one on gaps is for the mean of a request, its TPOT."""
_RATES: Final = {
    "requests": "requests_per_s",
    "output tokens": "output_tokens_per_s",
    "prompt tokens": "prompt_tokens_per_s",
}
_WORDS: Final = frozenset({"run", "metric", "unit", "SLO", "p99 against it", "engine"})


def origin(name: str, summary: Mapping[str, Any], label: str = "") -> list[str]:
    """Return what the run called *name*, in short *label*, was: what served it, version, scenario, seed, requests, warnings."""
    requests, slo = summary["requests"], summary["slo"]
    called = f"{label} is {name}" if label not in {"", name} else name
    text = (
        f"{called}: {_served(summary)}gpusim {summary['version']}, scenario {summary['scenario_hash'][:8]}, seed {summary['seed']}; "
        f"{requests['finished']} of {counted(requests['submitted'], 'request')} finished"
    )
    if requests["preempted"]:
        text += f", {requests['preempted']} preempted, {counted(requests['preemptions'], 'time')} in all"
    if slo["attainment"] is not None:
        targets = [f"{LATENCY_KEYS[latency]} {_target(slo, latency)}" for latency in _TARGETS if _target(slo, latency)]
        text += f"; SLO: {digits(slo['attainment'], 100)} % of the requests meet {' and '.join(targets)}"
    warnings = [*interrupted(summary["complete"]), *summary["warnings"]]
    return [paragraph(text + "."), *(paragraph(f"Warning: {warning}") for warning in warnings)]


def _served(summary: Mapping[str, Any]) -> str:
    served = setup(summary["scenario"], summary["engines"])
    return f"{served}; " if served else ""


def summary_tables(summaries: Summaries) -> list[str]:
    """Return the tables of *summaries*, rows of runs one below the other."""
    several = len(summaries) > 1
    tables = (
        [row for key in LATENCY_KEYS for row in _latencies(key, summaries)],
        [_rates(run, summary) for run, summary in summaries.items()],
        [_engine(run, *item) for run, s in summaries.items() if len(s["engines"]) > 1 for item in s["engines"].items()],
    )
    return [heading(2, "Summary"), *(table(_told(rows, several=several), {}, _WORDS, stacks=True) for rows in tables)]


def _told(rows: Sequence[Mapping[str, str]], *, several: bool) -> list[dict[str, str]]:
    """Return *rows* without the columns that say nothing: the name of the only run, and what no run has."""
    kept = {key for row in rows for key, cell in row.items() if cell != ABSENT and (several or key != "run")}
    return [{key: cell for key, cell in row.items() if key in kept} for row in rows]


def _latencies(key: str, summaries: Summaries) -> list[dict[str, str]]:
    """Return a row for each run, all in one unit."""
    # The median should read well; rare extremes may take more digits.
    unit = time_unit([summary[key]["p50"] or summary[key]["mean"] for summary in summaries.values()])
    has_targets = any(_target(summary["slo"], latency) for summary in summaries.values() for latency in _TARGETS)
    rows = []
    for run, summary in summaries.items():
        stats = summary[key]
        row = {"metric": LATENCY_KEYS[key], "run": run, "unit": unit, "mean": digits(stats["mean"], SCALES[unit])}
        row |= {"±95 %": half_width(stats)}
        row |= {statistic: digits(stats[statistic], SCALES[unit]) for statistic in _STATISTICS}
        row |= {"count": str(stats["count"])}
        rows.append(row | (_against(key, summary) if has_targets else {}))
    return rows


def _against(key: str, summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the target on a latency, and whether its p99 meets it; nothing where there is none."""
    target, p99 = _target(summary["slo"], key), summary[key]["p99"]
    if not target:
        return {"SLO": "", "p99 against it": ""}
    verdict = ABSENT if p99 is None else "met" if p99 <= summary["slo"][_TARGETS[key]] else "missed"
    return {"SLO": target, "p99 against it": verdict}


def _target(slo: Mapping[str, Any], latency: str) -> str:
    value_s = slo[_TARGETS[latency]] if latency in _TARGETS else None
    if value_s is None:
        return ""
    unit = time_unit([value_s])
    return f"≤ {digits(value_s, SCALES[unit])} {unit}"


def _rates(run: str, summary: Mapping[str, Any]) -> dict[str, str]:
    row = {"run": run} | {f"{what}/s": digits(summary["throughput"][key]) for what, key in _RATES.items()}
    met = summary["slo"]["attainment"]
    row["goodput/s"] = digits(summary["goodput_per_s"])
    return row | {"requests within the SLO": ABSENT if met is None else f"{digits(met, 100)} %"}


def _engine(run: str, name: str, engine: Mapping[str, Any]) -> dict[str, str]:
    row = {"run": run, "engine": name, "requests": str(engine["requests"]["finished"])}
    row["preemptions"] = str(engine["requests"]["preemptions"])
    row["output tokens/s"] = digits(engine["throughput"]["output_tokens_per_s"])
    row["goodput/s"] = digits(engine["goodput_per_s"])
    row["decodes a step"] = digits(engine["mean_decodes"])
    for key in ("ttft_s", "tpot_s", "itl_s"):
        for statistic in ("p50", "p99"):
            row[f"{statistic} {LATENCY_KEYS[key]} ms"] = digits(engine[key][statistic], 1e3)
    return row

"""The page of `gpusim report`: one run, or several side by side, in one file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from gpusim.report.figures import to_svg
from gpusim.report.numbers import SCALES, digits, time_unit
from gpusim.report.page import heading, paragraph, table, write_html
from gpusim.report.run_figures import COMMON, NARROW, SINGLE, WIDE, Runs, figure
from gpusim.report.theme import GRID, INK, PAPER, colour, style, themed
from gpusim.results.result import Result
from gpusim.results.slowest import SlowGap, slowest_gaps
from gpusim.spec.document import dump_yaml

_STYLE: Final = f"""
body {{ color: {colour(INK)}; background: {colour(PAPER)}; max-width: 1120px; overflow-wrap: anywhere }}
th {{ position: static; background: none; overflow-wrap: normal }}
td, th {{ border-color: {colour(GRID)}; overflow-wrap: normal }}
pre {{ overflow-x: auto; font-size: 13px }}
figure {{ margin: 0 0 1rem }}
.narrow {{ display: none }}
@media (max-width: 899px) {{
  body {{ margin: 1rem auto }}
  .wide {{ display: none }}
  .narrow {{ display: block }}
  .narrow svg {{ width: 100%; max-width: 560px }}
}}
"""
_TITLES: Final = {
    "percentiles": "Percentiles",
    "step_time": "Where a step's time goes, beside its bound",
    "timeline": "Over time",
    "topology": "The machine: busy part of the time",
}
_LATENCIES: Final = {"ttft_s": "TTFT", "tpot_s": "TPOT", "itl_s": "ITL", "e2e_s": "E2E", "queue_s": "queue"}
_STATISTICS: Final = ("mean", "p50", "p90", "p99", "p999", "max")
_WORDS: Final = frozenset({"metric", "unit", "verdict", "reason", "engine"})


def write_run_page(runs: Runs, path: Path) -> None:
    """Write the page of *runs*, by name.

    Raises:
        SpecError: If *path* cannot be written, or Altair is not installed.
    """
    summaries = {name: result.summary() for name, result in runs.items()}
    parts = [heading(1, ", ".join(dict.fromkeys(s["name"] or name for name, s in summaries.items())))]
    for name, summary in summaries.items():
        parts += _origin(name, summary)
    parts += _latencies(summaries)
    parts += [_figure(name, runs, f"{name}-") for name in COMMON]
    for number, (run, result) in enumerate(runs.items()):
        parts += [heading(2, run)] if len(runs) > 1 else []
        parts += [_figure(name, {run: result}, f"{name}{number}-") for name in SINGLE]
        parts += [heading(3, "Slowest tokens"), table(_slowest(result), {}, _WORDS)]
        parts.append(
            f"<details><summary>Scenario</summary><pre>{escape(dump_yaml(dict(result.record.scenario)))}</pre></details>"
        )
    write_html(path, ", ".join(runs), parts, style() + _STYLE)


def summary_html(result: Result) -> str:
    """Return the summary of *result* for a notebook."""
    summary = result.summary()
    return "".join([*_origin(summary["name"] or "run", summary), *_latencies({"run": summary})])


def _origin(name: str, summary: Mapping[str, Any]) -> list[str]:
    requests, slo = summary["requests"], summary["slo"]
    text = (
        f"{name}: gpusim {summary['version']}, scenario {summary['scenario_hash'][:8]}, seed {summary['seed']}; "
        f"{requests['finished']} of {requests['submitted']} requests finished"
    )
    if slo["attainment"] is not None:
        targets = [f"{title} ≤ {_time(slo[key])}" for title, key in (("TTFT", "ttft_s"), ("TPOT", "itl_s")) if slo[key]]
        text += f"; SLO: {digits(slo['attainment'], 100)} % of the requests meet {' and '.join(targets)}"
    return [paragraph(text + "."), *(paragraph(f"Warning: {warning}") for warning in summary["warnings"])]


def _latencies(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows: list[Mapping[str, Any]] = []
    for key, title in _LATENCIES.items():
        for statistic in _STATISTICS:
            values = [summary[key][statistic] for summary in summaries.values()]
            unit = time_unit(values)
            row = {"metric": f"{title} {statistic}", "unit": unit}
            row |= {name: digits(value, SCALES[unit]) for name, value in zip(summaries, values, strict=True)}
            if len(values) > 1:
                changes = [value / values[0] - 1 if value and values[0] else None for value in values[1:]]
                row |= {"change %": ", ".join(digits(change, 100) for change in changes), "verdict": "no verdict"}
            rows.append(row)
    if len(summaries) == 1:
        (summary,) = summaries.values()
        rows = [_latency(title, summary[key]) for key, title in _LATENCIES.items()]
    return [heading(2, "Summary"), table(rows, {}, _WORDS)]


def _latency(title: str, stats: Mapping[str, Any]) -> Mapping[str, Any]:
    unit = time_unit([stats["p50"]])
    values = {statistic: digits(stats[statistic], SCALES[unit]) for statistic in _STATISTICS}
    return {"metric": title, "unit": unit} | values | {"count": stats["count"]}


def _figure(name: str, runs: Runs, prefix: str) -> str:
    drawn = {kind: to_svg(figure(name, runs, width)) for kind, width in (("wide", WIDE), ("narrow", NARROW))}
    inner = "".join(f'<div class="{kind}">{themed(svg, prefix + kind)}</div>' for kind, svg in drawn.items())
    return f"{heading(2, _TITLES[name])}<figure>{inner}</figure>"


def _slowest(result: Result) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "at s": digits(gap.end_s),
            "gap ms": digits(gap.gap_s, 1e3),
            "request": gap.request,
            "tokens": gap.num_tokens,
            "reason": _reason(gap),
        }
        for gap in slowest_gaps(result.record)
    ]


def _reason(gap: SlowGap) -> str:
    what = "preempted; " if gap.is_preempted else ""
    what += f"{gap.num_prefill_tokens} prompt tokens beside " if gap.num_prefill_tokens else ""
    return f"{what}{gap.num_decodes} decodes; {gap.category} {gap.share:.0%}"


def _time(value_s: float) -> str:
    unit = time_unit([value_s])
    return f"{digits(value_s, SCALES[unit])} {unit}"

"""The page of `gpusim report`: one run, or several side by side, in one file that opens offline."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Final

from gpusim.report.figures import to_svg
from gpusim.report.labels import short
from gpusim.report.page import heading, paragraph, write_html
from gpusim.report.run_figures import COMMON, NARROW, SINGLE, WIDE, Runs, figure
from gpusim.report.run_tables import origin, summary_tables
from gpusim.report.run_verdicts import check_number, compared, verdicts_html
from gpusim.report.slowest_tables import slowest_tables
from gpusim.report.theme import style, themed
from gpusim.results.comparison import Comparison
from gpusim.results.result import Result
from gpusim.spec.yaml_files import dump_yaml

_STYLE: Final = """
body { max-width: 1120px; overflow-wrap: anywhere }
th { position: static }
td, th { overflow-wrap: normal }
th, td.word { white-space: normal }
pre { overflow-x: auto; font-size: 13px }
figure { margin: 0 0 1rem }
figure svg { overflow: visible }
.narrow { display: none }
@media (max-width: 899px) {
  body { margin: 1rem auto }
  .wide { display: none }
  .narrow { display: block }
  .narrow svg { width: 100%; max-width: 560px }
}
"""
_TITLES: Final = {
    "percentiles": "Percentiles",
    "step_time": "Where a step's time goes, beside its bound",
    "timeline": "Over time",
    "topology": "The machine: busy part of the time",
}


def write_run_page(runs: Runs, path: Path) -> Comparison | None:
    """Write the page of *runs*, by name; the first is the baseline of the others.

    Returns:
        The comparison on the page; None of one run.

    Raises:
        SpecError: If *path* cannot be written, there are too many runs, or Altair is not installed.
    """
    check_number(runs)
    summaries = {name: result.summary() for name, result in runs.items()}
    comparison = compared(runs)
    labels = short(list(runs))
    parts = [heading(1, ", ".join(dict.fromkeys(s["name"] or name for name, s in summaries.items())))]
    for name, summary in summaries.items():
        parts += origin(name, summary, labels[name] if len(runs) > 1 else "")
    parts += summary_tables({labels[name]: summary for name, summary in summaries.items()})
    if comparison is not None:
        parts += verdicts_html(comparison, labels)
    elif len(runs) > 1:
        parts.append(paragraph("No verdicts: one of the runs measured no request."))
    parts += [_figure(name, runs, f"{name}-") for name in COMMON]
    for number, (run, result) in enumerate(runs.items()):
        parts += [heading(2, run)] if len(runs) > 1 else []
        parts += [_figure(name, {run: result}, f"{name}{number}-") for name in SINGLE]
        parts += slowest_tables(result)
        parts.append(
            f"<details><summary>Scenario</summary><pre>{escape(dump_yaml(dict(result.record.scenario)))}</pre></details>"
        )
    write_html(path, ", ".join(runs), parts, style() + _STYLE)
    return comparison


def summary_html(result: Result) -> str:
    """Return the summary of *result* for a notebook."""
    summary = result.summary()
    name = summary["name"] or "run"
    return "".join([*origin(name, summary), *summary_tables({name: summary})])


def _figure(name: str, runs: Runs, prefix: str) -> str:
    drawn = {kind: to_svg(figure(name, runs, width)) for kind, width in (("wide", WIDE), ("narrow", NARROW))}
    inner = "".join(f'<div class="{kind}">{themed(svg, prefix + kind)}</div>' for kind, svg in drawn.items())
    return f"{heading(2, _TITLES[name])}<figure>{inner}</figure>"

"""The percentiles of each latency, on an axis that is even in log(1 / (1 - p)), with the targets of the SLO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gpusim.report.figures import need_altair
from gpusim.report.metric_titles import LATENCY_TITLES
from gpusim.report.numbers import SCALES, digits, time_unit
from gpusim.report.runs_figures import time_axis
from gpusim.report.theme import INK, MUTED, RUNS
from gpusim.results.curves import curve, samples
from gpusim.results.result import Result

_PANELS: Final = ("ttft", "tpot", "itl", "e2e")
"""Latencies, in the order of their panels."""
_TAILS: Final = (2, 10, 100, 1000, 10_000, 100_000)
"""1 / (1 - p) of the percentiles that are written."""
_NARROW: Final = 600
_AXIS: Final = 66
"""Pixels beside a panel."""


def percentiles(runs: Mapping[str, Result], width: int) -> Any:
    """Return a panel for each latency, a line for each run, in a figure *width* pixels wide."""
    alt = need_altair()
    columns = 2 if width > _NARROW else 1
    size = {"width": width // columns - _AXIS, "height": 190 if columns > 1 else 150}
    taken = {name: samples(result) for name, result in runs.items()}
    panels = []
    for latency in _PANELS:
        title = LATENCY_TITLES[latency]
        points: list[dict[str, Any]] = [
            {"run": run, "tail": tail, "s": value, "text": f"{title} {_level(tail)}: {_time(value)}, {run}"}
            for run, mine in taken.items()
            for tail, value in curve(mine[latency])
        ]
        if points and min(point["s"] for point in points) > 0:
            panels.append(_panel(alt, points, _targets(runs, latency), list(runs)).properties(title=title, **size))
    if not panels:
        return alt.Chart(alt.Data(values=[])).mark_text(text="no request finished").properties(width=width // 2)
    return alt.concat(*panels, columns=columns)


def _panel(alt: Any, points: list[dict[str, Any]], targets: list[float], names: list[str]) -> Any:
    values = [point["s"] for point in points] + targets
    ends = min(values) / 1.05, max(values) * 1.05
    last = max(point["tail"] for point in points)
    tail_scale = alt.Scale(type="log", domain=(1, max(last, 2)), nice=False)
    tail_axis = alt.Axis(
        values=[tail for tail in _TAILS if tail <= last],
        labelExpr="'p' + format(100 - 100 / datum.value, '.5~g')",
        labelOverlap="greedy",
        labelSeparation=8,
    )
    legend = alt.Legend(orient="top", columns=1) if len(names) > 1 else None
    lines = (
        alt.Chart(alt.Data(values=points))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("tail:Q", title=None, scale=tail_scale, axis=tail_axis),
            y=alt.Y(
                "s:Q", title=None, scale=alt.Scale(type="log", domain=ends, nice=False), axis=time_axis(alt, *ends)
            ),
            color=alt.Color("run:N", scale=alt.Scale(domain=names, range=RUNS[: len(names)]), legend=legend),
            strokeDash=alt.StrokeDash(
                "run:N", scale=alt.Scale(domain=names, range=_DASHES[: len(names)]), legend=legend
            ),
            tooltip="text:N",
        )
    )
    rows = [{"s": target, "text": f"SLO {_time(target)}"} for target in targets]
    rule = alt.Chart(alt.Data(values=rows)).encode(y="s:Q")
    text = rule.mark_text(align="left", baseline="bottom", dx=4, dy=-2, x=0, color=INK, fontSize=12).encode(
        text="text:N"
    )
    return alt.layer(lines, rule.mark_rule(strokeDash=[2, 3], color=MUTED, strokeWidth=1.5), text)


_DASHES: Final = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [10, 4], [4, 1])


def _targets(runs: Mapping[str, Result], latency: str) -> list[float]:
    """Return the targets of the SLO for a latency; the one on gaps is for the mean of a request, its TPOT."""
    key = {"ttft": "ttft", "tpot": "itl"}.get(latency)
    found = {getattr(result.record.slo, key) for result in runs.values()} if key else set()
    return sorted(target for target in found if target is not None)


def _level(tail: float) -> str:
    return f"p{100 - 100 / tail:.4g}"


def _time(value_s: float) -> str:
    unit = time_unit([value_s])
    return f"{digits(value_s, SCALES[unit])} {unit}"

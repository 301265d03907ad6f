"""Figures of measured runs: each metric predicted against measured, and how times are distributed over requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any, Final

from gpusim.report.figures import colours, need_altair, panels
from gpusim.report.theme import BLUE, MUTED, VERMILLION
from gpusim.runs.distributions import LEVELS, QUANTITIES
from gpusim.runs.layout import METRICS

_PANEL: Final = 215
"""Width and height in pixels of a panel of dots."""
_CURVES: Final = {"width": 300, "height": 190}
_SECONDS: Final = "datum.value < 1 ? format(datum.value * 1000, '~g') + ' ms' : format(datum.value, '~g') + ' s'"
"""Labels of an axis of times."""
_LONG: Final = 1000
_SHORT: Final = 4
"""Ratios of the ends of an axis."""
_TAILS: Final = (2, 10, 100, 1000)
"""1 / (1 - p) of the percentiles that are written."""
_TITLES: Final = {"ttft_s": "TTFT", "tpot_s": "time per output token", "e2e_s": "E2E"}
_PREDICTED, _MEASURED = "predicted", "measured"


def metrics_scatter(points: Sequence[Mapping[str, Any]]) -> str:
    """Return a panel for each metric as HTML, a colour for each GPU, hollow dots for runs that are not scored.

    Args:
        points: For each run and metric: metric, gpu, scored, measured and predicted seconds.
    """
    alt = need_altair()
    found = {name: [point for point in points if point["metric"] == name] for name in METRICS}
    color = colours(alt, "gpu", sorted({str(point["gpu"]) for point in points}))
    return panels([_dots(alt, name, mine, color) for name, mine in found.items() if mine], "metrics-")


def _dots(alt: Any, name: str, points: Sequence[Mapping[str, Any]], color: Any) -> Any:
    values = [point[which] for point in points for which in (_MEASURED, _PREDICTED)]
    ends = (min(values) * 0.8, max(values) * 1.25)
    scale = alt.Scale(type="log", domain=ends, nice=False)
    layers = [
        alt.Chart(alt.Data(values=[{"x": end, "y": end} for end in ends])).mark_line(color=MUTED, strokeWidth=0.7)
    ]
    layers[0] = layers[0].encode(x="x:Q", y="y:Q")
    for filled in (True, False):
        mine = [point for point in points if point["scored"] == filled]
        dots = alt.Chart(alt.Data(values=mine)).mark_point(size=32, filled=filled, opacity=0.8, aria=False)
        x = alt.X(f"{_MEASURED}:Q", title=_MEASURED, scale=scale, axis=time_axis(alt, *ends))
        y = alt.Y(f"{_PREDICTED}:Q", title=_PREDICTED, scale=scale, axis=time_axis(alt, *ends))
        layers.append(dots.encode(x=x, y=y, color=color))
    return alt.layer(*layers).properties(width=_PANEL, height=_PANEL, title=name.removesuffix("_s").replace("_", " "))


def percentile_curves(
    measured: Mapping[str, Sequence[float]], predicted: Mapping[str, Sequence[float]], name: str
) -> str:
    """Return the percentiles of TTFT, time per output token and E2E as HTML, on an axis that is even in log(1 / (1 - p)).

    Args:
        measured: Quantiles in seconds, as `distributions.quantiles` returns them.
        predicted: The same.
        name: Of the run, of which a page has one.
    """
    alt = need_altair()
    both = [(what, measured.get(what), predicted.get(what)) for what in QUANTITIES]
    charts = [_curves(alt, what, seen, ours) for what, seen, ours in both if seen and ours and min(*seen, *ours) > 0]
    return panels(charts, f"{name}-")


def _curves(alt: Any, name: str, measured: Sequence[float], predicted: Sequence[float]) -> Any:
    tails = [1 / (1 - level) for level in LEVELS]
    points = [
        {"tail": tail, "time": value, "what": what}
        for what, values in ((_MEASURED, measured), (_PREDICTED, predicted))
        for tail, value in zip(tails, values, strict=False)
    ]
    ends = min(*measured, *predicted), max(*measured, *predicted)
    names, legend = (_MEASURED, _PREDICTED), alt.Legend(orient="bottom")
    percent = alt.Axis(values=_TAILS, labelExpr="'p' + format(100 - 100 / datum.value, '.3~g')")
    tail_scale = alt.Scale(type="log", domain=(tails[0], _TAILS[-1]), nice=False)
    time_scale = alt.Scale(type="log", domain=(ends[0] / 1.02, ends[1] * 1.02), nice=False)
    return (
        alt.Chart(alt.Data(values=points))
        .mark_line(aria=False)
        .encode(
            x=alt.X("tail:Q", title="percentile", scale=tail_scale, axis=percent),
            y=alt.Y("time:Q", title=None, scale=time_scale, axis=time_axis(alt, *ends)),
            color=alt.Color("what:N", scale=alt.Scale(domain=names, range=[BLUE, VERMILLION]), legend=legend),
            strokeDash=alt.StrokeDash("what:N", scale=alt.Scale(domain=names, range=[[1, 0], [5, 2]]), legend=legend),
        )
        .properties(title=_TITLES[name], **_CURVES)
    )


def time_axis(alt: Any, low: float, high: float) -> Any:
    """Return an axis from *low* to *high* seconds."""
    return alt.Axis(values=_ticks(low, high), labelExpr=_SECONDS)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between *low* and *high*: even steps over a short range, decades over a long one."""
    decades = range(floor(log10(low)), floor(log10(high)) + 1)
    if high > _LONG * low:
        ticks = [10.0**power for power in decades]
    elif high > _SHORT * low:
        ticks = [digit * 10.0**power for power in decades for digit in (1, 2, 5)]
    else:
        rough = (high - low) / 3
        power = 10.0 ** floor(log10(rough)) if rough > 0 else low
        step = max(digit * power for digit in (1, 2, 5) if digit * power <= rough or digit == 1)
        ticks = [number * step for number in range(ceil(low / step), floor(high / step) + 1)]
    return [tick for tick in ticks if low <= tick <= high]

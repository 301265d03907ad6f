"""Load, batch, KV blocks, bandwidth in use and where time went, of one run, on one axis of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gpusim.core.arrays import FloatArray
from gpusim.report.figures import need_altair
from gpusim.report.numbers import digits
from gpusim.report.theme import BLUE, CATEGORY_COLOURS, GREEN, GREY, MUTED, ORANGE, PURPLE, SKY, VERMILLION
from gpusim.results.result import Result
from gpusim.results.timeline import Levels, Timeline, timeline

_LEFT: Final = 52
"""Pixels left of the panels, the same for all: one time stands on one vertical."""
_RESOURCES: Final = {
    "memory": ("weights", "kv", "activations"),
    "compute": ("compute",),
    "communication": ("communication",),
    "launch": ("launch",),
    "waiting, transfer": ("waiting", "transfer"),
}
_COLOURS: Final = {
    "memory": BLUE,
    "compute": CATEGORY_COLOURS["compute"],
    "communication": CATEGORY_COLOURS["communication"],
    "launch": CATEGORY_COLOURS["launch"],
    "waiting, transfer": CATEGORY_COLOURS["transfer"],
}
_BANDWIDTHS: Final = {
    "HBM": ("GPU memory", BLUE),
    "nvlink": ("NVLink", VERMILLION),
    "xgmi": ("xGMI", VERMILLION),
    "ici": ("ICI", VERMILLION),
    "c2c": ("C2C", SKY),
    "pcie": ("PCIe", GREEN),
    "network": ("network", PURPLE),
    "socket": ("sockets", MUTED),
    "memory pool": ("memory pool", ORANGE),
    "host memory": ("host memory", GREY),
}
"""Memories and links whose bandwidth may be in use, with name and colour; no machine has several of one colour."""
_COUNT: Final = "datum.value < 1000 ? format(datum.value, '.3~g') : format(datum.value, '.3~s')"
"""How an axis writes a number of things."""


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    colour: str
    levels: Levels


def timeline_panels(result: Result, width: int) -> Any:
    """Return the panels one above the other, in a figure *width* pixels wide."""
    alt = need_altair()
    found = timeline(result.record, num_bins=min(160, width // 4))
    if found is None:
        return alt.Chart(alt.Data(values=[])).mark_text(text="nothing ran").properties(width=width // 2)
    levels = found.levels
    blocks = sum(part.get("kv_blocks", 0) for part in result.summary()["engines"].values())
    panels = [
        _lines(
            alt,
            found,
            "requests",
            [_Line("in service", BLUE, levels["running"]), _Line("waiting", ORANGE, levels["waiting"])],
        ),
        _lines(alt, found, "sequences decoding in a step", [_Line("decodes", GREEN, levels["num_decodes"])]),
        _lines(alt, found, "prompt tokens in a step", [_Line("prefill", VERMILLION, levels["num_prefill_tokens"])]),
        _lines(alt, found, f"KV blocks in use, of {blocks:,}", [_Line("KV blocks", SKY, levels["kv_blocks"])], blocks),
        *_use(alt, found, columns=3 if width < 600 else 10),
        _shares(alt, found, columns=3 if width < 600 else 5),
    ]
    size = {"width": width - _LEFT - 22, "height": 92}
    whole = [panel.properties(**size) for panel in panels]
    return alt.vconcat(*whole, spacing=12).resolve_scale(color="independent")


def _lines(alt: Any, found: Timeline, title: str, lines: Sequence[_Line], limit: float = 0.0) -> Any:
    """Return the mean of each bin as a line, and up to its maximum a band."""
    rows: list[dict[str, Any]] = [
        {"t": time, "what": line.name, "mean": mean, "most": most}
        for line in lines
        for time, mean, most in _steps(found, line.levels.mean, line.levels.most)
    ]
    scale = alt.Scale(domain=[line.name for line in lines], range=[line.colour for line in lines])
    legend = _legend(alt) if len(lines) > 1 else None
    color = alt.Color("what:N", scale=scale, legend=legend)
    largest = max(row["most"] for row in rows)
    shown = limit if 0 < limit < 4 * largest else 0.0
    y = {"scale": alt.Scale(domain=(0, max(largest, shown, 1e-9) * 1.05), nice=False), "axis": _axis(alt)}
    base = alt.Chart(alt.Data(values=rows))
    band = base.mark_area(opacity=0.3, interpolate="step-after").encode(
        x=_time(alt, found), y=alt.Y("mean:Q", title=None, **y), y2="most:Q", color=color
    )
    mean = base.mark_line(strokeWidth=1.8, interpolate="step-after").encode(
        x=_time(alt, found), y=alt.Y("mean:Q", title=None, **y), color=color
    )
    layers = [band, mean]
    if shown:
        rule = alt.Chart(alt.Data(values=[{"y": limit}])).mark_rule(color=MUTED, strokeDash=[4, 3])
        layers.append(rule.encode(y="y:Q"))
    note = f"{title} (at most {digits(round(largest))})"
    return alt.layer(*layers).properties(title=note)


def _use(alt: Any, found: Timeline, *, columns: int) -> list[Any]:
    """Return which part of its peak bandwidth each kind of memory and link used; nothing if the run has not noted it."""
    if not found.use:
        return []
    kinds = [kind for kind in _BANDWIDTHS if kind in found.use]
    rows: list[dict[str, Any]] = [
        {"t": time, "what": _BANDWIDTHS[kind][0], "use": value}
        for kind in kinds
        for time, value, _ in _steps(found, found.use[kind], found.use[kind])
    ]
    names, colours = zip(*(_BANDWIDTHS[kind] for kind in kinds), strict=True)
    legend = _legend(alt, columns=columns)
    most = max(float(found.use[kind].max()) for kind in kinds)
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.8, interpolate="step-after")
        .encode(
            x=_time(alt, found),
            y=alt.Y(
                "use:Q", title=None, scale=alt.Scale(domain=(0, max(most, 0.01) * 1.05), nice=False), axis=_percent(alt)
            ),
            color=alt.Color("what:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
        )
    )
    title = f"bandwidth in use (at most {digits(most, 100)} % of peak)"
    return [chart.properties(title=title)]


def _shares(alt: Any, found: Timeline, *, columns: int) -> Any:
    """Return what part of the time went to each resource, one above the other; the rest was idle."""
    rows = []
    for order, (what, names) in enumerate(_RESOURCES.items()):
        share = sum((found.shares[name] for name in names), start=0 * found.shares["kv"])
        if share.any():
            rows += [
                {"t": time, "what": what, "share": value, "order": order}
                for time, value, _ in _steps(found, share, share)
            ]
    present = [what for what in _RESOURCES if any(row["what"] == what for row in rows)]
    scale = alt.Scale(domain=present, range=[_COLOURS[what] for what in present])
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_area(interpolate="step-after")
        .encode(
            x=_time(alt, found, last=True),
            y=alt.Y(
                "share:Q",
                title=None,
                stack=True,
                scale=alt.Scale(domain=(0, 1), nice=False),
                axis=_percent(alt),
            ),
            color=alt.Color("what:N", scale=scale, legend=alt.Legend(orient="bottom", columns=columns)),
            order="order:Q",
        )
        .properties(title="what the time went to; the rest is idle")
    )


def _legend(alt: Any, **options: Any) -> Any:
    return alt.Legend(orient="top", direction="horizontal", offset=2, symbolType="stroke", symbolOpacity=1, **options)


def _steps(found: Timeline, first: FloatArray, second: FloatArray) -> list[tuple[float, float, float]]:
    """Return the start of each bin with its two values; the last bin also with its end."""
    times = found.edges_s.tolist()
    values = list(zip(first.tolist(), second.tolist(), strict=True))
    return [(time, *pair) for time, pair in zip(times, [*values, values[-1]], strict=True)]


def _time(alt: Any, found: Timeline, *, last: bool = False) -> Any:
    scale = alt.Scale(domain=(0.0, float(found.edges_s[-1])), nice=False)
    title = "time / s" if last else None
    labels = {"labelOverlap": "greedy", "labelSeparation": 8, "labelFlush": False}
    axis = alt.Axis(grid=True, labels=last, ticks=last, title=title, tickCount=10, **labels)
    return alt.X("t:Q", scale=scale, axis=axis)


def _percent(alt: Any) -> Any:
    return alt.Axis(format="~%", tickCount=3, minExtent=_LEFT - 8, maxExtent=_LEFT - 8)


def _axis(alt: Any) -> Any:
    return alt.Axis(labelExpr=_COUNT, tickCount=3, minExtent=_LEFT - 8, maxExtent=_LEFT - 8)

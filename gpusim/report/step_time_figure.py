"""Where the time of the mean step goes, beside the bound of the same steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gpusim.report.figures import need_altair
from gpusim.report.numbers import SCALES, digits, time_unit
from gpusim.report.theme import CATEGORY_COLOURS, INK, MUTED, PAPER
from gpusim.results.result import Result

_BOUND: Final = "bound"
_ROW: Final = 34
"""Pixels of a bar and the space below it."""
_FONT: Final = 6.6
"""Pixels of a character in the mean."""


def step_time(runs: Mapping[str, Result], width: int) -> Any:
    """Return a bar of categories and one of the bound for each run, in a figure *width* pixels wide."""
    alt = need_altair()
    summaries = {name: result.summary() for name, result in runs.items()}
    parts = [part for name, summary in summaries.items() for part in _bars(name, summary, several=len(runs) > 1)]
    unit = time_unit([sum(part["s"] for part in parts if part["what"] != _BOUND) / max(len(runs), 1)])
    for part in parts:
        part["value"] = part["s"] * SCALES[unit]
        part["text"] = f"{part['what']}: {digits(part['value'])} {unit}" + (
            f" ({digits(part['share'], 100)} %)" if part["what"] != _BOUND else ""
        )
    rows = list(dict.fromkeys(part["row"] for part in parts))
    present = [name for name in CATEGORY_COLOURS if any(part["what"] == name and part["s"] > 0 for part in parts)]
    colours = {name: CATEGORY_COLOURS[name] for name in present} | {_BOUND: MUTED}
    room = min(160, max((len(row) for row in rows), default=0) * _FONT + 14)
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    legend = alt.Legend(orient="bottom", columns=max(1, int(width / 105)))
    bars = (
        alt.Chart(alt.Data(values=parts))
        .mark_bar(stroke=PAPER, strokeWidth=1)
        .encode(
            x=alt.X("value:Q", title=f"{unit} a step", axis=alt.Axis(tickCount=max(3, width // 110))),
            y=alt.Y("row:N", title=None, sort=rows, axis=alt.Axis(labelLimit=150, domain=False, ticks=False)),
            color=alt.Color("what:N", scale=scale, legend=legend),
            order="order:Q",
            tooltip="text:N",
            description="text:N",
        )
    )
    return (bars + _totals(alt, parts, unit)).properties(width=width - room - 70, height=_ROW * len(rows))


def _bars(name: str, summary: Mapping[str, Any], *, several: bool) -> list[dict[str, Any]]:
    """Return the parts of the bars of one run, in seconds of the mean step."""
    attribution, bound_s = summary["attribution"], summary["bounds"].get("step")
    per_step = 1 / max(attribution["num_steps"], 1)
    row = name if several else "step"
    found: list[dict[str, Any]] = [
        {
            "row": row,
            "what": what,
            "s": attribution["seconds"][what] * per_step,
            "share": attribution["share"][what],
            "order": order,
        }
        for order, what in enumerate(CATEGORY_COLOURS)
    ]
    if bound_s:
        bound_row = f"{name}: {_BOUND}" if several else _BOUND
        found.append({"row": bound_row, "what": _BOUND, "s": bound_s * per_step, "share": 1.0, "order": 0})
    return found


def _totals(alt: Any, parts: list[dict[str, Any]], unit: str) -> Any:
    """Return the length of each bar, written behind it."""
    rows = {part["row"]: 0.0 for part in parts}
    for part in parts:
        rows[part["row"]] += part["value"]
    texts = [{"row": row, "value": value, "text": f"{digits(value)} {unit}"} for row, value in rows.items()]
    return (
        alt.Chart(alt.Data(values=texts))
        .mark_text(align="left", dx=5, color=INK, fontSize=12)
        .encode(x="value:Q", y=alt.Y("row:N", sort=list(rows)), text="text:N")
    )

"""Figures by Altair, drawn to SVG without a browser; the packages are an extra of gpusim's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from gpusim.errors import SpecError
from gpusim.report.theme import LOOK, MUTED, RUNS, themed

if TYPE_CHECKING:
    import altair as alt

_MOST_POINTS: Final = 1000
"""Drawn in one panel, spread evenly over what there is."""
_PANEL: Final = 190
"""Width and height in pixels."""


def need_altair() -> Any:
    """Import and return Altair.

    Raises:
        SpecError: If it, or what draws for it, is not installed; the message says how to.
    """
    try:
        import altair as alt  # noqa: PLC0415 - slow to import
        import vl_convert  # noqa: F401, PLC0415
    except ImportError as error:
        raise SpecError(
            f"figures need the package {error.name}: pip install altair vl-convert-python (gpusim's extra `report`)"
        ) from None
    return alt


def scatter(rows: pl.DataFrame, name: str) -> str:
    """Return measured against predicted times as HTML, a panel for each GPU, a colour for each engine.

    Args:
        rows: Scored rows: gpu, engine, predicted_us, latency_us, core.
        name: Of the figure, of which a page has one.
    """
    alt = need_altair()
    color = _engine_colour(alt, rows)
    parts = sorted(rows.group_by("gpu"), key=lambda part: str(part[0][0]))
    return panels([_panel(alt, part, str(gpu), _range(rows), color) for (gpu,), part in parts], name)


def panels(charts: Sequence[Any], name: str) -> str:
    """Draw *charts* side by side as HTML, as many as fit in a row, one below the other on a narrow screen.

    Args:
        charts: To draw.
        name: Of them together, of which a page has one.
    """
    drawn = [themed(to_svg(chart.configure(**LOOK)), f"{name}{number}-") for number, chart in enumerate(charts)]
    return f'<div class="panels">{"".join(drawn)}</div>' if drawn else ""


def to_svg(chart: alt.TopLevelMixin) -> str:
    """Draw *chart*."""
    import vl_convert  # noqa: PLC0415

    svg: str = vl_convert.vegalite_to_svg(chart.to_dict())
    return svg


def colours(alt: Any, column: str, names: Sequence[str]) -> Any:
    """Return a colour for each of *names*, which *column* holds, the same in all panels; with a legend if there are several."""
    scale = {"range": RUNS[: len(names)]} if len(names) <= len(RUNS) else {"scheme": "tableau10"}
    legend = alt.Legend(orient="bottom", columns=2) if len(names) > 1 else None
    return alt.Color(f"{column}:N", scale=alt.Scale(domain=names, **scale), legend=legend)


def _engine_colour(alt: Any, rows: pl.DataFrame) -> Any:
    return colours(alt, "engine", sorted(rows["engine"].unique().to_list()))


def _range(rows: pl.DataFrame) -> tuple[float, float]:
    values = pl.concat([rows["predicted_us"], rows["latency_us"]])
    return float(values.min()) * 0.8, float(values.max()) * 1.25  # type: ignore[arg-type]


def _panel(alt: Any, rows: pl.DataFrame, gpu: str, ends: tuple[float, float], color: Any) -> Any:
    low, high = ends
    decades = [10.0**power for power in range(-1, 8) if low <= 10.0**power <= high]
    axis = {"scale": alt.Scale(type="log", domain=ends, nice=False), "axis": alt.Axis(values=decades, format=",")}
    every = max(1, -(-len(rows) // _MOST_POINTS))
    points = rows.sort("latency_us", "id").gather_every(every).select("latency_us", "predicted_us", "engine")
    dots = (
        alt.Chart(alt.Data(values=points.to_dicts()))
        .mark_circle(size=7, opacity=0.5, aria=False)
        .encode(
            x=alt.X("latency_us:Q", title="measured / µs", **axis),
            y=alt.Y("predicted_us:Q", title="predicted / µs", **axis),
            color=color,
        )
    )
    line = (
        alt.Chart(alt.Data(values=[{"x": end, "y": end} for end in ends]))
        .mark_line(color=MUTED, strokeWidth=0.7)
        .encode(x="x:Q", y="y:Q")
    )
    return (dots + line).properties(width=_PANEL, height=_PANEL, title=gpu)

"""Figures by Altair, drawn to SVG without a browser; the packages are an extra of gpusim's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from gpusim.errors import SpecError

if TYPE_CHECKING:
    import altair as alt

_MOST_POINTS: Final = 1000
"""Drawn in one panel, spread evenly over what there is."""
_PANEL: Final = 190
"""Width and height in pixels."""
LOOK: Final = {"background": "white", "font": "system-ui, sans-serif", "view": {"stroke": "#999"}}
"""Of all figures."""


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


def scatter(rows: pl.DataFrame, title: str) -> str:
    """Return measured against predicted times as SVG, a panel for each GPU, a colour for each engine.

    Args:
        rows: Scored rows: gpu, engine, predicted_us, latency_us, core.
        title: Above the figure.
    """
    alt = need_altair()
    low, high = _range(rows)
    decades = [10.0**power for power in range(-1, 8) if low <= 10.0**power <= high]
    axis = {
        "scale": alt.Scale(type="log", domain=[low, high], nice=False),
        "axis": alt.Axis(values=decades, format=","),
    }
    panels = [_panel(alt, part, str(gpu), axis, [low, high]) for (gpu,), part in sorted(rows.group_by("gpu"))]
    return to_svg(alt.concat(*panels, columns=4, title=title).configure(**LOOK))


def to_svg(chart: alt.TopLevelMixin) -> str:
    """Draw *chart*."""
    import vl_convert  # noqa: PLC0415

    svg: str = vl_convert.vegalite_to_svg(chart.to_dict())
    return svg


def _engine_colour(alt: Any, rows: pl.DataFrame) -> Any:
    """Return a colour for each engine, with a legend where the table names any."""
    scale = alt.Scale(scheme="tableau10")
    if rows["engine"].unique().to_list() == [""]:
        return alt.Color("engine:N", scale=scale, legend=None)
    return alt.Color("engine:N", title="engine", scale=scale)


def _range(rows: pl.DataFrame) -> tuple[float, float]:
    values = pl.concat([rows["predicted_us"], rows["latency_us"]])
    return float(values.min()) * 0.8, float(values.max()) * 1.25  # type: ignore[arg-type]


def _panel(alt: Any, rows: pl.DataFrame, gpu: str, axis: dict[str, Any], ends: list[float]) -> Any:
    every = max(1, -(-len(rows) // _MOST_POINTS))
    points = rows.sort("latency_us", "id").gather_every(every).select("latency_us", "predicted_us", "engine")
    dots = (
        alt.Chart(alt.Data(values=points.to_dicts()))
        .mark_circle(size=7, opacity=0.5, aria=False)
        .encode(
            x=alt.X("latency_us:Q", title="measured / µs", **axis),
            y=alt.Y("predicted_us:Q", title="predicted / µs", **axis),
            color=_engine_colour(alt, rows),
        )
    )
    line = (
        alt.Chart(alt.Data(values=[{"x": end, "y": end} for end in ends]))
        .mark_line(color="black", strokeWidth=0.7)
        .encode(x="x:Q", y="y:Q")
    )
    return (dots + line).properties(width=_PANEL, height=_PANEL, title=gpu)

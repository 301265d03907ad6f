"""The figures of runs, by name: one definition each for the page, for files and for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from gpusim.errors import SpecError
from gpusim.files import write_whole
from gpusim.report.figures import need_altair
from gpusim.report.labels import short
from gpusim.report.percentile_figure import percentiles
from gpusim.report.step_time_figure import step_time
from gpusim.report.theme import LOOK
from gpusim.report.timeline_figure import timeline_panels
from gpusim.report.topology_figure import topology
from gpusim.results.result import Result

Runs: TypeAlias = "Mapping[str, Result]"
"""Results by the name they have in figures and tables."""

WIDE: Final = 1080
NARROW: Final = 356
"""Widths of figures, in pixels: on a page of 1280 and of 400."""

COMMON: Final[Mapping[str, Callable[[Runs, int], Any]]] = {"percentiles": percentiles, "step_time": step_time}
"""Figures that show several runs at once."""
SINGLE: Final[Mapping[str, Callable[[Result, int], Any]]] = {"timeline": timeline_panels, "topology": topology}
"""Figures of one run."""
FIGURES: Final = (*COMMON, *SINGLE)


def figure(name: str, runs: Runs, width: int = WIDE) -> Any:
    """Return an Altair chart.

    Args:
        name: One of `FIGURES`.
        runs: One; or several, of figures that show several.
        width: In pixels, everything included.

    Raises:
        SpecError: If there is no such figure, it shows one run only, or Altair is not installed.
    """
    need_altair()
    if name in COMMON:
        labels = short(list(runs))
        return COMMON[name]({labels[run]: result for run, result in runs.items()}, width).configure(**LOOK)
    if name not in SINGLE:
        raise SpecError(f"there is no figure {name!r}; choose from {', '.join(FIGURES)}")
    if len(runs) != 1:
        raise SpecError(f"the figure {name!r} is of one run, not of {len(runs)}")
    (result,) = runs.values()
    return SINGLE[name](result, width).configure(**LOOK)


def write_figures(runs: Runs, folder: Path, suffix: str) -> list[Path]:
    """Write every figure of *runs* to *folder* as NAME.svg or NAME.png, as *suffix* says; those of one run as RUN-NAME.

    Returns:
        The files.

    Raises:
        SpecError: If one cannot be written.
    """
    charts = {name: figure(name, runs) for name in COMMON}
    charts |= {f"{run}-{name}": figure(name, {run: result}) for run, result in runs.items() for name in SINGLE}
    paths = {folder / f"{name.replace('/', '_')}.{suffix}": chart for name, chart in charts.items()}
    for path, chart in paths.items():
        write_whole(path, lambda target, chart=chart: chart.save(target, format=suffix))  # type: ignore[misc]
    return list(paths)


def plot(result: Result, name: str = "percentiles", width: int = 720) -> Any:
    """Return the figure *name* of *result*, see `figure`."""
    return figure(name, {result.record.scenario.get("name") or "run": result}, width)

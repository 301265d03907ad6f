"""The page of `gpusim validate silicon --html`: errors and scatter plots, one file that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from gpusim.report.figures import scatter
from gpusim.report.page import heading, paragraph, table, write_html
from gpusim.report.silicon import TITLES, percentages
from gpusim.report.theme import style
from gpusim.silicon.scores import reasons, scored, scores
from gpusim.spelling import counted
from gpusim.version import __version__

_WORDS: Final = frozenset({"kind", "gpu", "engine", "region", "reason"})


def write_page(rows: pl.DataFrame, path: Path, name: str) -> None:
    """Write the page of predicted *rows* of the folder called *name*.

    Raises:
        SpecError: If *path* cannot be written.
    """
    both = scored(rows)
    parts = [heading(1, f"Predicted and measured: {name}"), _introduction(rows)]
    for (kind,), part in sorted(both.group_by("kind")):
        parts.append(heading(2, str(kind)))
        parts.append(scatter(part, f"{kind}-"))
        tables = (scores(part, *by).iter_rows(named=True) for by in (("gpu", "engine"), ("gpu", "region")))
        parts += [table([percentages(row) for row in found], TITLES, _WORDS, stacks=True) for found in tables]
    without = reasons(rows)
    if len(without):
        parts += [heading(2, "Without a prediction"), table(without.to_dicts(), TITLES, _WORDS, stacks=True)]
    write_html(path, name, parts, style())


def _introduction(rows: pl.DataFrame) -> str:
    predicted = rows["predicted_us"].is_not_null().sum()
    return paragraph(
        f"gpusim {__version__}: {predicted} of {counted(len(rows), 'row')} predicted. Errors are predicted / measured - 1; "
        "MAPE: mean of their size, p90: its 90th percentile, bias: median of the signed error. Core rows are those that the "
        "data's README calls so. On the line a prediction is right."
    )

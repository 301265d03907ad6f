"""The page of `gpusim validate silicon --html`: errors and scatter plots, one file that opens offline."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Final

import polars as pl

from gpusim.errors import SpecError
from gpusim.report.figures import scatter
from gpusim.report.silicon import TITLES, percentages
from gpusim.silicon.scores import reasons, scored, scores
from gpusim.version import __version__

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 2rem auto; max-width: 1200px; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; margin: 0.5rem 0 1.5rem }
td, th { padding: 0.15rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td.word, th.word { text-align: left }
th { position: sticky; top: 0; background: #f4f4f4 }
.scroll { overflow-x: auto }
svg { max-width: 100%; height: auto }
"""
_WORDS: Final = frozenset({"kind", "gpu", "engine", "region", "reason"})


def write_page(rows: pl.DataFrame, path: Path, name: str) -> None:
    """Write the page of predicted *rows* of the folder called *name*.

    Raises:
        SpecError: If *path* cannot be written.
    """
    both = scored(rows)
    parts = [f"<h1>Predicted and measured: {escape(name)}</h1>", _introduction(rows)]
    for (kind,), part in sorted(both.group_by("kind")):
        parts.append(f"<h2>{escape(str(kind))}</h2>")
        parts.append(scatter(part, ""))
        tables = (scores(part, *by).iter_rows(named=True) for by in (("gpu", "engine"), ("gpu", "region")))
        parts += [_table([percentages(row) for row in table]) for table in tables]
    without = reasons(rows)
    if len(without):
        parts += ["<h2>Without a prediction</h2>", _table(without.to_dicts())]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>gpusim: {escape(name)}</title>'
    page = f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{"".join(parts)}</body></html>\n'
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror or error}") from None


def _introduction(rows: pl.DataFrame) -> str:
    predicted = rows["predicted_us"].is_not_null().sum()
    return (
        f"<p>gpusim {__version__}: {predicted} of {len(rows)} rows predicted. Errors are predicted / measured - 1; "
        "MAPE: mean of their size, p90: its 90th percentile, bias: median of the signed error. Core rows are those that the "
        "data's README calls so. On the line a prediction is right.</p>"
    )


def _table(rows: list[dict[str, object]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th{_kind(key)}>{escape(TITLES.get(key, key))}</th>" for key in rows[0])
    body = "".join(f"<tr>{''.join(_cell(key, value) for key, value in row.items())}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(key: str, value: object) -> str:
    return f"<td{_kind(key)}>{'' if value is None else escape(str(value))}</td>"


def _kind(key: str) -> str:
    return ' class="word"' if key in _WORDS else ""

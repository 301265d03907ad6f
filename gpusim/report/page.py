"""Parts of pages: one HTML file that opens offline, with its style, tables and figures in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from gpusim.files import write_text

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 2rem auto; max-width: 1200px; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; margin: 0.5rem 0 1.5rem }
td, th { padding: 0.15rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td.word, th.word { text-align: left }
th { position: sticky; top: 0; background: #f4f4f4 }
.scroll { overflow-x: auto }
svg { max-width: 100%; height: auto }
"""


def write_html(path: Path, title: str, parts: Sequence[str], style: str = "") -> None:
    """Write the page called *title* whose body is *parts*, which are HTML; *style* is CSS of its own.

    Raises:
        SpecError: If *path* cannot be written.
    """
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>gpusim: {escape(title)}</title>'
    page = f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}{style}</style></head><body>{"".join(parts)}</body></html>\n'
    write_text(path, page)


def heading(level: int, text: str) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def table(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], words: Collection[str]) -> str:
    """Return *rows* as a table; nothing without rows.

    Args:
        rows: Each with the same keys, in the order of the columns.
        titles: Of columns, where the key is none.
        words: Keys of columns that hold words, not numbers.
    """
    if not rows:
        return ""
    kinds = {key: ' class="word"' if key in words else "" for key in rows[0]}
    head = "".join(f"<th{kind}>{escape(titles.get(key, key))}</th>" for key, kind in kinds.items())
    body = "".join(f"<tr>{''.join(_cell(row[key], kind) for key, kind in kinds.items())}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object, kind: str) -> str:
    return f"<td{kind}>{'' if value is None else escape(str(value))}</td>"

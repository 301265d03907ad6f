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
.panels { display: flex; flex-wrap: wrap; gap: 0.5rem 1.5rem; align-items: flex-start }
@media (max-width: 640px) {
  .panels svg { width: 100% }
  h1 { font-size: 1.5rem; line-height: 1.3 }
  h1, h2, h3, p { overflow-wrap: anywhere }
  .stack, .stack tbody, .stack tr { display: block }
  .stack thead, .stack td:empty { display: none }
  .stack tr { border-bottom: 1px solid #8886; padding: 0.35rem 0 }
  .stack td { display: inline-block; border: 0; padding: 0 0.9rem 0 0; text-align: left; white-space: normal; overflow-wrap: anywhere }
  .stack td::before { content: attr(data-title) "\\a0"; opacity: 0.7 }
  .stack td:first-child { display: block; font-weight: 600 }
  .stack td.word:first-child::before { content: none }
}
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


def table(
    rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], words: Collection[str], *, stacks: bool = False
) -> str:
    """Return *rows* as a table; nothing without rows.

    Args:
        rows: Each with the same keys, in the order of the columns.
        titles: Of columns, where the key is none.
        words: Keys of columns that hold words, not numbers.
        stacks: On a narrow screen each row becomes a few lines under its first cell; else the table scrolls sideways.
    """
    if not rows:
        return ""
    shown = {key: titles.get(key, key) for key in rows[0]}
    kinds = {key: ' class="word"' if key in words else "" for key in shown}
    labels = {key: f' data-title="{escape(title)}"' if stacks else "" for key, title in shown.items()}
    head = "".join(f"<th{kinds[key]}>{escape(title)}</th>" for key, title in shown.items())
    body = "".join(
        f"<tr>{''.join(_cell(row[key], kind + labels[key]) for key, kind in kinds.items())}</tr>" for row in rows
    )
    stack = ' class="stack"' if stacks else ""
    return f'<div class="scroll"><table{stack}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object, attributes: str) -> str:
    return f"<td{attributes}>{'' if value is None else escape(str(value))}</td>"

"""Pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; line breaks and bars in cells do not break it."""
    return "\n".join(_row(cells) for cells in (head, ["---"] * len(head), *rows)) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def code(text: str) -> str:
    """Return *text* as code, or nothing of nothing."""
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Return text of a docstring with its double backticks made Markdown's single ones."""
    return text.replace("``", "`").strip()

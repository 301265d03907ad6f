"""Tables as wide as their console: words are wrapped, then columns stand below one another; no number is ever cut."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

PROSE: Final = 20
"""Longer text in a table is wrapped, to no less than this."""
_LONG_PROSE: Final = 30
"""Longer text is wrapped before columns go below one another."""
_GAP: Final = 2
"""Between columns; 1 where that is what brings all of them beside one another."""
_PIECES: Final = re.compile(r"[+-]?\d\S* (?:%|to\b)|\S+")
"""What is not wrapped: words, and numbers with what belongs to them."""
_KEYS: Final = re.compile(r"[^._]+[._]?")
"""Where a title that is a key may be parted."""


def new_table() -> Table:
    """Return a table without rows or columns, in the style of all."""
    from rich import box  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def print_table(console: Console, table: Table, title: str | None, *, num_labels: int = 1) -> None:
    """Print *table* no wider than *console* if that can be.

    Args:
        console: Where it goes.
        table: Its numbers are justified to the right.
        title: Printed above it.
        num_labels: Columns at its left that say what a row is: where columns stand below one another, each part has them.
    """
    if title:
        console.print(title, markup=False, highlight=False)
    columns = [_Column.of(*each) for each in _texts(table)]
    for each, column in zip(columns, table.columns, strict=True):
        if column.no_wrap:
            column.min_width = each.natural
    if _least(console, table) <= console.width:
        console.print(table, crop=False)
        return
    least = [column.least for column in columns]
    gap = 1 if _total(least, 1) <= console.width < _total(least, _GAP) else _GAP
    parts = [columns] if _total(least, gap) <= console.width else _parts(columns, num_labels, console.width)
    for part in parts:
        console.print()
        console.print(_Whole(_narrow(part, gap, console.width)), crop=False)
    console.print()


def stacked(lines: Sequence[str], height: int) -> str:
    """Put *lines* at the foot of a title of *height* lines."""
    return "\n".join([*[""] * (height - len(lines)), *lines])


def _texts(table: Table) -> Iterator[tuple[str, list[str], bool]]:
    """Yield the title of each column, its cells, and whether they are numbers."""
    for column in table.columns:
        yield str(column.header), [str(cell) for cell in column.cells], column.justify == "right"


def _least(console: Console, table: Table) -> int:
    from rich.measure import Measurement  # noqa: PLC0415 - slow to import

    return Measurement.get(console, console.options.update(max_width=10_000), table).minimum


@dataclass(frozen=True, slots=True)
class _Column:
    """A column by its texts, and the widths it can have."""

    title: str
    cells: list[str]
    is_numeric: bool
    natural: int
    """Of its longest line."""
    easy: int
    """Of its cells as they are, prose wrapped, and the longest piece of its title."""
    least: int
    """Of the longest piece of its title and cells."""

    @classmethod
    def of(cls, title: str, cells: list[str], is_numeric: bool) -> _Column:
        widest = max(map(len, cells), default=0)
        words = title.split()
        pieces = [0 if is_numeric else len(piece) for cell in cells for piece in _PIECES.findall(cell)]
        in_cells = widest if is_numeric else max(pieces, default=0)
        in_title = max((len(piece) for word in words for piece in _KEYS.findall(word)), default=0)
        prose = PROSE if widest > PROSE else 0
        return cls(
            title,
            cells,
            is_numeric,
            natural=max([widest, *map(len, words)]),
            easy=max(in_title, in_cells, min(widest, _LONG_PROSE)),
            least=max(in_title, in_cells, prose),
        )

    def titled(self, width: int) -> list[str]:
        """Return the lines of the title: a word each, a key that is wider than *width* in pieces."""
        lines: list[str] = []
        for word in self.title.split():
            line = ""
            for piece in _KEYS.findall(word):
                if line and len(line) + len(piece) > width:
                    lines.append(line)
                    line = ""
                line += piece
            lines.append(line)
        return lines


def _parts(columns: Sequence[_Column], num_labels: int, width: int) -> Iterator[list[_Column]]:
    """Yield the first columns with as many of the others as fit beside them, one at least, until all are."""
    labels = list(columns[:num_labels])
    part = labels
    for column in columns[num_labels:]:
        if len(part) > num_labels and _total([each.easy for each in (*part, column)], _GAP) > width:
            yield part
            part = labels
        part = [*part, column]
    yield part


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _narrow(columns: Sequence[_Column], gap: int, width: int) -> Table:
    """Return a table of *columns*, the widest of which are wrapped until it is no wider than *width*."""
    from rich.text import Text  # noqa: PLC0415 - slow to import

    widths = [column.natural for column in columns]
    while _total(widths, gap) > width:
        spare = [index for index, column in enumerate(columns) if widths[index] > column.least]
        if not spare:
            break
        widths[max(spare, key=lambda index: widths[index])] -= 1
    titles = [column.titled(size) for column, size in zip(columns, widths, strict=True)]
    height = max(map(len, titles), default=0)
    table = new_table()
    table.show_edge = table.pad_edge = False
    table.padding = (0, gap - 1, 0, 0)
    for column, size, lines in zip(columns, widths, titles, strict=True):
        table.add_column(
            Text(stacked(lines, height)), justify="right" if column.is_numeric else "left", width=size, overflow="fold"
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        # Text, for square brackets in a string would be taken for markup.
        table.add_row(*map(Text, row))
    return table


class _Whole:
    """A table that is wider than the console where it cannot be narrower."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = _least(console, self._table)
        yield from console.render(self._table, options.update(width=max(needed, options.max_width)))

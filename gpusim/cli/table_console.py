"""What tables are printed on; of its own because rich takes long to import."""

from __future__ import annotations

from rich.console import Console


class TableConsole(Console):
    """A console that lets the program say how it ends when nobody reads its output."""

    def on_broken_pipe(self) -> None:
        """Raise the error that rich has caught."""
        raise BrokenPipeError

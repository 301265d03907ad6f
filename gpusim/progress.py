"""Progress of anything that takes longer than two seconds: on stderr, and only on a terminal."""

from __future__ import annotations

import sys
from threading import Timer
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

DELAY_S = 2.0


class Progress:
    """A bar that appears after two seconds, whether or not anything is done by then.

    Args:
        what: What is counted.
        total: How many there will be, if known.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._done = 0
        self._total = total
        self._timer = Timer(DELAY_S, self._show)
        self._timer.daemon = True
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer.ident is not None:
            self._timer.cancel()
            self._timer.join()
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        """Say how many are done."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=self._total)

    def update_of(self, done: int, total: int) -> None:
        """Say how many of *total* are done."""
        self._total = total
        self.update(done)

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only when something is slow
        from rich.progress import MofNCompleteColumn, TimeRemainingColumn  # noqa: PLC0415
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        columns = (*RichProgress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        bar.add_task(self._what, completed=self._done, total=self._total)
        bar.start()
        self._bar = bar

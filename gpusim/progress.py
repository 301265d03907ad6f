"""Progress of anything that takes longer than two seconds: on stderr, and only on a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

DELAY_S = 2.0


class Progress:
    """A bar that appears after two seconds.

    Args:
        what: What is counted.
        total: How many there will be, if known.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._began_s = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        """Say how many are done."""
        if self._bar is None:
            if not sys.stderr.isatty() or time.monotonic() - self._began_s < DELAY_S:
                return
            self._show()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=self._total)

    def update_of(self, done: int, total: int) -> None:
        """Say how many of *total* are done."""
        self._total = total
        self.update(done)

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only when something is slow
        from rich.progress import MofNCompleteColumn, TimeRemainingColumn  # noqa: PLC0415
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        columns = (*RichProgress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._what, total=self._total)
        self._bar.start()

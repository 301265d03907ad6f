"""Progress of anything that takes longer than two seconds: on stderr, and only on a terminal."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from threading import Timer
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

DELAY_S = 2.0
_REFRESH_S: Final = 0.1

silent: ContextVar[bool] = ContextVar("silent", default=False)
"""Whether stderr is for errors only."""


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
        self._start_s = self._drawn_s = monotonic()
        self._timer = Timer(DELAY_S, self._show)
        self._timer.daemon = True
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        self._start_s = monotonic()
        if sys.stderr.isatty() and not silent.get():
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
        if self._bar is not None and (now_s := monotonic()) - self._drawn_s >= _REFRESH_S:
            self._drawn_s = now_s
            self._bar.update(self._bar.task_ids[0], completed=done, total=self._total, pace=self._pace(now_s))

    def update_of(self, done: int, total: int) -> None:
        """Say how many of *total* are done."""
        self._total = total
        self.update(done)

    def _pace(self, now_s: float) -> str:
        return pace(self._what, self._done, self._total, now_s - self._start_s)

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only when something is slow
        from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        columns = (
            *RichProgress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[pace]}"),
        )
        bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        bar.add_task(self._what, completed=self._done, total=self._total, pace=self._pace(monotonic()))
        bar.start()
        self._bar = bar


def pace(what: str, done: int, total: int | None, elapsed_s: float) -> str:
    """Say how fast *what* gets done and, where the total is known, how long the rest takes at the mean rate so far.

    Args:
        what: What is counted, in the plural.
        done: How many are done.
        total: How many there will be, if known.
        elapsed_s: Since the start.
    """
    if not done or elapsed_s <= 0.0:
        return ""
    rate_per_s = done / elapsed_s
    rate = f"{rate_per_s:.3g} {what}/s" if rate_per_s >= 1.0 else f"{60.0 * rate_per_s:.3g} {what}/min"
    if total is None or total <= done:
        return rate
    minutes, seconds = divmod(round((total - done) / rate_per_s), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{rate}, {left} left"

"""Work in several processes, which end with the one that asked for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from threading import Thread


@contextmanager
def worker_pool(processes: int) -> Iterator[Executor]:
    """Return an executor of so many *processes*.

    Leaving it by an exception, as Ctrl-C is, ends them at once, and so does the end of this process, however it ends.
    """
    context = get_context("spawn")  # threads of the table library must not be forked
    # Nothing is ever sent: workers see that the only end to write to is closed, if need be by the system.
    theirs, ours = context.Pipe(duplex=False)
    with (
        theirs,
        ours,
        ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(theirs,)) as pool,
    ):
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            ours.close()
            raise


def _begin(line: Connection) -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one that asked, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    wait([line])
    os._exit(1)

"""Work in several processes, which end with the one that asked for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context


@contextmanager
def worker_pool(processes: int) -> Iterator[Executor]:
    """Return an executor of so many *processes*; leaving it by an exception, as Ctrl-C is, ends them at once."""
    others = set(active_children())
    # Threads of the table library must not be forked.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_leave_interrupts) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - others:
                process.terminate()
            raise


def _leave_interrupts() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one that asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

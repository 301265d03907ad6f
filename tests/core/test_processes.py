"""Workers end with the process that asked for them, however it ends, and with nobody else's pool."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

import pytest

from gpusim.core.processes import worker_pool

BUSY = r"import os, time; os.write(1, b'busy\n'); time.sleep(60)"
ASKING = f"""
from gpusim.core.processes import worker_pool
with worker_pool(2) as pool:
    for future in [pool.submit(exec, {BUSY!r}) for _ in range(2)]:
        future.result()
"""


@pytest.fixture
def asking():
    """Return a process with two workers at work; its stdout stays open as long as it or one of them lives."""
    command = [sys.executable, "-c", ASKING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert [process.stdout.readline() for _ in range(2)] == [b"busy\n"] * 2
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_who_asked(asking, number):
    """Also where it is killed and can do nothing about it; of Ctrl-C, which a terminal sends to all, only it speaks."""
    send = os.killpg if number == signal.SIGINT else os.kill
    send(asking.pid, number)
    err = asking.communicate(timeout=5)[1]
    assert err.count(b"Traceback") == (number == signal.SIGINT)


def test_workers_of_another_pool_live_on():
    """An exception ends the workers of the pool it leaves, not those that somebody else began after them."""
    one = worker_pool(1)
    busy = one.__enter__().submit(time.sleep, 60)
    with worker_pool(1) as other:
        kept = other.submit(time.sleep, 0.5)
        assert not one.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        with pytest.raises(BrokenProcessPool):
            busy.result(timeout=10)
        assert kept.result() is None

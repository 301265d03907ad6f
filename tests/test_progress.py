"""The bar on stderr."""

import io
import sys
import time

import pytest

from gpusim import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream, duration_s) -> str:
    """Return what something that takes *duration_s* writes to stderr, with a bar that waits 50 ms."""
    monkeypatch.setattr(progress, "DELAY_S", 0.05)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    with progress.Progress("requests", 7) as bar:
        bar.update(2)
        time.sleep(duration_s)
        bar.update(3)
    return stream.getvalue()


def test_a_terminal_sees_a_bar_only_if_it_takes_long(monkeypatch):
    """Nothing flickers by in a short run; a long one shows what is counted, how fast, and what is left."""
    assert not shown(monkeypatch, Terminal(), 0)
    text = shown(monkeypatch, Terminal(), 0.5)
    assert "requests" in text
    assert "2/7" in text
    assert "left" in text


def test_a_file_gets_no_bar(monkeypatch):
    """Logs stay clean."""
    assert not shown(monkeypatch, io.StringIO(), 0.2)


def test_quiet_means_no_bar(monkeypatch):
    """Not on a terminal either."""
    before = progress.silent.set(True)
    assert not shown(monkeypatch, Terminal(), 0.2)
    progress.silent.reset(before)


@pytest.mark.parametrize(
    ("done", "total", "elapsed_s", "expected"),
    [
        (0, 10, 5.0, ""),
        (300, None, 2.0, "150 points/s"),
        (100, 400, 10.0, "10 points/s, 0:30 left"),
        (2, 5, 120.0, "1 points/min, 3:00 left"),
        (1, 8, 3600.0, "0.0167 points/min, 7:00:00 left"),
        (5, 5, 10.0, "30 points/min"),
    ],
)
def test_pace_is_the_mean_so_far(done, total, elapsed_s, expected):
    """It is done / elapsed, for a minute where less than one is done in a second; the rest takes (total - done) / rate."""
    assert progress.pace("points", done, total, elapsed_s) == expected

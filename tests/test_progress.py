"""The bar on stderr."""

import io
import sys
import time

from gpusim import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream, duration_s) -> str:
    """Return what something that takes *duration_s* writes to stderr, with a bar that waits 50 ms."""
    monkeypatch.setattr(progress, "DELAY_S", 0.05)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Progress("requests", 7) as bar:
        bar.update(2)
        time.sleep(duration_s)
        bar.update(3)
    return stream.getvalue()


def test_a_terminal_sees_a_bar_only_if_it_takes_long(monkeypatch):
    """Nothing flickers by in a short run; a long one shows what is counted, before the next thing is done."""
    assert not shown(monkeypatch, Terminal(), 0)
    assert "requests" in shown(monkeypatch, Terminal(), 0.5)


def test_a_file_gets_no_bar(monkeypatch):
    """Logs stay clean."""
    assert not shown(monkeypatch, io.StringIO(), 0.2)

"""The pytest plugin: fixture `gpusim`, option ``--gpusim-update``.

pytest loads it wherever gpusim is installed, so nothing but pytest is imported before a test asks for the fixture. It
asserts nothing, so there is nothing to rewrite: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gpusim.regression.fixture import GpusimFixture, Written

_WRITTEN: pytest.StashKey[list[Written]] = pytest.StashKey()
"""Of a test: the baselines it wrote."""
_ATTRIBUTE = "gpusim_baselines"
"""Of a report: the same."""
_UPDATE = "--gpusim-update"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that accepts what was simulated."""
    text = "write what was simulated into the baselines of gpusim.assert_latency instead of comparing; review the diff"
    parser.getgroup("gpusim").addoption(_UPDATE, action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Note who writes which baseline, where any is to be written."""
    if config.getoption(_UPDATE):
        config.pluginmanager.register(_Writers(config.invocation_params.dir), "gpusim-writers")


@pytest.fixture
def gpusim(request: pytest.FixtureRequest) -> GpusimFixture:
    """Simulate scenarios, and hold their latencies against baselines."""
    from gpusim.regression.fixture import GpusimFixture  # noqa: PLC0415 - only where a test asks for it

    config, node = request.config, request.node
    file = os.path.relpath(node.path, config.invocation_params.dir)
    test = "::".join([file.replace(os.sep, "/"), *node.nodeid.split("::")[1:]])
    accept = f"pytest {_UPDATE} {shlex.quote(test)}"
    fixture = GpusimFixture(node.path.parent, accept, update=bool(config.getoption(_UPDATE)))
    node.stash[_WRITTEN] = fixture.written
    return fixture


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report of a test carry the baselines it wrote, also from a worker of xdist."""
    report = yield
    setattr(report, _ATTRIBUTE, item.stash.get(_WRITTEN, []))
    return report


class _Writers:
    """Of a session that updates: which test wrote which baseline. Workers of xdist report to the main process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state_of: dict[str, str] = {}
        self._writers_of: dict[str, dict[str, str]] = {}
        """By path and text that was written, the test."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what a test wrote."""
        if report.when == "teardown":
            for path, state, text in getattr(report, _ATTRIBUTE, []):
                self._state_of.setdefault(path, state)
                self._writers_of.setdefault(path, {})[text] = report.nodeid

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail if two tests wrote different things into one file: the next run would fail."""
        if self._contested() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name every baseline that was written."""
        if self._state_of:
            terminalreporter.section("gpusim baselines")
        for path, state in sorted(self._state_of.items()):
            terminalreporter.line(f"{state.ljust(len('unchanged'))}  {os.path.relpath(path, self._folder)}")
        for path in self._contested():
            tests = " and ".join(sorted(self._writers_of[path].values()))
            text = f"error: {os.path.relpath(path, self._folder)} was written by {tests}, differently; name a file for each"
            terminalreporter.line(text, red=True)

    def _contested(self) -> list[str]:
        return sorted(path for path, writers in self._writers_of.items() if len(writers) > 1)

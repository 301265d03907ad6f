"""The fixture `gpusim` of the pytest plugin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from gpusim.errors import GpusimError
from gpusim.plan import load
from gpusim.regression.baseline import Baseline, read_baseline
from gpusim.regression.comparison import ATOL_S, RTOL, Tolerance, moves
from gpusim.regression.message import describe, missing
from gpusim.results.quantity import in_seconds
from gpusim.results.result import Result
from gpusim.simulation import simulate
from gpusim.spec.scenario import Scenario

Written: TypeAlias = tuple[str, str, str]
"""A baseline that was written: path; ``new``, ``changed`` or ``unchanged``; digest of its text."""


@dataclass(frozen=True, slots=True)
class GpusimFixture:
    """What a test of simulated latency needs. Relative paths are taken from the folder of the test's file.

    Args:
        folder: Of the test's file.
        accept: The command that runs this test and makes what it finds the baselines.
        update: Whether it was given.
        written: Filled with the baselines that were written.
    """

    folder: Path
    accept: str
    update: bool
    written: list[Written] = field(default_factory=list)

    def __repr__(self) -> str:
        return "<fixture of gpusim>"

    def load(self, source: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Scenario:
        """Read a scenario: a file beside the test, else what `gpusim.load` finds under that name or path."""
        beside = self.folder / source
        return load(beside if beside.is_file() else source, overrides=overrides)

    def simulate(self, scenario: Scenario | str | Path, *, overrides: Mapping[str, Any] | None = None) -> Result:
        """Run *scenario*, or what `load` reads under that name or path with *overrides* set in it.

        Raises:
            GpusimError: If the scenario is wrong, or none of its requests can run.
            KeyboardInterrupt: If the user stopped it; half a run is nothing to test.
        """
        if not isinstance(scenario, Scenario):
            scenario = self.load(scenario, overrides=overrides)
        elif overrides:
            raise TypeError("overrides are for a scenario by name or path; give them to gpusim.load")
        result = simulate(scenario)
        if not result.record.complete:
            raise KeyboardInterrupt
        return result

    def assert_latency(
        self,
        result: Result,
        baseline: str | Path,
        *,
        rtol: float = RTOL,
        atol: float | str = ATOL_S,
        rtol_of: Mapping[str, float] | None = None,
    ) -> None:
        """Hold *result* against a file, to both sides; ``pytest --gpusim-update`` writes the file instead.

        Args:
            result: Of `simulate`, `gpusim.simulate` or `gpusim.read_result`.
            baseline: Path of the file.
            rtol: How far metrics may be from it, as part of their value there.
            atol: How far latencies may be from it in any case; seconds or text such as ``"10 us"``.
            rtol_of: Other *rtol* by metric (``{"itl.p99": 0.05}``) or latency (``{"queue": 0.2}``).

        Raises:
            AssertionError: If there is no baseline, it cannot be read, something moved, or the run was stopped early.
            SpecError: If a tolerance is wrong.
        """
        __tracebackhide__ = True  # pytest then shows the line of the test
        if not result.record.complete:
            raise AssertionError("the run was stopped before its end; simulate it again")
        now = Baseline.of(result)
        tolerance = Tolerance(rtol, in_seconds(atol), rtol_of or {})
        tolerance.check(now)
        path = self.folder / baseline
        message = self._written(path, now) if self.update else self._moved(path, now, tolerance)
        if message:
            raise AssertionError(message)

    def _written(self, path: Path, now: Baseline) -> str:
        """Write the baseline; return what went wrong."""
        text = now.text()
        was = path.read_text(encoding="utf-8") if path.is_file() else None
        state = "new" if was is None else "unchanged" if was == text else "changed"
        try:
            if state != "unchanged":
                now.write(path)
        except GpusimError as error:
            return str(error)
        self.written.append((str(path.resolve()), state, hashlib.sha256(text.encode()).hexdigest()))
        return ""

    def _moved(self, path: Path, now: Baseline, tolerance: Tolerance) -> str:
        """Return what to say of what moved, nothing if nothing did."""
        name = _from_here(path)
        if not path.exists():
            return missing(name, self.accept)
        try:
            before = read_baseline(path)
        except GpusimError as error:
            return f"{error}:\n    {self.accept}"
        found = moves(before, now, tolerance)
        return describe(name, before, now, found, self.accept) if found else ""


def _from_here(path: Path) -> str:
    """Return *path* as one would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

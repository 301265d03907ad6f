"""A run by what a user calls it: the directory it was saved to, or a scenario that is simulated now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gpusim.errors import SpecError
from gpusim.plan import open_scenario, plan_document
from gpusim.results.result import Result
from gpusim.results.store import SCENARIO, SUMMARY
from gpusim.results.stored import read_result
from gpusim.simulation import OnFinished, Simulation
from gpusim.spec.folders import names
from gpusim.spelling import unknown_name

_SCENARIO_FILES: Final = frozenset({".yaml", ".yml", ".json"})
"""Endings of what can only be the file of a scenario."""


def open_run(
    source: str | Path, overrides: Mapping[str, Any] | None = None, *, on_finished: OnFinished | None = None
) -> Result:
    """Return the result of *source*.

    Args:
        source: The directory of a run (``gpusim run --out``), or the path or name of a scenario.
        overrides: Values to set by dotted path before a scenario is simulated; a saved run takes none.
        on_finished: Called with the number of requests that are over, while a scenario is simulated.

    Raises:
        GpusimError: If it is neither, or cannot be read or simulated.
    """
    path = Path(source)
    if is_saved(path):
        if overrides:
            raise SpecError(f"{path}: a saved run cannot be changed with --set; simulate {path / SCENARIO} with it")
        return read_result(path)
    if not path.is_file() and path.suffix not in _SCENARIO_FILES and str(source) not in names("example"):
        hint = unknown_name(str(source), names("example"), "example")
        raise SpecError(
            f"{source}: no saved run, which gpusim run SCENARIO --out {source} writes, and no scenario: {hint}"
        )
    return Simulation(plan_document(open_scenario(source, overrides)), on_finished=on_finished).run()


def is_saved(path: Path) -> bool:
    """Say whether *path* is meant for the directory of a saved run."""
    return path.is_dir() or path.name == SUMMARY

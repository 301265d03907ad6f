"""Window: which steps of a run a timeline shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.clock import seconds, ticks
from gpusim.errors import SpecError
from gpusim.results.step_log import StepLog

DEFAULT_STEPS: Final = 100
DEFAULT_S: Final = 1.0
"""What is shown where nobody says how much: the shorter of the two."""


@dataclass(frozen=True, slots=True)
class Window:
    """The steps that start at tick *first* or later, and before tick *behind*."""

    first: int
    behind: int
    last_end: int
    """Tick at which the last of them ends."""
    num_steps: int

    @property
    def between(self) -> tuple[float, float]:
        """The bounds in seconds, for `Simulation`."""
        return seconds(self.first), seconds(self.behind)


def find_window(steps: Mapping[str, StepLog], from_s: float | None, to_s: float | None) -> Window:
    """Return the window from *from_s* to *to_s* of a run.

    Args:
        steps: Of the run, by engine.
        from_s: None: from the first step on.
        to_s: None: as far as `DEFAULT_STEPS` and `DEFAULT_S` go.

    Raises:
        SpecError: If no step starts in it.
    """
    starts = np.sort(np.concatenate([log.starts for log in steps.values()]))
    if not len(starts):
        raise SpecError("the run has no steps to show")
    if from_s is not None and to_s is not None and to_s <= from_s:
        raise SpecError(f"--from {from_s:g} s --to {to_s:g} s: the timeline must end after it begins")
    first = int(starts[0]) if from_s is None else ticks(from_s)
    behind = _default_end(starts[starts >= first], first) if to_s is None else ticks(to_s)
    # As `Simulation` will read them.
    first, behind = ticks(seconds(first)), ticks(seconds(behind))
    shown = {name: (log.starts >= first) & (log.starts < behind) for name, log in steps.items()}
    num_steps = sum(int(mask.sum()) for mask in shown.values())
    if not num_steps:
        end = f"{seconds(behind):g} s"
        place = f"before {end}" if from_s is None else f"between {seconds(first):g} s and {end}"
        raise SpecError(
            f"no step starts {place}; the steps of this run start between "
            f"{seconds(int(starts[0])):g} s and {seconds(int(starts[-1])):g} s"
        )
    last_end = max(int(log.ends[shown[name]][-1]) for name, log in steps.items() if shown[name].any())
    return Window(first, behind, last_end, num_steps)


def _default_end(starts: np.ndarray[tuple[int], np.dtype[np.int64]], first: int) -> int:
    """Return the tick at which the step after the last of so many starts, or so many seconds are over."""
    limit = first + ticks(DEFAULT_S)
    return min(limit, int(starts[DEFAULT_STEPS])) if len(starts) > DEFAULT_STEPS else limit

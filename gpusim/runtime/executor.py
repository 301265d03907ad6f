"""Executors: they play runs of steps on the cluster, and say how the runs went."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import simpy

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import TICKS_PER_S, seconds
from gpusim.model.step import StepProgram


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run of steps as it went."""

    start: int
    """Tick at which the first step started."""
    ends: IntArray
    """(steps,) Tick at which each step ended; fewer than asked for where the run was cut."""
    attribution_ps: IntArray
    """(categories,) Ticks of all steps; they sum to the run's duration."""
    bound_ps: int
    """What the steps take at least: weights, KV, FLOPs and collectives at peak, one after the other."""
    is_folded: bool = False
    """Whether it was timed without being played."""

    @property
    def attribution_s(self) -> FloatArray:
        """(categories,) `attribution_ps` in seconds."""
        seconds_by: FloatArray = self.attribution_ps / TICKS_PER_S
        return seconds_by

    @property
    def bound_s(self) -> float:
        """`bound_ps` in seconds."""
        return seconds(self.bound_ps)


class Executor(Protocol):
    """Plays runs of steps; one run at a time."""

    def run(
        self, program: StepProgram, *, kv_channels: Sequence[FloatArray] | None = None
    ) -> Generator[simpy.Event, Any, RunResult]:
        """Play all steps of *program*, or those up to the step during which `cut` was called.

        Args:
            program: The steps.
            kv_channels: (steps, channels) of each kind of KV, fraction of the batch's on each memory channel; None: alike
                on all.
        """
        ...

    def cut(self, *, in_flight: int = 0) -> None:
        """End the current run, if there is one, with the step that is being played, or *in_flight* steps later."""
        ...

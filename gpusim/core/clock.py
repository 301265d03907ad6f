"""The simulation clock: integer picoseconds on a SimPy environment.

Durations are float seconds until a component waits; there they are rounded, once, to ticks of a picosecond.
Sums of ticks are exact, so folding many waits into one changes nothing, at t = 10⁶ s as at 0.

Ties are ordered by kind, never by who was created first: at one tick everything that *completes* comes first, then
*arrivals*, then *decisions* (an engine fixing its next batch), then what engines do *together*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.errors import SimulationError
from gpusim.units import LONGEST_S

TICKS_PER_S: Final = 10**12

COMPLETION: Final = 1
"""SimPy's normal priority: hardware and kernels."""
ARRIVAL: Final = 2
DECISION: Final = 3
TOGETHER: Final = 4
"""Steps of several engines that wait for each other's decisions."""


def ticks(duration_s: float) -> int:
    """Round a duration in seconds to the clock, half to even.

    Raises:
        SimulationError: If it is longer than `LONGEST_S`, or no number.
    """
    if not abs(duration_s) <= LONGEST_S:
        raise SimulationError(f"{duration_s:g} s is longer than a simulation can last, {LONGEST_S:g} s")
    return round(duration_s * TICKS_PER_S)


def ticks_array(durations_s: FloatArray) -> IntArray:
    """Round each duration in seconds to the clock; element by element the same as `ticks`."""
    rounded: IntArray = np.rint(durations_s * TICKS_PER_S).astype(np.int64)
    return rounded


def seconds(ticks_: int) -> float:
    """Convert ticks to seconds."""
    return ticks_ / TICKS_PER_S


def mark_past(event: simpy.Event, value: Any) -> None:
    """Make *event*, for which nobody waits, one that has happened, without putting it on the queue."""
    assert not event.callbacks, "somebody waits for it, and is to be told on the queue"
    event._ok = True  # noqa: SLF001 - what SimPy leaves behind when it has processed an event
    event._value = value  # noqa: SLF001
    event.callbacks = None  # type: ignore[assignment]


class _Call(simpy.Event):
    """An event that calls one function; made for every kernel, and so with as little ado as SimPy makes a timeout."""

    _ok = True
    _value = None

    def __init__(self, env: simpy.Environment, function: Callable[[simpy.Event], None]) -> None:
        self.env = env
        self.callbacks = [function]


class Clock:
    """A SimPy environment that counts integer picoseconds."""

    def __init__(self) -> None:
        self.env = simpy.Environment(initial_time=0)

    @property
    def now(self) -> int:
        """The current tick."""
        # Read by every kernel several times, so without SimPy's own property in between.
        return self.env._now  # type: ignore[return-value]  # noqa: SLF001 - int | float; ours only ever adds ints

    @property
    def now_s(self) -> float:
        """The current time in seconds."""
        return self.env.now / TICKS_PER_S

    def timeout(self, delay: int, *, priority: int = COMPLETION, value: Any = None) -> simpy.Event:
        """Return an event *delay* ticks from now, ordered among others of that tick by *priority*."""
        assert delay >= 0, "nothing happens in the past"
        event = simpy.Event(self.env)
        event._ok = True  # noqa: SLF001 - as simpy.Timeout does; Timeout itself takes no priority
        event._value = value  # noqa: SLF001
        self.env.schedule(event, priority, delay)  # type: ignore[arg-type]  # any int orders
        return event

    def call_in(
        self, delay: int, function: Callable[[simpy.Event], None], *, priority: int = COMPLETION
    ) -> simpy.Event:
        """Have *function* called *delay* ticks from now; returns the event that it is called with."""
        assert delay >= 0, "nothing happens in the past"
        event = _Call(self.env, function)
        self.env.schedule(event, priority, delay)  # type: ignore[arg-type]  # any int orders
        return event

    def past_event(self, value: Any = None) -> simpy.Event:
        """Return an event that has happened; who waits for it goes on at once."""
        event = simpy.Event(self.env)
        mark_past(event, value)
        return event

    def event(self) -> simpy.Event:
        """Return an event that somebody will trigger."""
        return simpy.Event(self.env)

    def run(self, until: simpy.Event | None = None) -> Any:
        """Run until nothing is scheduled or *until* has happened."""
        return self.env.run(until)

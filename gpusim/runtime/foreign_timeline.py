"""The course of constant-rate foreign copies, known ahead."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from gpusim.core.clock import TICKS_PER_S, ticks
from gpusim.runtime.foreign_load import EngineTraffic, ForeignCopies, Load
from gpusim.spec.background import CopySpec

NEVER = 2**63 - 1


@dataclass(slots=True)
class _Copy:
    """One entry of `background:` as it goes; see `gpusim.runtime.background.Background`."""

    spec: CopySpec
    latency: int
    change: int
    """Tick of its next start, or end of its latency; while it moves, of its end at this speed."""
    due: int
    """Tick at which the transfer under way, or the next one, should start."""
    state: str = "waiting"
    done: int = 0
    progress: float = 0.0
    speed: float = 0.0


class ForeignTimeline:
    """Which copies move when, and what they leave one engine.

    Args:
        copies: All of them; their rates do not depend on what engines do.
        engine: Whose steps pass meanwhile.
    """

    def __init__(self, copies: ForeignCopies, engine: EngineTraffic) -> None:
        self._copies = copies
        self._load_of = lru_cache(1 << len(copies.specs))(lambda moving: copies.load(moving, engine))
        self._entries = [
            _Copy(spec, ticks(loads.latency_s) if spec.rate is None else 0, ticks(spec.start), ticks(spec.start))
            for spec, loads in zip(copies.specs, copies.loads, strict=True)
        ]
        self._changes = [0]
        self._loads = [self._load_of(())]
        self._now = 0

    def at(self, tick: int) -> tuple[Load, int]:
        """Return the load at *tick*, and the tick at which it changes next."""
        while self._changes[-1] <= tick:
            if not self._advance():
                return self._loads[-1], NEVER
        place = bisect_right(self._changes, tick)
        return self._loads[place - 1], self._changes[place]

    def forget(self, tick: int) -> None:
        """Drop what was before *tick*."""
        place = bisect_right(self._changes, tick) - 1
        if place > 1024:
            del self._changes[:place], self._loads[:place]

    def _advance(self) -> bool:
        """Go on to the next change; return False where there is none."""
        first = min(entry.change for entry in self._entries)
        if first == NEVER:
            return False
        self._pass_until(first)
        for entry in self._entries:
            if entry.change <= first:
                self._step(entry, first)
        moving = tuple(number for number, entry in enumerate(self._entries) if entry.state == "moving")
        speeds = self._copies.speeds(moving) if moving else []
        for number, speed in zip(moving, speeds, strict=True):
            entry = self._entries[number]
            if speed != entry.speed:
                entry.speed = speed
                left_s = (1.0 - entry.progress) / speed
                entry.change = NEVER if entry.spec.rate is not None else first + ticks(left_s)
        if first == self._changes[-1]:
            self._loads[-1] = self._load_of(moving)
        else:
            self._changes.append(first)
            self._loads.append(self._load_of(moving))
        return True

    def _pass_until(self, tick: int) -> None:
        for entry in self._entries:
            if entry.state == "moving":
                entry.progress += entry.speed * (tick - self._now) / TICKS_PER_S
        self._now = tick

    @staticmethod
    def _step(entry: _Copy, now: int) -> None:
        """Start *entry*, let its first byte move, or end it."""
        if entry.state == "waiting" and entry.latency:
            entry.state, entry.change = "on its way", now + entry.latency
        elif entry.state != "moving":
            entry.state, entry.change, entry.progress, entry.speed = "moving", NEVER, 0.0, 0.0
        else:
            entry.state, entry.speed = "waiting", 0.0
            entry.done += 1
            period = entry.spec.period
            if period is None or entry.done == entry.spec.count:
                entry.change = NEVER
            else:
                entry.due += ticks(period)
                entry.change = max(now, entry.due)

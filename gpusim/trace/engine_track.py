"""The steps of one engine, and its counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from gpusim.trace.events import EventWriter
from gpusim.trace.levels import Levels
from gpusim.trace.stage import STEPS
from gpusim.trace.window import Window

_OF_STEPS: Final = ("num_decodes", "running", "swapped", "kv_blocks")


class EngineTrack:
    """Steps one after the other, with what each computes.

    Args:
        writer: Gets the events.
        pid: Process of the engine.
        window: Only steps that start in it are shown.
    """

    def __init__(self, writer: EventWriter, pid: int, window: Window) -> None:
        self.steps = writer.track(pid, "steps", STEPS)
        self.prefills: defaultdict[int, list[int]] = defaultdict(list)
        """When steps began that computed a part of the prompt of a request, by its number."""
        self.seated: dict[int, int] = {window.first: 0}
        """Requests that run or are swapped, by the tick from which on as many are."""
        self.num_steps = self.last_end = 0
        """Steps shown, and where the last of them ended."""
        self._writer = writer
        self._window = window
        self._counters = Levels(writer, pid, window)
        self._now = dict.fromkeys(_OF_STEPS, 0)
        self._set(0, self._now)

    def runs(self, start: int, args: Mapping[str, Any]) -> None:
        """Show the steps of one batch, the first of which began at tick *start*."""
        window, ends = self._window, args["ends"]
        if start >= window.behind or ends[-1] <= window.first:
            return
        facts = {
            "decoding sequences": args["num_decodes"],
            "prefill tokens": args["num_prefill_tokens"],
            "tokens": args["num_tokens"],
        }
        levels = {counter: args[counter] for counter in _OF_STEPS}
        for number, (end, kv_blocks) in enumerate(
            zip(ends.tolist(), args["kv_blocks"].tolist(), strict=True), args["first_step"]
        ):
            self._set(start, {**levels, "kv_blocks": kv_blocks})
            if window.first <= start < window.behind:
                self._writer.begin(self.steps, f"step {number}", start, facts)
                self._writer.end(self.steps, end)
                self.num_steps += 1
                self.last_end = end
                for request in args["prefills"]:
                    self.prefills[request].append(start)
            start = end

    def count(self, what: str, tick: int, value: float) -> None:
        """Note what a counter is once steps ended at *tick*, until others begin."""
        if what in _OF_STEPS:
            self._set(tick, {"num_decodes": 0, what: round(value)})

    def close(self, last_end: int) -> None:
        """Show what has not been shown yet of the counters, up to tick *last_end*."""
        self._counters.close(last_end)

    def _set(self, tick: int, levels: Mapping[str, int]) -> None:
        self._now.update(levels)
        self._counters.set(tick, levels)
        self.seated[max(tick, self._window.first)] = self._now["running"] + self._now["swapped"]

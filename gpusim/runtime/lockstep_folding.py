"""Folding of a step of several replicas that share experts: all of them in one vectorised call, a row each.

Activations are padded alike, so replicas differ in attention and sampling only. Between two meetings the slowest decides:

    ticks = tokens(rows) + Σ stretches · max over replicas Σ attention in the stretch
                         + max over replicas (attention behind the last meeting + sampling)

`tokens` are the kernels that all have alike, the meetings among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from gpusim.core.clock import FloatArray, IntArray
from gpusim.model.lower import Lowering
from gpusim.model.window import WindowShapes
from gpusim.model.work import Attention, BatchShape, Collective, StepProgram, StepShapes
from gpusim.runtime.attribution import WAITING
from gpusim.runtime.collective import TimedCollective
from gpusim.runtime.executor import KernelExecutor, RunResult
from gpusim.runtime.folding import FoldedSteps, Folder, account_steps


@dataclass(frozen=True, slots=True)
class Work:
    """What one replica computes in a step."""

    shape: BatchShape
    shapes: StepShapes
    """The same, of this one step."""
    fractions: Sequence[FloatArray] | None
    """(1, channels) of each kind of KV, part of the batch's on each memory channel; None: alike on all."""


class LockstepFolder:
    """Times steps of replicas that share experts without playing them.

    Args:
        executors: Of the replicas, all alike.
        lowering: Of each.
        program: Any of its steps.
    """

    def __init__(self, executors: Sequence[KernelExecutor], lowering: Lowering, program: StepProgram) -> None:
        self._executors = executors
        self._timer = executors[0].timer
        self._folder = Folder(self._timer, lowering)
        self._lowering = lowering
        self._meetings: dict[int, list[tuple[int, TimedCollective]]] = {}
        *before, self._last = _stretches(program)
        counted = Counter(before)
        self._stretches = np.array(list(counted), dtype=np.int64).reshape(len(counted), len(lowering.model.layers))
        self._counts = np.array(list(counted.values()), dtype=np.int64)

    def play(self, work: Sequence[Work], num_tokens: int, start: int) -> list[RunResult]:
        """Account for a step from tick *start* on; return how it went for each replica.

        Args:
            work: Of each replica.
            num_tokens: To which their activations are padded.
            start: Tick at which it begins.
        """
        read = (
            [] if work[0].fractions is None else [np.concatenate(kind) for kind in zip(*_fractions(work), strict=True)]
        )
        peak = [kind.max(axis=1) for kind in read] or None
        folded = self._folder.time(_joined([own.shapes for own in work]), peak, start, padded_to=num_tokens)
        ticks = self._ticks(folded, num_tokens)
        for count, each in self._met(num_tokens):
            self._executors[0].fabric.account(each.loads, count, each.link_s)
        results = []
        for row, executor in enumerate(self._executors):
            own = slice(row, row + 1)
            account_steps(folded, own, read or None, timer=executor.timer, gpus=executor.gpus, fabric=executor.fabric)
            attribution_ps = folded.attribution_ps[row]
            attribution_ps[WAITING] += ticks - int(folded.ticks[row])
            ends = np.array([start + ticks], dtype=np.int64)
            results.append(RunResult(start, ends, attribution_ps, int(folded.bound_ps[row]), is_folded=True))
        return results

    def _ticks(self, folded: FoldedSteps, num_tokens: int) -> int:
        """Return how long a step takes in which all wait for the slowest at every meeting."""
        common = self._folder.token_ticks(num_tokens)
        attention = np.array([rows.ticks for _, _, rows in folded.attention])
        between = (self._stretches @ attention).max(axis=1, initial=0)
        last = np.array(self._last, dtype=np.int64) @ attention + folded.fixed.ticks - common
        return common + int(self._counts @ between) + int(last.max())

    def _met(self, num_tokens: int) -> list[tuple[int, TimedCollective]]:
        """Return the meetings of a step, with how often it has each."""
        if num_tokens not in self._meetings:
            kernels = self._lowering.token_kernels(num_tokens)
            self._meetings[num_tokens] = [
                (count, self._timer.group_of(kernel).timed(kernel))
                for count, kernel in kernels
                if isinstance(kernel, Collective) and kernel.among == "expert"
            ]
        return self._meetings[num_tokens]


def _stretches(program: StepProgram) -> list[tuple[int, ...]]:
    """Return how often each kind of layer attends before the first meeting, between meetings, and behind the last."""
    num_kinds = len(program.parts) - 2
    found = [[0] * num_kinds]
    for number in program.sequence:
        for kernel in program.parts[number][1]:
            if isinstance(kernel, Attention):
                found[-1][number - 1] += 1
            elif isinstance(kernel, Collective) and kernel.among == "expert":
                found.append([0] * num_kinds)
    return [tuple(stretch) for stretch in found]


def _fractions(work: Sequence[Work]) -> list[Sequence[FloatArray]]:
    found = [own.fractions for own in work if own.fractions is not None]
    assert len(found) == len(work), "KV lies on channels with all replicas or with none"
    return found


def _joined(shapes: Sequence[StepShapes]) -> StepShapes:
    """Return the steps of all replicas, one after the other."""

    def column(name: str) -> IntArray:
        return np.concatenate([getattr(each, name) for each in shapes])

    def window(size: int) -> WindowShapes:
        own = [each.windows[size] for each in shapes]
        return WindowShapes(*(np.concatenate([getattr(each, f.name) for each in own]) for f in fields(WindowShapes)))

    columns = {field.name: column(field.name) for field in fields(StepShapes) if field.name != "windows"}
    return StepShapes(**columns, windows={size: window(size) for size in shapes[0].windows})  # type: ignore[arg-type]

"""Folding of a step of several replicas that share experts: all of them in one vectorised call, a row each.

From dispatch to combine all have the same to do; between meetings the slowest decides:

    ticks = gathered(all rows) + Σ stretches · max over replicas (own kernels + attention in the stretch)

and the stretch behind the last meeting ends with sampling. No step ends before the host of each replica is through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.model.collectives import Collective
from gpusim.model.dispatch import is_meeting, own_and_gathered
from gpusim.model.lower import Lowering
from gpusim.model.step import BatchShape, StepShapes
from gpusim.model.window import WindowShapes
from gpusim.model.work import Kernel
from gpusim.runtime.accounts import account_steps
from gpusim.runtime.attribution import WAITING
from gpusim.runtime.collective import TimedCollective
from gpusim.runtime.executor import RunResult
from gpusim.runtime.folding import FoldedSteps, Folder
from gpusim.runtime.kernel_executor import KernelExecutor
from gpusim.runtime.totals import TotalsTable


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
        sequence: Order of the parts of its steps, the last of which samples.
    """

    def __init__(self, executors: Sequence[KernelExecutor], lowering: Lowering, sequence: Sequence[int]) -> None:
        self._executors = executors
        self._timer = timer = executors[0].timer
        self._lowering = lowering
        self._folder = Folder(timer, lowering)
        self._gathered = TotalsTable(timer, self._gathered_kernels)
        self._meetings: dict[int, list[tuple[int, TimedCollective]]] = {}
        parts = [_pieces(part) for _, part in lowering.token_parts(1)]
        places = [(part, piece) for part, pieces in enumerate(parts) for piece in range(len(pieces))]
        self._own = [TotalsTable(timer, partial(self._own_kernels, *place)) for place in places]
        """Of each piece, without attention."""
        kinds = range(len(parts) - 1)
        attends = [[int(None in parts[part][piece] and part == 1 + kind) for kind in kinds] for part, piece in places]
        self._attends = np.array(attends, dtype=np.int64)
        """(pieces, kinds of layers) 1 where the attention of a kind is in a piece; the first part is before the layers."""
        *before, last = _stretches(sequence[:-1], places)
        counted = Counter(before)
        self._stretches = np.array([*counted, last], dtype=np.int64)
        """(stretches, pieces) How often each piece is in a stretch; the last stretch is behind the last meeting."""
        self._counts = np.array([*counted.values(), 1], dtype=np.int64)

    def play(self, work: Sequence[Work], rows: Sequence[int], gathered: int, start: int) -> list[RunResult]:
        """Account for a step from tick *start* on; return how it went for each replica.

        Args:
            work: Of each replica.
            rows: Of the activations of each.
            gathered: Rows of all together.
            start: Tick at which it begins.
        """
        kinds = [] if work[0].fractions is None else zip(*(own.fractions or () for own in work), strict=True)
        read = [np.concatenate(kind) for kind in kinds]
        shapes, peak = _joined([own.shapes for own in work]), [kind.max(axis=1) for kind in read] or None
        alike = self._gathered.rows(np.full(len(work), gathered))
        folded = self._folder.time(shapes, peak, start, padded=np.array(rows), gathered=alike)
        on_gpus = self._ticks(folded, rows, shapes.num_sampled) + int(alike.ticks[0])
        ticks = max(on_gpus, int(folded.ticks.max()))
        # Its rows are replicas, which take the same time.
        whole = np.full_like(folded.ticks, ticks)
        folded = replace(folded, starts=start + 0 * whole, ends=start + whole)
        for count, each in self._met(gathered):
            self._executors[0].fabric.account(each.loads, count, each.link_s, start, start + ticks)
        results = []
        for row, executor in enumerate(self._executors):
            own = slice(row, row + 1)
            account_steps(folded, own, read or None, timer=executor.timer, gpus=executor.gpus, fabric=executor.fabric)
            attribution_ps = folded.attribution_ps[row]
            attribution_ps[WAITING] += ticks - int(folded.ticks[row])
            ends = np.array([start + ticks], dtype=np.int64)
            results.append(RunResult(start, ends, attribution_ps, int(folded.bound_ps[row]), is_folded=True))
        return results

    def _ticks(self, folded: FoldedSteps, rows: Sequence[int], sampled: IntArray) -> int:
        """Return how long a step takes between meetings, all waiting for the slowest at each."""
        own = np.array([[table.ticks(number) for number in rows] for table in self._own], dtype=np.int64)
        attention = np.array([kernel.ticks for _, _, kernel in folded.attention])
        stretches = self._stretches @ (own + self._attends @ attention)
        stretches[-1] += [self._folder.sampling_ticks(number) for number in sampled.tolist()]
        return int(self._counts @ stretches.max(axis=1))

    def _own_kernels(self, part: int, piece: int, num_tokens: IntArray) -> list[tuple[int, Kernel]]:
        kernels = _pieces(self._lowering.token_parts(num_tokens)[part][1])[piece]
        return [(1, kernel) for kernel in kernels if kernel is not None]

    def _gathered_kernels(self, gathered: IntArray) -> list[tuple[int, Kernel]]:
        return own_and_gathered(self._lowering.token_kernels(gathered, gathered))[1]

    def _met(self, gathered: int) -> list[tuple[int, TimedCollective]]:
        """Return the meetings of a step, with how often it has each."""
        if gathered not in self._meetings:
            self._meetings[gathered] = [
                (count, self._timer.group_of(kernel).timed(kernel))
                for count, kernel in self._lowering.token_kernels(1, gathered)
                if isinstance(kernel, Collective) and is_meeting(kernel)
            ]
        return self._meetings[gathered]


def _pieces(kernels: Iterable[Kernel | None]) -> list[list[Kernel | None]]:
    """Return the kernels of a part up to its first dispatch, and behind each combine."""
    pieces: list[list[Kernel | None]] = [[]]
    is_out = False
    for kernel in kernels:
        if is_meeting(kernel):
            if is_out:
                pieces.append([])
            is_out = not is_out
        elif not is_out:
            pieces[-1].append(kernel)
    return pieces


def _stretches(sequence: Iterable[int], places: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Return how often each piece comes before the first dispatch, between a combine and a dispatch, and behind the last."""
    found = [[0] * len(places)]
    for part in sequence:
        for number, (of, piece) in enumerate(places):
            if of == part:
                if piece:
                    found.append([0] * len(places))
                found[-1][number] += 1
    return [tuple(stretch) for stretch in found]


def _joined(shapes: Sequence[StepShapes]) -> StepShapes:
    """Return the steps of all replicas, one after the other."""

    def columns(kind: type, own: Sequence[Any]) -> dict[str, Any]:
        names = [column.name for column in fields(kind) if column.name != "windows"]
        return {name: np.concatenate([getattr(each, name) for each in own]) for name in names}

    windows = {
        window: WindowShapes(**columns(WindowShapes, [each.windows[window] for each in shapes]))
        for window in shapes[0].windows
    }
    return StepShapes(**columns(StepShapes, shapes), windows=windows)

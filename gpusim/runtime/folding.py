"""Folding: the times of many steps in one vectorised call.

Identical ranks and layers are one row; what depends on the number of tokens, or of sampled sequences, alone is looked up
in tables that are filled as they are needed; attention is timed over all steps at once. The laws, and what is rounded to
the clock, are those of kernel detail (`KernelTimer`), so the times are too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import ticks_array
from gpusim.model.dispatch import own_and_gathered
from gpusim.model.lower import Lowering
from gpusim.model.step import StepShapes
from gpusim.model.window import WindowShapes
from gpusim.model.work import Attention
from gpusim.runtime.attribution import LAUNCH, in_ticks
from gpusim.runtime.foreign_load import IDLE, Load
from gpusim.runtime.kernel_timer import KernelRows, KernelTimer
from gpusim.runtime.laws.timing import KernelTime
from gpusim.runtime.totals import StepTotals, TotalsTable

NO_WAKES: Final[Mapping[int, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FoldedSteps:
    """Steps as they are timed; arrays (steps, ...)."""

    ticks: IntArray
    attribution_ps: IntArray
    """(steps, categories) Where that time goes; rows sum to `ticks`."""
    bound_ps: IntArray
    """What each takes at least."""
    fixed: StepTotals
    """Of all that does not depend on the context, on idle resources."""
    attention: list[tuple[int, int, KernelRows]]
    """Of each kind of layer, with how many there are and their kind of KV, on idle resources."""
    starts: IntArray
    """Tick at which each starts, back to back but for idle times."""
    ends: IntArray

    @property
    def attention_ticks(self) -> IntArray:
        """(steps,) Of attention in all layers, on idle resources."""
        return sum((count * rows.ticks for count, _, rows in self.attention), np.zeros_like(self.ticks))


class Folder:
    """Times steps of one engine without playing them.

    Args:
        timer: Times kernels.
        lowering: Says which kernels a step has.
    """

    def __init__(self, timer: KernelTimer, lowering: Lowering) -> None:
        self.timer = timer
        self.lowering = lowering
        self._by_tokens = TotalsTable(timer, lambda tokens: own_and_gathered(lowering.token_kernels(tokens))[0])
        self._by_sampled = TotalsTable(timer, lowering.sampling_kernels)
        self._loaded: dict[Load, tuple[TotalsTable, TotalsTable]] = {}

    def fixed_ticks(self, num_tokens: int, num_sampled: int) -> int:
        """Return the ticks of a step without its attention."""
        return self._by_tokens.ticks(num_tokens) + self._by_sampled.ticks(num_sampled)

    def sampling_ticks(self, num_sampled: int) -> int:
        """Return the ticks of the kernels that depend on the number of sampled sequences alone."""
        return self._by_sampled.ticks(num_sampled)

    def host_ticks(self, num_sampled: int) -> int:
        """Return the ticks of the host beside a step, before which it does not end."""
        return int(self.timer.host.ticks(num_sampled)[0])

    def attention_ticks(self, num_sequences: IntArray, context: IntArray, window: int | None = None) -> IntArray:
        """Return the ticks of the attention of decode steps whose KV is spread evenly, (steps,), in layers with *window*.

        Args:
            num_sequences: (steps,)
            context: (steps,) Tokens of context of all of them together, inside their windows.
            window: Of the layers; None: those without.
        """
        nothing = np.zeros_like(context)
        windows = {w: WindowShapes.of_decodes(context) for w in self.lowering.model.windows}
        pairs = nothing.astype(np.float64)
        alike = (num_sequences, num_sequences, num_sequences, num_sequences)
        shapes = StepShapes(*alike, context, nothing, pairs, nothing, nothing, windows)
        ticks: IntArray = np.zeros_like(context)
        for count, kernel in self.lowering.attention(shapes):
            if self.lowering.kv_kinds[kernel.kv_kind].window == window:
                ticks += count * self._attention(kernel, None).ticks
        return ticks

    def time(
        self,
        shapes: StepShapes,
        kv_peak: Sequence[FloatArray] | None,
        now: int = 0,
        wakes: Mapping[int, int] = NO_WAKES,
        *,
        padded: IntArray | None = None,
        gathered: StepTotals | None = None,
    ) -> FoldedSteps:
        """Time steps on idle resources.

        Args:
            shapes: What they compute.
            kv_peak: (steps,) of each kind of KV, largest part of it on any memory channel; None: alike on all.
            now: Tick at which the first one may start.
            wakes: Ticks before which certain steps, by their number, do not start.
            padded: (steps,) Rows of the activations where some are added; attention leaves those out that are added.
            gathered: Sums over what is done for the tokens of all replicas that share experts.
        """
        fixed = self._by_tokens.rows(shapes.num_tokens if padded is None else padded)
        fixed = (fixed if gathered is None else fixed + gathered) + self._by_sampled.rows(shapes.num_sampled)
        attention = [
            (count, kernel.kv_kind, self._attention(kernel, kv_peak))
            for count, kernel in self.lowering.attention(shapes)
        ]
        step_ticks, attribution_s, bound_s = fixed.ticks.copy(), fixed.attribution_s.copy(), fixed.bound_s.copy()
        for count, _, rows in attention:
            step_ticks += count * rows.ticks
            attribution_s += count * rows.attribution_s
            bound_s += count * rows.bound_s
        attribution_ps = in_ticks(attribution_s, step_ticks)
        wait_ticks = self.timer.host.wait_ticks(step_ticks, shapes.num_sampled)
        attribution_ps[:, LAUNCH] += wait_ticks
        step_ticks += wait_ticks
        starts, ends = back_to_back(step_ticks, now, wakes)
        return FoldedSteps(step_ticks, attribution_ps, ticks_array(bound_s), fixed, attention, starts, ends)

    def loaded_ticks(self, shapes: StepShapes, kv_peak: Sequence[FloatArray] | None, load: Load) -> IntArray:
        """Return what the GPU takes for steps beside foreign traffic of constant rate, (steps,); see `time`."""
        if load not in self._loaded:
            kinds = (self.lowering.token_kernels, self.lowering.sampling_kernels)
            by_tokens, by_sampled = (TotalsTable(self.timer, kernels, load) for kernels in kinds)
            self._loaded[load] = by_tokens, by_sampled
        by_tokens, by_sampled = self._loaded[load]
        ticks = by_tokens.rows(shapes.num_tokens).ticks + by_sampled.rows(shapes.num_sampled).ticks
        for count, kernel in self.lowering.attention(shapes):
            ticks += count * self._attention(kernel, kv_peak, load).ticks
        return ticks

    def _attention(self, kernel: Attention, kv_peak: Sequence[FloatArray] | None, load: Load = IDLE) -> KernelRows:
        terms = self.timer.laws.time(kernel)
        peak = None if kv_peak is None else kv_peak[kernel.kv_kind]
        return self.timer.attention(kernel, terms, self._local_s(terms, peak), load)

    def _local_s(self, terms: KernelTime, kv_peak: FloatArray | None) -> FloatArray:
        """Time of the bytes in a rank's own memory: of its fullest channel, where they are not spread evenly."""
        timer = self.timer
        if kv_peak is None or timer.bank.num_channels == 1 or timer.remote is not None:
            local_s: FloatArray = timer.local_bytes(terms) / terms.memory_rate
            return local_s
        return timer.service_s(terms, timer.channel_bytes(terms, kv_peak))


def back_to_back(step_ticks: IntArray, now: int, wakes: Mapping[int, int]) -> tuple[IntArray, IntArray]:
    """Return when each step starts and ends."""
    ends = now + np.cumsum(step_ticks)
    for step, tick in wakes.items():
        ends[step:] += max(0, tick - (int(ends[step - 1]) if step else now))
    return ends - step_ticks, ends

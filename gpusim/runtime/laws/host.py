"""What the host does for a step, by the engine's profile.

The GPU waits for ``t = step + sequences · sequence + logit_passes · candidates``, which is no work of its own: no bytes and no other
traffic stretch it. Beside the GPU runs ``t = overlapped_step + sequences · overlapped_sequence``; with steps in flight the host
prepares the next step meanwhile, so a step takes the longer of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.core.clock import ticks_array
from gpusim.model.arrays import Count
from gpusim.model.work import HostWork
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.timing import KernelTime
from gpusim.spec.engine_profile import EngineProfile


def host_time(work: HostWork, profile: EngineProfile, gpu: GpuFigures) -> KernelTime:
    """Return what *work* takes, a row for each number of sequences."""
    sequences = np.atleast_1d(np.asarray(work.sequences, dtype=np.float64))
    zero = np.zeros_like(sequences)
    return KernelTime(
        fixed_s=work.steps * profile.step + sequences * profile.sequence + work.logit_passes * profile.candidates,
        other_s=zero,
        l2_s=zero,
        even_bytes=zero,
        kv_bytes=zero,
        memory_rate=gpu.bandwidth,
        smoothness=np.inf,
    )


@dataclass(frozen=True, slots=True)
class OverlappedHost:
    """What the host does while the GPU computes a step, which ends no earlier."""

    step_s: float = 0.0
    sequence_s: float = 0.0
    """For each sequence that gets a token."""

    @classmethod
    def of(cls, profile: EngineProfile) -> OverlappedHost:
        """Return what *profile* says of an engine with steps in flight."""
        return cls(profile.overlapped_step, profile.overlapped_sequence)

    def ticks(self, num_sampled: Count) -> IntArray:
        """Return how long it takes, a row for each number of sequences that get a token."""
        return ticks_array(self.step_s + np.atleast_1d(np.asarray(num_sampled, dtype=np.float64)) * self.sequence_s)

    def wait_ticks(self, gpu_ticks: IntArray, num_sampled: Count) -> IntArray:
        """Return what is left of it when the GPU is through, (steps,)."""
        wait: IntArray = np.maximum(self.ticks(num_sampled) - gpu_ticks, 0)
        return wait


NOTHING_BESIDE: Final = OverlappedHost()

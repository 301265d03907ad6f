"""What the GPU waits for the host: ``t = step + sequences · sequence + logit_passes · candidates``, of the engine's profile.

It is no work of the GPU's, so no bytes and no other traffic stretch it.
"""

from __future__ import annotations

import numpy as np

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

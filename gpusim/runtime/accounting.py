"""What a folded run has moved and computed, written to the accounts that kernel detail fills event by event."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusim.hardware.fabric import Fabric
from gpusim.hardware.gpu import Gpu
from gpusim.runtime.program import RemoteKv, TimedKernel, TimedProgram


def account_run(timed: TimedProgram, steps: int, gpus: Sequence[Gpu], fabric: Fabric, remote: RemoteKv | None) -> None:
    """Account the first *steps* steps of *timed*, alike on all *gpus*, their KV read from *remote* if it lies there."""
    fixed, varying = timed.fixed, timed.varying
    busy_ticks = steps * fixed.kernel_ticks + sum(count * sum(kernel.ticks[:steps]) for count, kernel in varying)
    flops = steps * fixed.flops + sum(count * sum(kernel.flops[:steps]) for count, kernel in varying)
    for gpu in gpus:
        gpu.compute.account(busy_ticks, flops)
        gpu.memory.account(steps * fixed.even_bytes, steps * fixed.service_s)
    for count, collective in fixed.collectives:
        fabric.account(collective.loads, count * steps, collective.link_s)
    for count, kernel in varying:
        _account_attention(kernel, count, steps, gpus)
        if remote is not None and kernel.remote_bytes is not None:
            size_bytes = count * sum(kernel.remote_bytes[:steps])
            for loads in remote.loads.values():
                fabric.account(loads, size_bytes, loads.ideal_s)


def _account_attention(kernel: TimedKernel, count: int, steps: int, gpus: Sequence[Gpu]) -> None:
    """Account the bytes of a kernel that lie on channels of their own."""
    size = count * np.sum(kernel.size_bytes[:steps], axis=0)
    service_s = count * float(np.sum(kernel.demand_s[:steps])) / np.size(size)
    for gpu in gpus:
        gpu.memory.account(size if np.ndim(size) else float(size), service_s)

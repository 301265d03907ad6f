"""Accounts of folded steps: what they moved and computed, as kernel detail writes it down event by event."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.hardware.fabric import Fabric
from gpusim.hardware.gpu import Gpu
from gpusim.runtime.folding import FoldedSteps
from gpusim.runtime.kernel_timer import KernelTimer


def account_steps(
    folded: FoldedSteps,
    steps: slice,
    kv_read: Sequence[IntArray] | Sequence[FloatArray] | None,
    *,
    timer: KernelTimer,
    gpus: Sequence[Gpu],
    fabric: Fabric,
) -> None:
    """Write what some of the steps moved and computed to the accounts that kernel detail fills event by event.

    Args:
        folded: The steps, alike on all *gpus*.
        steps: Which of them were played on *gpus*.
        kv_read: (steps, channels) of each kind of KV, read in a layer from each channel, in any unit; None: alike on all.
        timer: That timed them.
        gpus: The ranks.
        fabric: That connects them.
    """
    fixed = folded.fixed
    busy_ticks, flops = int(fixed.kernel_ticks[steps].sum()), float(fixed.flops[steps].sum())
    service_s, even_bytes = float(fixed.service_s[steps].sum()), float(fixed.even_bytes[steps].sum())
    channel_bytes = np.zeros(timer.bank.num_channels)
    starts, ends, step_bytes = folded.starts[steps], folded.ends[steps], fixed.even_bytes[steps].copy()
    for count, kind, rows in folded.attention:
        terms = rows.terms
        busy_ticks += count * int(rows.ticks[steps].sum())
        flops += count * float(rows.flops[steps].sum())
        kv_bytes, local_bytes = terms.kv_bytes[steps], timer.local_bytes(terms)[steps]
        step_bytes += count * local_bytes
        service_s += count * float(local_bytes.sum()) / terms.memory_rate
        if kv_read is None or timer.remote is not None:
            even_bytes += count * float(local_bytes.sum())
        else:
            even_bytes += count * float(terms.even_bytes[steps].sum())
            read = kv_read[kind][steps].astype(np.float64)
            channel_bytes += count * ((kv_bytes / read.sum(axis=1)) @ read)
        if timer.remote is not None:
            for loads in timer.remote.loads.values():
                fabric.account_steps(loads, count * kv_bytes, loads.ideal_s, starts, ends)
    for gpu in gpus:
        gpu.compute.account(busy_ticks, flops)
        gpu.memory.account(even_bytes, service_s)
        gpu.memory.account(channel_bytes, 0.0)
        gpu.memory.spread_steps(step_bytes, starts, ends)
    _account_traffic(folded, steps, timer, fabric)


def _account_traffic(folded: FoldedSteps, steps: slice, timer: KernelTimer, fabric: Fabric) -> None:
    starts, ends = folded.starts[steps], folded.ends[steps]
    for pattern, (pair_bytes, link_s) in folded.fixed.traffic.items():
        sent = float(pair_bytes[steps].sum())
        if sent and timer.collectives is not None:
            # `Fabric.account` takes one busy time for all: the mean of the steps, weighted by what each sent.
            loads = timer.collectives.unit_loads[pattern]
            fabric.account_steps(loads, pair_bytes[steps], float(link_s[steps].sum()) / sent, starts, ends)

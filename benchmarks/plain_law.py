"""The law to beat: ``t0 + bytes / rate``, two numbers for each law, fitted on the same rows."""

from __future__ import annotations

import numpy as np

from gpusim.calibrate.fit import Sample
from gpusim.core.arrays import FloatArray
from gpusim.model.collectives import AllReduce, Collective
from gpusim.model.work import Attention, Elementwise, ExpertPass, Gemm, GroupedGemm, Kernel, Sort
from gpusim.silicon.calls import Calls


def moved_bytes(calls: Calls) -> FloatArray:
    """Return the bytes that each call moves, (rows,): experts their weights, a collective what a ring sends on a link."""
    total = sum(_bytes(work, calls.ranks) for work in calls.works)
    return np.broadcast_to(np.asarray(total, dtype=np.float64), (len(calls.rows),))


def _bytes(work: Kernel, ranks: int) -> FloatArray | float:  # noqa: PLR0911  one kind of work a line
    if isinstance(work, Attention):
        latent = 0.0 if work.latent is None else work.latent.weight_bytes + work.latent.expanded_bytes
        return work.kv_bytes + work.activation_bytes + latent
    if isinstance(work, Gemm):
        return work.weight_bytes + work.activation_bytes
    if isinstance(work, GroupedGemm):
        return work.weight_bytes
    if isinstance(work, ExpertPass):
        return 0.0
    if isinstance(work, Elementwise):
        return work.bytes_read + work.bytes_written
    if isinstance(work, Sort):
        return work.elements
    assert isinstance(work, Collective)
    passes = 2 if isinstance(work, AllReduce) else 1
    return work.size_bytes * passes * (ranks - 1) / ranks


def plain_error(samples: list[Sample]) -> FloatArray:
    """Return the size of the relative error on the rows kept out, (rows,), of a fit on the others; NaN without either."""
    from scipy.optimize import minimize  # noqa: PLC0415

    used, kept = ([s for s in samples if s.is_held_out is flag] for flag in (False, True))
    if not used or not kept:
        return np.full(sum(len(s.measured_s) for s in kept), np.nan)
    size, seconds = _joined(used)

    def error(values: FloatArray) -> float:
        t0, per_byte = np.exp(values)
        return float(np.mean(np.abs(np.log((t0 + per_byte * size) / seconds))))

    start = np.log([np.quantile(seconds, 0.05), float(np.median(seconds / np.maximum(size, 1.0)))])
    best = min(
        (minimize(error, start + shift, method="Nelder-Mead") for shift in (0.0, -1.5)), key=lambda found: found.fun
    )
    t0, per_byte = np.exp(best.x)
    size, seconds = _joined(kept)
    return np.abs((t0 + per_byte * size) / seconds - 1)


def _joined(samples: list[Sample]) -> tuple[FloatArray, FloatArray]:
    sizes = np.concatenate([moved_bytes(sample.calls) for sample in samples])
    return sizes, np.concatenate([sample.measured_s for sample in samples])

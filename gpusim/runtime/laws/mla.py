"""Multi-head latent attention: decodes absorbed, over one latent vector a token; prefill over expanded keys and values.

Decodes, with the time of their two small products with the latent's projections beside attention's own:

    U      = sequences · ceil(heads / heads_per_item)                  work items
    S      = floor(clip(floor(SMs / U), 1, min(max_splits, context / min_split))), or max_splits always
    waves  = ceil(U · S / SMs)
    other  = waves · (t_cta + context / S in whole blocks · latent bytes / cta_bandwidth)
             + FLOPs of whole work items / (compute_efficiency · peak) + absorbing FLOPs / matrix rate
    bytes  = cache + query_passes · (queries + outputs)
    fixed  = t0 + [S > 1] (t_split + partial outputs of an item / reduce_bandwidth) + 2 t0 of a matrix product

One work item adds up the partial outputs of a split context. Where the kernel knows 16 bit alone, the cache is converted
before: it reads 16-bit bytes, and ``fixed`` has ``t_convert + 3 bytes an element / (convert_efficiency · rate)`` more.

Prefill chunks: keys and values of the whole context are expanded by a matrix product, written and read, then attended to:

    other  = expanding FLOPs / matrix rate + attention FLOPs / (compute_efficiency of attention · peak)
    fixed  = t0 of attention + t0 of a matrix product

A batch with both pays both: ``t = fixed + smooth_max(other, bytes / rate)``, p = 2. ``U`` counts no fewer heads than
a work item holds, which is what a rank with few heads wastes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.model.work import Attention, LatentWork
from gpusim.runtime.laws.gpu import GpuFigures, law_for
from gpusim.runtime.laws.prefill import prefill_law
from gpusim.runtime.laws.timing import KernelTime, l2_hit
from gpusim.spec.attention_law import MlaLawSpec
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.laws import LawsSpec

SMOOTHNESS = 2.0
PARTIAL_BYTES = 4.0
"""Of an element of the partial output of a split: fp32."""
ACTIVATION_BYTES = 2.0
CONVERTED_BYTES = 2.0
"""Of an element of a cache that is converted before it is read."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A part of a kernel; arrays (rows,)."""

    fixed_s: FloatArray
    other_s: FloatArray
    extra_bytes: FloatArray
    """Beside those of the kernel's own account."""


def mla_time(work: Attention, latent: LatentWork, laws: LawsSpec, gpu: GpuFigures) -> KernelTime:
    """Apply the laws to a batch of decodes and chunks."""
    law = law_for(work.dtype, laws.mla)
    decode = _decode(work, latent, law, gpu)
    around = _around(work, latent, laws, gpu)
    rate = law.memory_factor * gpu.bandwidth
    even_bytes = work.activation_bytes + latent.weight_bytes + latent.expanded_bytes + decode.extra_bytes
    hit = l2_hit(work.reuse_distance, laws.physics.l2_fraction * gpu.l2_bytes)
    return KernelTime(
        fixed_s=decode.fixed_s + around.fixed_s,
        other_s=decode.other_s + around.other_s,
        l2_s=hit * work.kv_bytes / (laws.physics.l2_speedup * rate),
        even_bytes=even_bytes,
        kv_bytes=(1 - hit) * work.kv_bytes,
        memory_rate=rate,
        smoothness=SMOOTHNESS,
        weight_bytes=latent.weight_bytes,
    )


def _decode(work: Attention, latent: LatentWork, law: MlaLawSpec, gpu: GpuFigures) -> _Term:
    """Absorbed attention."""
    is_any = latent.num_decodes > 0
    sequences = np.maximum(latent.num_decodes, 1.0)
    context = latent.decode_context / sequences
    groups = np.ceil(work.num_heads / law.heads_per_item)
    items = sequences * groups
    splits = _splits(items, context, law, gpu)
    elements = latent.latent_dim + latent.rope_dim
    dtype: Dtype = work.dtype if law.convert_efficiency is None else "bf16"
    piece_bytes = np.ceil(context / splits / law.block) * law.block * elements * DTYPE_BYTES[dtype]
    flops = 2.0 * latent.decode_context * groups * law.heads_per_item * (elements + latent.latent_dim)
    waves = np.ceil(items * splits / gpu.sm_count)
    other_s = waves * (law.t_cta + piece_bytes / law.cta_bandwidth)
    other_s = other_s + flops / (law.compute_efficiency * gpu.peak_flops(dtype))
    fixed_s = law.t0 + (splits > 1) * (law.t_split + _reduction_s(work, latent, splits, law))
    copied = (law.query_passes - 1) * ACTIVATION_BYTES * latent.num_decodes * work.num_heads
    extra_bytes = copied * (elements + latent.latent_dim)
    if law.convert_efficiency is not None:
        cached = latent.decode_context * elements
        moved = cached * (DTYPE_BYTES[work.dtype] + CONVERTED_BYTES)
        fixed_s = fixed_s + law.t_convert + moved / (law.convert_efficiency * gpu.bandwidth)
        extra_bytes = extra_bytes + cached * (CONVERTED_BYTES - DTYPE_BYTES[work.dtype])
    return _Term(is_any * fixed_s, is_any * other_s, is_any * extra_bytes)


def _splits(items: FloatArray, context: FloatArray, law: MlaLawSpec, gpu: GpuFigures) -> FloatArray:
    """Splits of each context, none of them empty."""
    if law.split_rule == "fixed":
        return np.minimum(float(law.max_splits), np.maximum(1.0, np.floor(context)))
    most = np.minimum(float(law.max_splits), np.maximum(1.0, context / law.min_split))
    result: FloatArray = np.floor(np.clip(np.floor(gpu.sm_count / items), 1.0, most))
    return result


def _reduction_s(work: Attention, latent: LatentWork, splits: FloatArray, law: MlaLawSpec) -> FloatArray | float:
    """Time in which one work item adds up the partial outputs of all splits of its heads."""
    if law.reduce_bandwidth is None:
        return 0.0
    heads = np.minimum(work.num_heads, law.heads_per_item)
    size: FloatArray = splits * heads * latent.latent_dim * PARTIAL_BYTES
    return size / law.reduce_bandwidth


def _around(work: Attention, latent: LatentWork, laws: LawsSpec, gpu: GpuFigures) -> _Term:
    """Products with the latent's projections, and the attention of chunks."""
    gemm, prefill = law_for("bf16", laws.gemm), prefill_law(laws)
    has_decodes, has_chunks = latent.num_decodes > 0, latent.chunk_context > 0
    peak = gpu.peak_flops("bf16")
    has_projections = has_decodes & (latent.projection_flops > 0)
    fixed_s = 2 * gemm.t0 * has_projections + (gemm.t0 + prefill.t0 + prefill.t_tile) * has_chunks
    other_s = latent.projection_flops / (laws.physics.matrix.efficiency["bf16"] * peak)
    other_s = other_s + work.prefill_flops / (prefill.compute_efficiency * peak)
    return _Term(fixed_s, other_s, np.zeros_like(other_s))

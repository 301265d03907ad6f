"""Multi-head latent attention: decodes absorbed, over one latent vector a token; prefill over expanded keys and values.

Decodes, with the time of their two small products with the latent's projections beside attention's own:

    U      = sequences · ceil(heads / heads_per_item)                  work items
    S      = floor(clip(floor(SMs / U), 1, context / min_split))       splits of the context
    waves  = ceil(U · S / SMs)
    other  = waves · (t_cta + ceil(context / S) · latent bytes / cta_bandwidth)
             + FLOPs of whole work items / (compute_efficiency · peak) + absorbing FLOPs / matrix rate
    fixed  = t0 + [S > 1] t_split + 2 t0 of a matrix product

Prefill chunks: keys and values of the whole context are expanded by a matrix product, written and read, then attended to:

    other  = expanding FLOPs / matrix rate + attention FLOPs / (compute_efficiency of attention · peak)
    fixed  = t0 of attention + t0 of a matrix product

A batch with both pays both: ``t = fixed + smooth_max(other, bytes / rate)``, p = 2. ``U`` counts no fewer heads than
a work item holds, which is what a rank with few heads wastes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpusim.core.clock import FloatArray
from gpusim.model.work import Attention, Count, LatentWork
from gpusim.runtime.laws.gpu import GpuFigures, law_for
from gpusim.runtime.laws.timing import KernelTime
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.laws import AttentionLawSpec, GemmLawSpec, LawsSpec, MatrixSpec, MlaLawSpec

SMOOTHNESS = 2.0
SPLIT_BUFFER_BYTES = 8.0
"""Written and read per head, latent dimension and split: an fp32 partial output element."""


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """Absorbed attention of decodes, one call a row; arrays (rows,)."""

    sequences: FloatArray
    context: FloatArray
    """Tokens of all sequences together."""
    num_heads: Count
    latent_dim: int
    """Of the part that is key and value both."""
    rope_dim: int
    """Of the part that is key alone."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A part of a kernel; arrays (rows,)."""

    fixed_s: FloatArray
    other_s: FloatArray
    extra_bytes: FloatArray
    """Beside those of the kernel's own account: buffers of splits."""


def mla_time(work: Attention, latent: LatentWork, laws: LawsSpec, gpu: GpuFigures) -> KernelTime:
    """Apply the laws to a batch of decodes and chunks."""
    law = law_for(work.dtype, laws.mla)
    decode = _decode(
        DecodeRows(latent.num_decodes, latent.decode_context, work.num_heads, latent.latent_dim, latent.rope_dim),
        law,
        gpu,
        work.dtype,
    )
    gemm, attention = law_for("bf16", laws.gemm), law_for("bf16", laws.attention)
    around = _around(work, latent, gemm, attention, laws.physics.matrix, gpu)
    rate = law.memory_factor * gpu.bandwidth
    even_bytes = work.activation_bytes + latent.weight_bytes + latent.expanded_bytes
    return KernelTime(
        fixed_s=decode.fixed_s + around.fixed_s,
        other_s=decode.other_s + around.other_s,
        l2_s=decode.extra_bytes / rate,
        even_bytes=even_bytes,
        kv_bytes=work.kv_bytes,
        memory_rate=rate,
        smoothness=SMOOTHNESS,
        weight_bytes=latent.weight_bytes,
    )


def decode_time(rows: DecodeRows, law: MlaLawSpec, gpu: GpuFigures, dtype: Dtype, *, eager: bool = False) -> KernelTime:
    """Apply the law to the attention of decodes by itself.

    Args:
        rows: The calls.
        law: Of the cache's stored type.
        gpu: The GPU.
        dtype: Of the cache.
        eager: Launched by the CPU one by one (a benchmark's way, never a serving engine's).
    """
    term = _decode(rows, law, gpu, dtype)
    width = rows.latent_dim + rows.rope_dim
    rate = law.memory_factor * gpu.bandwidth
    return KernelTime(
        fixed_s=term.fixed_s + (law.t_eager if eager else 0.0),
        other_s=term.other_s,
        l2_s=term.extra_bytes / rate,
        even_bytes=2.0 * rows.sequences * rows.num_heads * (width + rows.latent_dim),
        kv_bytes=rows.context * width * DTYPE_BYTES[dtype],
        memory_rate=rate,
        smoothness=SMOOTHNESS,
    )


def _decode(rows: DecodeRows, law: MlaLawSpec, gpu: GpuFigures, dtype: Dtype) -> _Term:
    is_any = rows.sequences > 0
    sequences = np.maximum(rows.sequences, 1.0)
    context = rows.context / sequences
    groups = np.ceil(rows.num_heads / law.heads_per_item)
    items = sequences * groups
    most = np.maximum(1.0, context / law.min_split)
    splits = np.floor(np.clip(np.floor(gpu.sm_count / items), 1.0, most))
    is_split = is_any & (splits > 1)
    width = rows.latent_dim + rows.rope_dim
    piece_bytes = np.ceil(context / splits) * width * DTYPE_BYTES[dtype]
    flops = 2.0 * rows.context * groups * law.heads_per_item * (width + rows.latent_dim)
    waves = np.ceil(items * splits / gpu.sm_count)
    other_s = waves * (law.t_cta + piece_bytes / law.cta_bandwidth)
    other_s += flops / (law.compute_efficiency * gpu.peak_flops(dtype))
    buffers = is_split * SPLIT_BUFFER_BYTES * rows.sequences * rows.num_heads * rows.latent_dim * splits
    return _Term(is_any * law.t0 + is_split * law.t_split, is_any * other_s, buffers)


def _around(
    work: Attention,
    latent: LatentWork,
    gemm: GemmLawSpec,
    attention: AttentionLawSpec,
    matrix: MatrixSpec,
    gpu: GpuFigures,
) -> _Term:
    """Products with the latent's projections, and the attention of chunks."""
    has_decodes, has_chunks = latent.num_decodes > 0, latent.chunk_context > 0
    peak = gpu.peak_flops("bf16")
    fixed_s = 2 * gemm.t0 * has_decodes + (gemm.t0 + attention.t0) * has_chunks
    other_s = latent.projection_flops / (matrix.efficiency["bf16"] * peak)
    other_s = other_s + work.prefill_flops / (attention.compute_efficiency * peak)
    return _Term(fixed_s, other_s, np.zeros_like(other_s))

"""Attention calls with prefill chunks in them: tiles of queries, each of which passes over its keys in blocks.

A chunk of q new tokens is heads · ceil(q / tile_rows) tiles. A tile that ends at context c takes

    t_tile + ceil(c / block) · t_block,    t_block = 4 · tile_rows · block · head_dim / (compute_efficiency · peak / SMs)

and each SM has one at a time. Decodes in the same call depend on the kernel (`decodes` of the law):

- ``tiles`` (FlashAttention 2): one grid over (tiles of the longest chunk, sequences, heads). A decode is a tile per *query*
  head, with one row in use, whose context is not split; the rest of its column of the grid is empty and costs t_empty each.
  The heads that share KV read it together only as far as they run together, or L2 holds all of it in between.
- ``own``: they are computed as without chunks, beside the chunks' tiles.

How long they take together is in `dealing`.

Chunks of one token are decodes to every kernel: the law of decodes (`attention`) then holds for the whole call.

References: Dao, 2023, "FlashAttention-2"; its grid and blocks of keys: ``run_flash_splitkv_fwd`` and
``run_mha_fwd_splitkv_dispatch`` of its source, which paged KV is sent to, and ``mha_varlen_fwd``, which splits contexts only
where no sequence has more than one query.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.model.arrays import Count
from gpusim.model.chunks import ChunkWork
from gpusim.model.work import Attention
from gpusim.runtime.laws.attention import AttentionRows, attention_rows, attention_time
from gpusim.runtime.laws.dealing import makespan
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.timing import KernelTime, l2_hit
from gpusim.spec.attention_law import PrefillLawSpec
from gpusim.spec.laws import LawsSpec


def call_time(work: Attention, laws: LawsSpec, gpu: GpuFigures) -> KernelTime:
    """Apply the laws to attention calls, with and without chunks, one a row."""
    chunks = work.chunks
    if chunks is None:
        return attention_time(attention_rows(work), laws, gpu, work.dtype)
    in_tiles = (chunks.new_tokens > chunks.num_chunks).astype(np.float64)
    decodes = attention_time(_decode_rows(work, chunks, in_tiles), laws, gpu, work.dtype)
    with_chunks = _one_grid if prefill_law(laws).decodes == "tiles" else _beside
    mixed = with_chunks(work, chunks, decodes, laws, gpu)
    names = ("fixed_s", "other_s", "l2_s", "even_bytes", "kv_bytes")
    return replace(
        decodes, **{name: np.where(in_tiles > 0, getattr(mixed, name), getattr(decodes, name)) for name in names}
    )


def prefill_law(laws: LawsSpec) -> PrefillLawSpec:
    """Return the law of calls with chunks."""
    assert laws.prefill is not None, "laws without one get it by the default rule"
    return laws.prefill


def _decode_rows(work: Attention, chunks: ChunkWork, in_tiles: FloatArray) -> AttentionRows:
    """Return what the law of decodes computes: decodes, and chunks that are not run in tiles."""
    rows = attention_rows(work)
    sequences = work.num_sequences - in_tiles * chunks.num_chunks
    tokens = work.kv_tokens - in_tiles * chunks.kv_tokens
    return replace(
        rows,
        sequences=np.maximum(sequences, 1.0),
        context=np.maximum(tokens, 1.0) / np.maximum(sequences, 1.0),
        kv_bytes=work.kv_bytes - in_tiles * chunks.kv_bytes,
    )


def _one_grid(work: Attention, chunks: ChunkWork, decodes: KernelTime, laws: LawsSpec, gpu: GpuFigures) -> KernelTime:
    """Return the terms where decodes are tiles of the same grid."""
    law, sms = prefill_law(laws), gpu.sm_count
    block, block_s = key_block(work.head_dim), _block_s(work, law, gpu)
    num_decodes = work.num_sequences - chunks.num_chunks
    context = (work.kv_tokens - chunks.kv_tokens) / np.maximum(num_decodes, 1.0)
    column, tiles, blocks = _tiles(work, chunks, law.tile_rows)
    busy = tiles + num_decodes
    blocks = blocks + num_decodes * np.ceil(context / block)
    work_s = work.num_heads * (busy * law.t_tile + blocks * block_s) / sms
    longest_s = (
        law.t_tile + np.ceil(np.maximum(0.0 if work.longest is None else work.longest, context) / block) * block_s
    )
    empty_s = work.num_heads * num_decodes * (column - 1) * law.t_empty / sms
    # Query heads that share KV are apart by a tile of every sequence: they run together if so many fit on the SMs.
    sharing = work.num_heads / work.num_kv_heads
    together = np.clip(sms / busy, 1.0, sharing)
    l2_bytes = min(1.0, laws.physics.l2_fraction) * gpu.l2_bytes
    missed = 1 - l2_hit(work.kv_bytes / work.num_kv_heads, l2_bytes)
    reads = 1 + (sharing / together - 1) * missed
    return replace(
        decodes,
        fixed_s=np.full_like(work_s, law.t0),
        other_s=makespan(work_s, work.num_heads * busy / sms, longest_s) + empty_s,
        l2_s=np.zeros_like(work_s),
        even_bytes=work.activation_bytes,
        kv_bytes=chunks.kv_bytes + (work.kv_bytes - chunks.kv_bytes) * reads,
    )


def _beside(work: Attention, chunks: ChunkWork, decodes: KernelTime, laws: LawsSpec, gpu: GpuFigures) -> KernelTime:
    """Return the terms where decodes are computed as without chunks; tiles hold all query heads that share KV."""
    law, sms = prefill_law(laws), gpu.sm_count
    has_decodes = work.num_sequences > chunks.num_chunks
    sharing = work.num_heads / work.num_kv_heads
    block, block_s = key_block(work.head_dim), _block_s(work, law, gpu)
    _, tiles, blocks = _tiles(work, chunks, law.tile_rows / sharing)
    work_s = work.num_kv_heads * (tiles * law.t_tile + blocks * block_s) / sms
    mean = np.maximum(chunks.kv_tokens, 1.0) / np.maximum(chunks.num_chunks, 1.0)
    longest_s = law.t_tile + np.ceil(mean / block) * block_s
    return replace(
        decodes,
        fixed_s=law.t0 + has_decodes * decodes.fixed_s,
        other_s=makespan(work_s, work.num_kv_heads * tiles / sms, longest_s) + has_decodes * decodes.other_s,
        l2_s=has_decodes * decodes.l2_s,
        kv_bytes=chunks.kv_bytes + has_decodes * decodes.kv_bytes,
    )


def key_block(head_dim: Count) -> FloatArray:
    """Return how many keys a tile takes in at a time."""
    return np.where(np.asarray(head_dim) <= 64, 256.0, np.where(np.asarray(head_dim) <= 128, 128.0, 64.0))


def _block_s(work: Attention, law: PrefillLawSpec, gpu: GpuFigures) -> FloatArray:
    """Return the time of one block of keys of a tile: both products, and the softmax between them in the efficiency."""
    flops = 4 * law.tile_rows * key_block(work.head_dim) * work.head_dim
    block_s: FloatArray = flops / (law.compute_efficiency * gpu.peak_flops("bf16") / gpu.sm_count)
    return block_s


def _tiles(work: Attention, chunks: ChunkWork, rows: FloatArray | float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the tiles of a chunk and head, of all chunks and a head, and the blocks of keys of those, (rows,) each.

    Chunks are taken to be alike. A tile's last query attends to half a tile more than its mean one, and its last block of
    keys is half full on average.

    Args:
        work: The calls.
        chunks: Their chunks.
        rows: New tokens of a tile.
    """
    number, new_tokens = np.maximum(chunks.num_chunks, 1.0), np.maximum(chunks.new_tokens, 1.0)
    each = new_tokens / number
    column = np.ceil(each / rows)
    tiles = chunks.num_chunks * column
    context = chunks.pairs / new_tokens + (each / column - 1) / 2
    return column, tiles, tiles * (context / key_block(work.head_dim) + 0.5)

"""Decodes of multi-head latent attention: 512 elements of latent and 64 of rotated key a token, as DeepSeek's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from gpusim.model.work import Attention, LatentWork
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.tables import columns, groups
from gpusim.spec.base import DTYPE_BYTES
from gpusim.spec.device import DeviceSpec
from gpusim.units import us

LATENT: Final = 512
ROPE: Final = 64
ACTIVATION_BYTES: Final = 2.0
EAGER_KERNELS: Final = ("vllm_triton_mla",)
EAGER_S: Final = 336 * us
"""What the CPU takes to launch a call of those kernels outside a CUDA graph: measured, the median of short calls."""


def _calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    """Decodes of a benchmark that reads the same cache again and again."""
    found = []
    for (engine, kernel, dtype), rows in groups(table, "engine", "kernel", "kv_dtype"):
        batch, context, heads = columns(rows, "batch", "ctx_len", "n_heads")
        tokens, none = batch * context, 0 * batch
        kv_bytes = tokens * (LATENT + ROPE) * DTYPE_BYTES[dtype]
        work = Attention(
            "attention",
            num_sequences=batch,
            num_heads=heads,
            num_kv_heads=1,
            head_dim=LATENT + ROPE,
            dtype=dtype,
            kv_tokens=tokens,
            kv_bytes=kv_bytes,
            activation_bytes=ACTIVATION_BYTES * batch * heads * (2 * LATENT + ROPE),
            decode_flops=2 * tokens * heads * (2 * LATENT + ROPE),
            prefill_flops=none,
            latent=LatentWork(batch, tokens, none, LATENT, ROPE, none, none, none),
            reuse_distance=kv_bytes,
        )
        is_eager = kernel in EAGER_KERNELS
        law = ("engines", engine, "mla", dtype)
        host_s = EAGER_S if is_eager else 0.0
        found.append(Calls(rows["row"].to_numpy(), (work,), law, eager=is_eager, host_s=host_s))
    return found


MLA: Final = Family(
    kind="mla",
    file="mla_decode",
    words=("engine", "kernel", "kv_dtype"),
    numbers=("batch", "ctx_len", "n_heads"),
    calls=_calls,
    shape=("batch", "n_heads"),
    core=lambda *_: pl.lit(value=True),
    region=lambda: pl.format("{} heads", pl.col("n_heads")),
    engine="engine",
)

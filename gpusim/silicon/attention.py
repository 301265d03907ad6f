"""Decode attention of uniform batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from gpusim.model.work import Attention
from gpusim.runtime.default_laws import device_laws_of
from gpusim.runtime.laws.attention import attention_rows, is_other
from gpusim.runtime.laws.gpu import law_for
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.tables import MEASURED, columns, groups
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.device import DeviceSpec
from gpusim.units import MiB, us

ACTIVATION_BYTES = 2.0


def _calls(table: pl.DataFrame, device: DeviceSpec) -> Sequence[Calls]:
    """Decodes of a benchmark that reads the same KV again and again."""
    found = []
    backend = pl.col("kernel") if "kernel" in table.columns else pl.lit("")
    table = table.with_columns(backend.fill_null("").alias("backend"))
    for (engine, backend_name, dtype), rows in groups(table, "engine", "backend", "kv_dtype"):
        name = _engine(device, engine, backend_name)
        law = law_for(dtype, device_laws_of(device).of(name).attention)
        on_other = is_other(attention_rows(_work(rows, dtype)).decodes(), law, device.compute.sm_count)
        for part, key in ((rows.filter(~on_other), ()), (rows.filter(on_other), ("other",))):
            if len(part):
                path = ("engines", name, "attention", dtype, *key)
                found.append(Calls(part["row"].to_numpy(), (_work(part, dtype),), path))
    return found


def _engine(device: DeviceSpec, engine: str, backend: str) -> str:
    """Return whose laws hold: those of the backend, where the device has some for it."""
    name = f"{engine}-{backend}"
    return name if name in device_laws_of(device).engines else engine


def _work(rows: pl.DataFrame, dtype: Dtype) -> Attention:
    names = ("batch", "ctx_len", "n_heads", "n_kv_heads", "head_dim", "window")
    batch, context, heads, kv_heads, head_dim, window = columns(rows, *names)
    read = batch * np.where(window > 0, np.minimum(context, window), context)
    kv_bytes = 2 * read * kv_heads * head_dim * DTYPE_BYTES[dtype]
    return Attention(
        "attention",
        num_sequences=batch,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        dtype=dtype,
        kv_tokens=read,
        kv_bytes=kv_bytes,
        activation_bytes=2 * batch * heads * head_dim * ACTIVATION_BYTES,
        decode_flops=4 * read * heads * head_dim,
        prefill_flops=0 * read,
        reuse_distance=kv_bytes,
        is_windowed=window > 0,
    )


def _kv_bytes() -> pl.Expr:
    context = pl.when(pl.col("window") > 0).then(pl.min_horizontal("ctx_len", "window")).otherwise("ctx_len")
    width = pl.when(pl.col("kv_dtype") == "fp8").then(1).otherwise(2)
    return 2 * pl.col("batch") * pl.col("n_kv_heads") * pl.col("head_dim") * context * width


def _is_core(table: pl.DataFrame, device: DeviceSpec) -> pl.Expr:
    """Usual shapes; rows faster than their KV at the data sheet's rate cannot have read it."""
    usual = (pl.col("head_dim") == 128) & (pl.col("window") == 0) & (pl.col("n_heads") <= 16 * pl.col("n_kv_heads"))
    core = usual & (pl.col("ctx_len") >= 64)
    if MEASURED in table.columns:
        core &= pl.col(MEASURED) * us >= _kv_bytes() / device.memory.bandwidth
    return core


def _region() -> pl.Expr:
    size = _kv_bytes()
    return (
        pl.when(size <= 8 * MiB)
        .then(pl.lit("KV <= 8 MiB"))
        .when(size <= 256 * MiB)
        .then(pl.lit("KV <= 256 MiB"))
        .otherwise(pl.lit("KV > 256 MiB"))
    )


ATTENTION = Family(
    kind="attn",
    file="attention_decode",
    words=("engine", "kv_dtype"),
    numbers=("batch", "ctx_len", "n_heads", "n_kv_heads", "head_dim", "window"),
    calls=_calls,
    shape=("batch", "n_heads", "n_kv_heads", "head_dim"),
    core=_is_core,
    region=_region,
    engine="engine",
)

"""Matrix products: measured alone, and as the linear layers of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from gpusim.model.work import Gemm
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.tables import columns, groups
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.device import DeviceSpec
from gpusim.units import us

VLLM_COPIES: Final = 6.0
TRTLLM_COPIES: Final = 5.0
WIDTH: Final = 2.0
"""Bytes of an element of x and y as the benchmark has them."""
LAUNCH_S: Final = {"hopper": (60 * us, 90 * us)}
"""What the CPU took for a call of vLLM with weights scaled in blocks, by family: by FlashInfer, and by DeepGEMM for more rows."""
OTHER_LAUNCH_S: Final = (178 * us, 178 * us)
FLASHINFER_ROWS: Final = 31


def _calls(table: pl.DataFrame, device: DeviceSpec) -> Sequence[Calls]:
    """Products of a benchmark that cycles copies of the weights: six (vLLM), or min(5, L2 / weights rounded up) (TRT-LLM).

    vLLM's with weights in blocks were launched by the CPU one by one.
    """
    found = []
    for (engine, stored), rows in groups(table, "engine", "dtype"):
        dtype: Dtype = "fp8" if stored.startswith("fp8") else stored
        m, n, k = columns(rows, "m", "n", "k")
        weight_bytes = n * k * DTYPE_BYTES[dtype]
        copies = VLLM_COPIES if engine == "vllm" else np.minimum(TRTLLM_COPIES, np.ceil(device.l2 / weight_bytes))
        in_blocks, is_eager = stored == "fp8_block", engine == "vllm" and stored == "fp8_block"
        work = Gemm(
            "gemm",
            m,
            n,
            k,
            dtype,
            weight_bytes,
            WIDTH * m * (n + k),
            reuse_distance=copies * weight_bytes + m * (DTYPE_BYTES[dtype] * k + WIDTH * n),
            scaled_in_blocks=in_blocks,
            is_alone=True,
        )
        host_s = np.where(m > FLASHINFER_ROWS, *LAUNCH_S.get(device.family, OTHER_LAUNCH_S)[::-1]) if is_eager else 0.0
        law = ("engines", engine, "gemm", stored)
        found.append(Calls(rows["row"].to_numpy(), (work,), law, eager=is_eager, host_s=host_s))
    return found


def _linear_calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    """Linear layers inside a model: weights cold, as the profiler of a whole forward pass of Sarathi sees them."""
    m, n, k = columns(table, "m", "n", "k")
    product = Gemm("linear", m, n, k, "bf16", WIDTH * n * k, WIDTH * m * (n + k))
    return [Calls(table["row"].to_numpy(), (product,), ("engines", "sarathi", "gemm", "bf16"))]


def _is_core(_table: pl.DataFrame, _: DeviceSpec) -> pl.Expr:
    small = (pl.col("m") <= 256) & (pl.col("n") >= 512) & (pl.col("k") >= 512)
    return small & ~((pl.col("engine") == "vllm") & (pl.col("dtype") == "fp8_block"))


def _region() -> pl.Expr:
    return (
        pl.when((pl.col("n") < 512) | (pl.col("k") < 512))
        .then(pl.lit("n or k < 512"))
        .when(pl.col("m") <= 16)
        .then(pl.lit("m <= 16"))
        .when(pl.col("m") <= 256)
        .then(pl.lit("16 < m <= 256"))
        .otherwise(pl.lit("m > 256"))
    )


GEMM = Family(
    kind="gemm",
    file="gemm",
    words=("engine", "dtype"),
    numbers=("m", "n", "k"),
    calls=_calls,
    shape=("n", "k"),
    core=_is_core,
    region=_region,
    engine="engine",
)
LINEAR = Family(
    kind="vgemm",
    file="gemm_vidur",
    words=(),
    numbers=("m", "n", "k"),
    calls=_linear_calls,
    shape=("n", "k"),
    core=lambda *_: pl.col("m") <= 256,
    region=_region,
)

"""Fit the law of multi-head latent attention on measured decodes: python benchmarks/fit_mla.py SILICON_FOLDER.

Reads `mla_decode.csv.gz` of a folder in the layout of ``data/silicon`` (DeepSeek's sizes: 512 latent and 64 rotated
elements) and prints, per GPU and stored type of the cache, the parameters of `gpusim.spec.laws.MlaLawSpec` that minimise
the mean absolute logarithmic error over contexts of 64 tokens and more, with the error they leave and that of a plain
``t0 + bytes / (efficiency · bandwidth)``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from gpusim.core.clock import FloatArray
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.mla import DecodeRows, decode_time
from gpusim.spec.base import Dtype
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.laws import MlaLawSpec
from gpusim.spec.names import read
from gpusim.units import us

DEVICES = {
    "a100_sxm": "a100-sxm-80gb",
    "h100_sxm": "h100-sxm",
    "b200_sxm": "b200-sxm",
    "rtx_pro_6000_server": "rtx-pro-6000-server",
}
LATENT, ROPE = 512, 64
START = {
    "t0": 1e-5,
    "t_cta": 1e-6,
    "cta_bandwidth": 1e11,
    "t_split": 1e-6,
    "memory_factor": 0.8,
    "compute_efficiency": 0.5,
}
BOUNDS = np.array([(1e-6, 1e-3), (1e-9, 1e-4), (1e9, 5e11), (1e-8, 1e-4), (0.05, 1.0), (0.03, 1.0)])
HEADS_PER_ITEM = {"a100_sxm": 16}
"""Of Triton's kernel, in which every 16 heads read the cache again; else 64, of FlashMLA and TensorRT-LLM's."""


def measured(folder: Path, gpu: str, dtype: str) -> pl.DataFrame:
    """Read the rows that are fitted."""
    table = pl.read_csv(folder / "mla_decode.csv.gz")
    return table.filter(pl.col("gpu") == gpu, pl.col("kv_dtype") == dtype, pl.col("ctx_len") >= 64)


def predict(table: pl.DataFrame, law: MlaLawSpec, gpu: GpuFigures, dtype: Dtype) -> FloatArray:
    """Return the law's seconds of each row of *table*."""
    seconds = np.zeros(len(table))
    for (heads,), rows in table.with_row_index().group_by("n_heads"):
        batch, context = (rows[name].to_numpy().astype(np.float64) for name in ("batch", "ctx_len"))
        timing = decode_time(DecodeRows(batch, batch * context, heads, LATENT, ROPE), law, gpu, dtype)
        seconds[rows["index"].to_numpy()] = timing.duration_s(timing.memory_s())
    return seconds


def search(error: Callable[[FloatArray], float], start: FloatArray, bounds: FloatArray) -> FloatArray:
    """Pattern search in the logarithms: a step up or down of each value in turn, halved when none helps."""
    best, step = np.log(start), 0.5
    least = error(np.exp(best))
    while step > 0.003:
        found = False
        for index in range(len(best)):
            for sign in (1.0, -1.0):
                tried = best.copy()
                tried[index] = np.clip(tried[index] + sign * step, *np.log(bounds[index]))
                value = error(np.exp(tried))
                if value < least - 1e-9:
                    best, least, found = tried, value, True
        step = step if found else step / 2
    return np.exp(best)


def main(folder: Path) -> None:
    """Print the fit of each GPU and stored type."""
    for name, device in DEVICES.items():
        spec = validate(DeviceSpec, read("device", device))
        gpu = GpuFigures(spec, spec.memory.bandwidth * (spec.memory.efficiency or 1.0))
        for dtype, width in (("bf16", 2), ("fp8", 1)):
            table = measured(folder, name, dtype)
            if not len(table):
                continue
            latency_s = table["latency_us"].to_numpy() * us
            kv_bytes = (table["batch"] * table["ctx_len"]).to_numpy() * (LATENT + ROPE) * width

            def log_error(seconds: FloatArray, latency_s: FloatArray = latency_s) -> float:
                return float(np.mean(np.abs(np.log(seconds / latency_s))))

            def law_of(values: FloatArray, min_split: int, own: int = HEADS_PER_ITEM.get(name, 64)) -> MlaLawSpec:
                return MlaLawSpec(
                    heads_per_item=own, min_split=min_split, **dict(zip(START, values.tolist(), strict=True))
                )

            def fit(min_split: int) -> MlaLawSpec:
                error = lambda x: log_error(predict(table, law_of(x, min_split), gpu, dtype))  # noqa: E731, B023
                return law_of(search(error, np.array(list(START.values())), BOUNDS), min_split)

            law = min(map(fit, (64, 128, 256, 512)), key=lambda one: log_error(predict(table, one, gpu, dtype)))
            plain = lambda x: x[0] + kv_bytes / (x[1] * gpu.bandwidth)  # noqa: E731, B023
            two = search(lambda x: log_error(plain(x)), np.array([1e-5, 0.8]), BOUNDS[[0, 4]])  # noqa: B023
            errors = [np.mean(np.abs(s / latency_s - 1)) for s in (predict(table, law, gpu, dtype), plain(two))]
            print(f"{device} {dtype}: {law}")
            print(f"  {len(table)} rows, MAPE {100 * errors[0]:.1f} %, plain {100 * errors[1]:.1f} % with {two}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Fit the element-wise law on measured kernels: python benchmarks/fit_elementwise.py SILICON_FOLDER.

Reads `elementwise_vidur.csv.gz` (A100, H100) and `dense_lss.csv.gz` (RTX PRO 6000) of a folder in the layout of
``data/silicon`` and prints, per GPU, the four parameters of `gpusim.spec.laws.ElementwiseLawSpec` that minimise the
mean absolute logarithmic error, with the error they leave. Embedding look-ups are left out of the fit (one kernel a
step, three times slower per byte than the rest) and scored by themselves.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from gpusim.core.clock import FloatArray
from gpusim.runtime.laws.elementwise import ElementwiseRows, elementwise_time
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.laws import ElementwiseLawSpec
from gpusim.spec.names import read
from gpusim.units import us

ELEMENT_BYTES = 2
DEVICES = {"a100_sxm": "a100-sxm-80gb", "h100_sxm": "h100-sxm", "rtx_pro_6000_server": "rtx-pro-6000-server"}
RANGES = {"t0": (0.5e-6, 1e-5), "memory_factor": (0.1, 1.0), "l2_speedup": (1.0, 8.0), "l2_fraction": (0.1, 2.0)}
HEADS, KV_HEADS, HEAD_DIM = "n_heads", "n_kv_heads", "head_dim"


def kernels(folder: Path) -> pl.DataFrame:
    """Read all element-wise kernels: gpu, op, bytes (read and written), latency_s."""
    vidur = pl.read_csv(folder / "elementwise_vidur.csv.gz").select(
        "gpu", "op", bytes=ELEMENT_BYTES * (pl.col("elem_read") + pl.col("elem_written")), latency_us="latency_us"
    )
    return pl.concat([vidur, _block_kernels(folder)]).with_columns(latency_s=pl.col("latency_us") * us)


def _block_kernels(folder: Path) -> pl.DataFrame:
    """Read the element-wise layers of one transformer block; their sizes follow from its shape (fused add and norm)."""
    rotated = (pl.col(HEADS) + pl.col(KV_HEADS)) * pl.col(HEAD_DIM) // pl.col("tp")
    elements = {
        "layernorm": 4 * pl.col("hidden"),
        "final_layernorm": 4 * pl.col("hidden"),
        "rotary_emb": 2 * rotated,
        "act_fn": 3 * pl.col("ffn") // pl.col("tp"),
        "embedding": 2 * pl.col("hidden"),
    }
    table = pl.read_csv(folder / "dense_lss.csv.gz").rename({"layer": "op"})
    return pl.concat(
        table.filter(pl.col("op") == op).select(
            "gpu", "op", bytes=ELEMENT_BYTES * pl.col("tokens") * count, latency_us="latency_us"
        )
        for op, count in elements.items()
    )


def predict(law: ElementwiseLawSpec, gpu: GpuFigures, sizes: FloatArray) -> FloatArray:
    """Return the law's durations in seconds of kernels that move *sizes* bytes."""
    timing = elementwise_time(ElementwiseRows(sizes, np.zeros_like(sizes)), law, gpu)
    return timing.duration_s(timing.memory_s())


def log_error(law: ElementwiseLawSpec, gpu: GpuFigures, sizes: FloatArray, measured_s: FloatArray) -> float:
    """Mean absolute logarithmic error of *law*."""
    return float(np.mean(np.abs(np.log(predict(law, gpu, sizes) / measured_s))))


def fit(gpu: GpuFigures, sizes: FloatArray, measured_s: FloatArray) -> ElementwiseLawSpec:
    """Search a grid of all parameters, halving its width round the best point until it no longer matters."""
    ranges = dict(RANGES)
    best = ElementwiseLawSpec(**{key: low for key, (low, _) in ranges.items()})
    for _ in range(8):
        grid = [np.geomspace(*bounds, 7) for bounds in ranges.values()]
        points = [ElementwiseLawSpec(**dict(zip(ranges, point, strict=True))) for point in product(*grid)]
        best = min([best, *points], key=lambda law: log_error(law, gpu, sizes, measured_s))
        ranges = {key: _narrowed(key, bounds, getattr(best, key)) for key, bounds in ranges.items()}
    return best


def _narrowed(key: str, bounds: tuple[float, float], centre: float) -> tuple[float, float]:
    reach = (bounds[1] / bounds[0]) ** 0.25
    low, high = RANGES[key]
    return max(low, centre / reach), min(high, centre * reach)


def main(folder: Path) -> None:
    """Print the fit of each GPU."""
    table = kernels(folder)
    is_embedding = pl.col("op").is_in(["emb", "embedding"])
    for name, device in DEVICES.items():
        spec = validate(DeviceSpec, read("device", device))
        gpu = GpuFigures(spec, spec.memory.bandwidth * (spec.memory.efficiency or 1.0))
        rows = table.filter(pl.col("gpu") == name)
        fitted = rows.filter(~is_embedding)
        law = fit(gpu, fitted["bytes"].to_numpy().astype(float), fitted["latency_s"].to_numpy())
        print(f"{device}: {law}")
        for (op,), group in rows.group_by("op", maintain_order=True):
            _print_score(str(op), law, gpu, group)
        _print_score("fitted rows", law, gpu, fitted)


def _print_score(label: str, law: ElementwiseLawSpec, gpu: GpuFigures, rows: pl.DataFrame) -> None:
    error = predict(law, gpu, rows["bytes"].to_numpy().astype(float)) / rows["latency_s"].to_numpy() - 1
    print(
        f"  {label:26} {len(rows):5} rows  MAPE {100 * np.mean(np.abs(error)):5.1f} %  median {100 * np.median(error):+5.1f} %"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

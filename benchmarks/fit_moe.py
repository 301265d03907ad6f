"""Fit the law of mixtures of experts on measured layers: python benchmarks/fit_moe.py SILICON_FOLDER.

Reads `moe.csv.gz` of a folder in the layout of ``data/silicon`` and prints, per GPU and stored type, the parameters of
`gpusim.spec.laws.MoeLawSpec` that minimise the mean absolute logarithmic error, with the error they leave and that of a
plain ``t0 + bytes / (efficiency · bandwidth)``. How the benchmark routed tokens is played again (`counts`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from gpusim.core.clock import FloatArray, IntArray
from gpusim.model.experts import layer_kernels
from gpusim.model.layout import Layout
from gpusim.model.routing import ExpertLoad
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.kernels import CalibratedLaws
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.laws import LawsSpec, MoeLawSpec
from gpusim.spec.model import MoeSpec
from gpusim.spec.names import read
from gpusim.units import us

DEVICES = {
    "a100_sxm": "a100-sxm-80gb",
    "h100_sxm": "h100-sxm",
    "b200_sxm": "b200-sxm",
    "rtx_pro_6000_server": "rtx-pro-6000-server",
}
START = {"t0": 3e-5, "t_wave": 3e-7, "memory_factor": 0.8, "compute_efficiency": 0.5, "pass_factor": 0.5}
BOUNDS = {
    "t0": (1e-6, 3e-4),
    "t_wave": (1e-9, 1e-4),
    "memory_factor": (0.05, 1.0),
    "compute_efficiency": (0.05, 0.8),
    "pass_factor": (0.05, 3.0),
}
PLAIN_EXPERTS = ((2688, 1856), (4096, 2688), (1024, 2688))
"""(hidden, intermediate) of models whose experts have no gate; the older A100 rows were measured as if they had."""
DRAWS = 8


def counts(tokens: int, moe: MoeSpec, ranks: int, distribution: str, draw: int) -> IntArray:
    """Return the tokens of each expert of the measured rank, the fullest, as the benchmark routes them.

    ``balanced``: evenly, in turn. ``power_law_A``: loads drawn with a density of x^-A between 1 and 0.8 of the tokens (0.01
    and 2 where there are fewer choices than experts), scaled to all choices and rounded; what is over or missing is evened
    out rank by rank.
    """
    experts, chosen = moe.num_experts, moe.experts_per_token
    if distribution == "balanced":
        stride = -(-experts // chosen)
        first = np.arange(tokens) if tokens >= stride else np.arange(tokens) * stride // tokens
        picked = (first[:, None] + np.arange(chosen) * stride) % experts
        return np.bincount(picked.ravel(), minlength=experts).reshape(ranks, -1)[0]
    exponent = 1 - float(distribution.removeprefix("power_law_"))
    low, high = (1.0, max(1.0001, 0.8 * tokens)) if tokens * chosen > experts else (0.01, 2.0)
    uniform = np.random.default_rng(draw).random(experts)
    loads = ((high**exponent - low**exponent) * uniform + low**exponent) ** (1 / exponent)
    rounded = np.minimum(np.rint(loads / loads.sum() * tokens * chosen).astype(np.int64), tokens).reshape(ranks, -1)
    _even_out(rounded, tokens * chosen - int(rounded.sum()), tokens)
    return rounded[rounded.sum(axis=1).argmax()]


def _even_out(loads: IntArray, missing: int, most: int) -> None:
    """Add to the emptiest, or take from the fullest, expert of each rank in turn until nothing is missing."""
    rank = 0
    while missing:
        own = loads[rank % len(loads)]
        if missing > 0 and own.min() < most:
            own[own.argmin()] += 1
            missing -= 1
        elif missing < 0 and own.max() > 0:
            own[own.argmax()] -= 1
            missing += 1
        rank += 1


@cache
def mean_load(tokens: int, moe: MoeSpec, ranks: int, distribution: str) -> tuple[float, float]:
    """Return distinct experts and rows of the measured rank, in the mean of some draws."""
    drawn = [counts(tokens, moe, ranks, distribution, draw) for draw in range(DRAWS)]
    return float(np.mean([np.count_nonzero(own) for own in drawn])), float(np.mean([own.sum() for own in drawn]))


def measured(folder: Path, gpu: str, dtype: str) -> pl.DataFrame:
    """Read the layers of one GPU and stored type."""
    table = pl.read_csv(folder / "moe.csv.gz").filter(pl.col("gpu") == gpu, pl.col("dtype") == dtype)
    is_plain = pl.concat_list("hidden", "inter").is_in([list(shape) for shape in PLAIN_EXPERTS])
    kind = pl.when(is_plain & (pl.col("gpu") != "a100_sxm")).then(pl.lit("plain")).otherwise(pl.lit("gated"))
    return table.with_columns(kind=kind, latency_s=pl.col("latency_us") * us)


def predictor(table: pl.DataFrame, dtype: str, gpu: GpuFigures, laws: LawsSpec) -> Callable[[MoeLawSpec], FloatArray]:
    """Return what gives the seconds of each row of *table* by a law: the kernels that a step has for such a layer."""
    shapes = ["hidden", "inter", "topk", "n_experts", "tp", "ep", "kind"]
    parts = []
    for key, rows in table.with_row_index().group_by(shapes, maintain_order=True):
        hidden, inter, topk, experts, tp, ep, kind = key
        moe = MoeSpec(num_experts=experts, experts_per_token=topk, expert_intermediate_size=inter // tp, kind=kind)
        pairs = [mean_load(t, moe, ep, d) for t, d in rows.select("tokens", "distribution").iter_rows()]
        load = ExpertLoad(*np.array(pairs).T)
        width = "fp8" if dtype.startswith("fp8") else "bf16"
        kernels = layer_kernels(moe, hidden, rows["tokens"].to_numpy(), load, layout=Layout(), weights=width, width=2.0)
        parts.append((rows["index"].to_numpy(), kernels))

    def predict(law: MoeLawSpec) -> FloatArray:
        own = CalibratedLaws(gpu, laws.model_copy(update={"moe": {"bf16": law, "fp8": law}}))
        seconds = np.zeros(len(table))
        for index, kernels in parts:
            for timing in map(own.time, kernels):
                seconds[index] += timing.duration_s(timing.memory_s())
        return seconds

    return predict


def plain(table: pl.DataFrame, dtype: str, gpu: GpuFigures) -> Callable[[FloatArray], FloatArray]:
    """Return what gives ``t0 + bytes / (efficiency · bandwidth)`` of each row for (t0, efficiency)."""
    sizes = []
    for row in table.iter_rows(named=True):
        moe = MoeSpec(num_experts=row["n_experts"], experts_per_token=row["topk"], expert_intermediate_size=1)
        experts, _ = mean_load(row["tokens"], moe, row["ep"], row["distribution"])
        matrices = 3 if row["kind"] == "gated" else 2
        sizes.append(experts * matrices * row["hidden"] * (row["inter"] // row["tp"]) * (1 if "fp8" in dtype else 2))
    return lambda x: x[0] + np.array(sizes) / (x[1] * gpu.bandwidth)


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
        assert spec.laws is not None
        gpu = GpuFigures(spec, spec.memory.bandwidth * (spec.memory.efficiency or 1.0))
        for dtype in ("bf16", "fp8", "fp8_block"):
            table = measured(folder, name, dtype)
            if not len(table):
                continue
            latency_s = table["latency_s"].to_numpy()
            predict, naive = predictor(table, dtype, gpu, spec.laws), plain(table, dtype, gpu)

            def log_error(seconds: FloatArray, latency_s: FloatArray = latency_s) -> float:
                return float(np.mean(np.abs(np.log(seconds / latency_s))))

            def law_of(values: FloatArray) -> MoeLawSpec:
                return MoeLawSpec(**dict(zip(START, values.tolist(), strict=True)))

            bounds = np.array(list(BOUNDS.values()))
            values = search(lambda x: log_error(predict(law_of(x))), np.array(list(START.values())), bounds)  # noqa: B023
            two = search(lambda x: log_error(naive(x)), np.array([3e-5, 0.8]), bounds[[0, 2]])  # noqa: B023
            error, plain_error = (np.mean(np.abs(s / latency_s - 1)) for s in (predict(law_of(values)), naive(two)))
            print(f"{device} {dtype}: {law_of(values)}")
            print(f"  {len(table)} rows, MAPE {100 * error:.1f} %, plain {100 * plain_error:.1f} % with {two}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

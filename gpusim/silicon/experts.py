"""Layers of experts, as vLLM fuses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from gpusim.core.arrays import FloatArray
from gpusim.model.experts import ExpertBlock, layer_kernels
from gpusim.model.routing import ExpertLoad
from gpusim.model.work import ExpertKernels
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.dealing import EVEN, POWER_LAW, Deal, dealt
from gpusim.silicon.tables import columns, groups
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.device import DeviceSpec

PLAIN_EXPERTS: Final = ((2688, 1856), (1024, 2688))
"""(hidden, intermediate) of models whose experts have no gate: Nemotron 3."""
CURRENT: Final = (0, 17)
"""From this version of vLLM on the benchmark deals as today, and knows experts without a gate."""
_SIZES: Final = ("tokens", "hidden", "inter", "topk", "n_experts", "tp", "ep")
_DEALT: Final = ("tokens", "n_experts", "topk", "ep", "distribution", "is_early")


def _calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    """Layers that a benchmark replays: all draws of its routing one after the other, and again."""
    table = table.with_columns(is_early=_is_early(), library=_library())
    found = []
    for (engine, stored, library), rows in groups(table, "engine", "dtype", "library"):
        weights: Dtype = "fp8" if stored.startswith("fp8") else stored
        tokens, hidden, inter, chosen, num_experts, tp, ep = columns(rows, *_SIZES)
        load, touched = _loads(rows)
        is_plain = rows.select(_is_plain()).to_series().to_numpy()
        intermediate = inter // tp
        in_columns = np.where(is_plain, 1, 2) * intermediate
        block = ExpertBlock(
            hidden=hidden,
            in_columns=in_columns,
            out_rows=intermediate,
            num_experts=num_experts,
            held=num_experts / ep,
            chosen=chosen,
            weights=weights,
            width=2.0,
        )
        reused = touched * (in_columns + intermediate) * hidden * DTYPE_BYTES[weights]
        works = layer_kernels(block, tokens, load, ExpertKernels(stored, library), reused)
        found.append(Calls(rows["row"].to_numpy(), works, ("engines", engine, "moe", stored, library)))
    return found


def _loads(rows: pl.DataFrame) -> tuple[ExpertLoad, FloatArray]:
    """Return what each row's tokens ask of the experts, and how many of the rank's a replay touches."""
    cases = rows.select(_DEALT).unique(maintain_order=True)
    loads = [
        dealt(Deal(int(tokens), int(experts), int(chosen), int(ranks), distribution, is_early))
        for tokens, experts, chosen, ranks, distribution, is_early in cases.iter_rows()
    ]
    names = ("experts", "rows", "other_experts", "other_rows", "touched")
    cases = cases.with_columns(pl.Series(f"load_{name}", [getattr(load, name) for load in loads]) for name in names)
    joined = rows.select(_DEALT).join(cases, on=_DEALT, how="left", maintain_order="left")
    *sizes, touched = columns(joined, *(f"load_{name}" for name in names))
    return ExpertLoad(*sizes), touched


def _is_early() -> pl.Expr:
    """Tell rows of the benchmark's first form by the version of vLLM; where it is not stated, it is today's."""
    parts = pl.col("engine_version").str.extract_groups(r"^(\d+)\.(\d+)")
    major, minor = (parts.struct.field(name).cast(pl.Int64, strict=False) for name in ("1", "2"))
    return ((major * 1000 + minor) < CURRENT[0] * 1000 + CURRENT[1]).fill_null(value=False)


def _is_plain() -> pl.Expr:
    shapes = [(pl.col("hidden") == hidden) & (pl.col("inter") == inter) for hidden, inter in PLAIN_EXPERTS]
    return pl.any_horizontal(shapes) & ~pl.col("is_early")


def _library() -> pl.Expr:
    """Whose kernels, by what vLLM calls them."""
    kernel = pl.col("kernel")
    return (
        pl.when(kernel.str.contains("trtllm"))
        .then(pl.lit("trtllm"))
        .when(kernel.str.contains("cutlass"))
        .then(pl.lit("cutlass"))
        .otherwise(pl.lit("triton"))
    )


def _region() -> pl.Expr:
    return (
        pl.when(pl.col("tokens") <= 16)
        .then(pl.lit("tokens <= 16"))
        .when(pl.col("tokens") <= 128)
        .then(pl.lit("16 < tokens <= 128"))
        .otherwise(pl.lit("tokens > 128"))
    )


def _whole(name: str) -> pl.Expr:
    """Tell values that are whole numbers of at least 1."""
    value = pl.col(name).cast(pl.Float64, strict=False)
    return (value >= 1) & (value == value.round())


MOST_TOKENS: Final = 1 << 20
_IS_STORED = pl.col("dtype").is_in(["fp8_block", *DTYPE_BYTES])
_IS_DEALT = (pl.col("distribution") == EVEN) | pl.col("distribution").str.contains(f"^{POWER_LAW}[0-9.]+$")
_FITS = (pl.col("topk") <= pl.col("n_experts")) & (pl.col("n_experts") % pl.col("ep") == 0)

EXPERTS = Family(
    kind="moe",
    file="moe",
    words=("engine", "engine_version", "kernel", "dtype", "distribution"),
    numbers=_SIZES,
    calls=_calls,
    shape=("hidden", "inter", "topk", "n_experts", "tp", "ep"),
    core=lambda *_: pl.lit(value=True),
    region=_region,
    engine="engine",
    reasons=(
        ("sizes are no whole numbers of at least 1", ~pl.all_horizontal(_whole(name) for name in _SIZES)),
        ("experts cannot be dealt so", ~_FITS),
        ("routed in a way that is not known", ~_IS_DEALT),
        ("stored in a type that is not known", ~_IS_STORED),
        (f"more than {MOST_TOKENS} tokens", pl.col("tokens") > MOST_TOKENS),
    ),
)

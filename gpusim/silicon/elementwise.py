"""Element-wise kernels inside a forward pass, with the engine of 2023."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from gpusim.model.work import Elementwise, ElementwiseKind
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.tables import columns, groups
from gpusim.spec.device import DeviceSpec

ENGINE: Final = "sarathi"
"""Sarathi-Serve, whose kernels microsoft/vidur profiled."""
KINDS: Final[dict[str, ElementwiseKind]] = {
    "input_layernorm": "norm",
    "post_attention_layernorm": "norm",
    "mlp_act": "activation",
    "attn_rope": "rope",
    "emb": "embedding",
    "add": "pointwise",
}
LAW: Final = ("elementwise",)


def _calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    found = []
    known = table.filter(pl.col("op").is_in(list(KINDS))).with_columns(
        gated=pl.col("elem_read") > pl.col("elem_written")
    )
    for (op, is_gated), rows in groups(known, "op", "gated"):
        tokens, read, written = columns(rows, "m", "elem_read", "elem_written")
        # An activation without a gate is PyTorch's.
        kind: ElementwiseKind = "pointwise" if op == "mlp_act" and not is_gated else KINDS[op]
        # A rotation reads and writes both elements of a pair.
        width = written / np.maximum(tokens, 1.0) / (2 if kind == "rope" else 1)
        work = Elementwise(op, 2 * read, 2 * written, kind, tokens, width)
        found.append(Calls(rows["row"].to_numpy(), (work,), LAW, software=ENGINE))
    return found


ELEMENTWISE: Final = Family(
    kind="velem",
    file="elementwise_vidur",
    words=("op",),
    numbers=("m", "elem_read", "elem_written"),
    calls=_calls,
    shape=("op", "model", "tp"),
    core=lambda *_: pl.lit(value=True),
    region=lambda: pl.col("op"),
    reasons=(("an operator that is not modelled", ~pl.col("op").is_in(list(KINDS))),),
)

"""Collectives: of NCCL, and the all-reduces of engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from gpusim.model.collectives import AllGather, AllReduce, AllToAll, ReduceScatter, SendRecv
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.machines import is_pairwise
from gpusim.silicon.tables import columns, groups
from gpusim.spec.device import DeviceSpec
from gpusim.units import KiB, MiB, us

WORK: Final[dict[str, Any]] = {
    "all_reduce": AllReduce,
    "all_gather": AllGather,
    "reduce_scatter": ReduceScatter,
    "alltoall": AllToAll,
    "send_recv": SendRecv,
}
NCCL: Final = "nccl"
_CPU_S: Final = {"vllm": 22 * us, "sglang": 30 * us}
"""What the CPU takes to launch an engine's all-reduce without a graph; the GPU waits for it, or it for the GPU."""
_LARGEST: Final = {"trtllm": 0.5 * MiB}
"""Of the core rows of an engine; 4 MiB for the others."""


def _law(engine: str, op: str) -> tuple[str, ...]:
    pairs = op in ("alltoall", "send_recv")
    return ("nccl", "pairs" if pairs else "ring") if engine == NCCL else ("engines", engine, "all_reduce")


def _calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    """Calls in one machine, by a graph or, with ``mode`` eager, one by one."""
    found = []
    for (impl, mode, op, ranks), rows in groups(table, "impl", "mode", "op", "n_gpus"):
        engine = impl.removesuffix("_custom")
        (size_bytes,) = columns(rows, "bytes")
        is_eager = mode == "eager"
        work = (WORK[op](op, size_bytes),)
        host_s = _CPU_S.get(engine, 0.0) if is_eager else 0.0
        found.append(Calls(rows["row"].to_numpy(), work, _law(engine, op), int(ranks), eager=is_eager, host_s=host_s))
    return found


def _network_calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    """Kernels of PyTorch's NCCL, in one machine or across several."""
    found = []
    for (gpu, op, ranks, per_node), rows in groups(table, "gpu", "op", "n_gpus", "gpus_per_node"):
        (size_bytes,) = columns(rows, "bytes")
        found.append(
            Calls(
                rows["row"].to_numpy(),
                works=(WORK[op](op, size_bytes),),
                law=_law(NCCL, op),
                ranks=int(ranks),
                ranks_per_node=int(per_node),
                pairwise=is_pairwise(gpu),
                eager=True,
            )
        )
    return found


def _is_core(_table: pl.DataFrame, device: DeviceSpec) -> pl.Expr:
    """NCCL from 512 B to 512 MB; an engine's own in a graph, as far as it is its own, between GPUs with scale-up links."""
    size = pl.col("bytes")
    nccl = (pl.col("impl") == NCCL) & (size >= 512) & (size <= 512 * MiB)
    largest = pl.col("impl").str.strip_suffix("_custom").replace_strict(_LARGEST, default=4.0 * MiB)
    own = (pl.col("impl") != NCCL) & (pl.col("mode") == "graph") & (size <= largest)
    return (nccl | own) if device.link_bandwidth > 0 else nccl


def _region() -> pl.Expr:
    size = pl.col("bytes")
    return (
        pl.when(size <= 64 * KiB)
        .then(pl.lit("<= 64 KiB"))
        .when(size <= 4 * MiB)
        .then(pl.lit("<= 4 MiB"))
        .otherwise(pl.lit("> 4 MiB"))
    )


def _unknown() -> tuple[str, pl.Expr]:
    return "no such collective", ~pl.col("op").is_in(list(WORK))


COLLECTIVES = Family(
    kind="coll",
    file="collectives",
    words=("impl", "mode", "op"),
    numbers=("n_gpus", "bytes"),
    calls=_calls,
    shape=("op", "n_gpus", "bytes"),
    core=_is_core,
    region=_region,
    engine="impl",
    reasons=(_unknown(), ("one GPU has nobody to talk to", pl.col("n_gpus") < 2)),
)
NETWORK = Family(
    kind="vnet",
    file="collectives_vidur",
    words=("op",),
    numbers=("n_gpus", "gpus_per_node", "bytes"),
    calls=_network_calls,
    shape=("op", "n_gpus", "gpus_per_node", "bytes"),
    core=lambda *_: pl.lit(value=False),
    region=lambda: (
        pl.when(pl.col("gpus_per_node") < pl.col("n_gpus")).then(pl.lit("network")).otherwise(pl.lit("node"))
    ),
    reasons=(_unknown(), ("ranks do not fill their machines", pl.col("n_gpus") % pl.col("gpus_per_node") != 0)),
)

"""The parameters of every law that are fitted, with the range in which they are searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gpusim.units import GB, us


@dataclass(frozen=True, slots=True)
class Parameter:
    """A positive number of a law, searched on a logarithmic scale."""

    name: str
    """The key in the law's spec; keys joined by dots where it stands deeper."""
    low: float
    high: float


PHYSICS: Final[dict[str, tuple[Parameter, ...]]] = {
    "attention": (Parameter("l2_fraction", 0.1, 2.0), Parameter("l2_speedup", 1.0, 8.0)),
    "gemm": (
        Parameter("matrix.streaming", 0.3, 1.0),
        Parameter("matrix.l2_fraction", 0.1, 2.0),
        Parameter("matrix.l2_speedup", 1.0, 12.0),
        Parameter("matrix.sm_bandwidth", 10 * GB, 400 * GB),
    ),
}
"""By family of laws: what it tells of the device (`PhysicsSpec`), shared by all engines and by other families."""

OWN: Final[dict[str, tuple[Parameter, ...]]] = {
    "gemm": (
        Parameter("t0", 0.5 * us, 40 * us),
        Parameter("memory_factor", 0.5, 1.0),
        Parameter("t_single_row", 0.1 * us, 40 * us),
        Parameter("t_split_k", 0.1 * us, 12 * us),
    ),
    "moe": (
        Parameter("t0", 10 * us, 100 * us),
        Parameter("t_tile", 0.01 * us, 20 * us),
        Parameter("sm_factor", 0.1, 3.0),
        Parameter("memory_factor", 0.05, 1.0),
        Parameter("token_factor", 0.02, 3.0),
        Parameter("row_factor", 0.05, 3.0),
    ),
    "elementwise": (
        Parameter("t0", 0.2 * us, 5 * us),
        Parameter("t_step", 0.05 * us, 2 * us),
        Parameter("issue_efficiency", 0.2, 5.0),
        Parameter("l2_speedup", 1.0, 8.0),
        Parameter("l2_fraction", 0.05, 2.0),
    ),
    "mla": (
        Parameter("t0", 1 * us, 40 * us),
        Parameter("t_cta", 0.1 * us, 40 * us),
        Parameter("cta_bandwidth", 2 * GB, 1000 * GB),
        Parameter("t_split", 0.01 * us, 40 * us),
        Parameter("reduce_bandwidth", 20 * GB, 2000 * GB),
        Parameter("memory_factor", 0.3, 1.0),
        Parameter("compute_efficiency", 0.1, 1.0),
        Parameter("query_passes", 1.0, 5.0),
        Parameter("t_convert", 0.1 * us, 20 * us),
        Parameter("convert_efficiency", 0.05, 1.0),
    ),
    "attention": (
        Parameter("t0", 1 * us, 40 * us),
        Parameter("t_item", 0.02 * us, 30 * us),
        Parameter("t_head", 0.001 * us, 2 * us),
        Parameter("item_bandwidth", 2 * GB, 200 * GB),
        Parameter("t_split", 0.01 * us, 40 * us),
        Parameter("t_per_split", 0.0001 * us, 2 * us),
        Parameter("t_copy", 0.01 * us, 30 * us),
        Parameter("memory_factor", 0.3, 1.0),
        Parameter("sm_bandwidth", 2 * GB, 200 * GB),
    ),
    "prefill": (
        Parameter("t0", 0.5 * us, 40 * us),
        Parameter("t_tile", 0.1 * us, 10 * us),
        Parameter("t_empty", 0.01 * us, 5 * us),
        Parameter("compute_efficiency", 0.1, 1.0),
    ),
    "all_reduce": (
        Parameter("t0", 1 * us, 40 * us),
        Parameter("t_peer", 0.01 * us, 5 * us),
        Parameter("t_spread", 0.01 * us, 5 * us),
        Parameter("one_shot_efficiency", 0.05, 1.0),
        Parameter("t_barrier", 0.1 * us, 40 * us),
        Parameter("two_shot_efficiency", 0.05, 1.0),
    ),
    "nccl.ring": (
        Parameter("t0", 1 * us, 40 * us),
        Parameter("t_hop", 0.1 * us, 5 * us),
        Parameter("t_spread", 0.01 * us, 10 * us),
        Parameter("ll_efficiency", 0.05, 1.0),
        Parameter("ll_host_factor", 0.05, 1.0),
        Parameter("copy_share", 0.01, 1.5),
        Parameter("t_simple", 0.1 * us, 60 * us),
        Parameter("t_hop_simple", 0.1 * us, 20 * us),
        Parameter("link_efficiency", 0.1, 1.0),
        Parameter("t_ll128", 0.1 * us, 100 * us),
        Parameter("t_loop", 0.1 * us, 50 * us),
        Parameter("switch_efficiency", 0.1, 1.0),
    ),
    "nccl.pairs": (
        Parameter("t0", 1 * us, 40 * us),
        Parameter("t_peer", 0.01 * us, 5 * us),
        Parameter("channel_bandwidth", 1 * GB, 100 * GB),
        Parameter("pair_efficiency", 0.05, 1.0),
        Parameter("all_efficiency", 0.05, 1.0),
    ),
}
"""By family of laws: what belongs to the kernels of one engine (or to nobody's, as NCCL's), for one stored type."""


def own_parameters(law: tuple[str, ...]) -> tuple[Parameter, ...]:
    """Return the parameters of the law that stands at *law* in a device's laws."""
    family = law[2] if law[0] == "engines" else ".".join(law)
    return OWN.get(family, ())


def physics_parameters(law: tuple[str, ...]) -> tuple[Parameter, ...]:
    """Return what the rows of *law* tell of the device."""
    family = law[2] if law[0] == "engines" else law[0]
    return PHYSICS.get(family, ()) + (_of_products(law[3]) if family == "gemm" else ())


def _of_products(stored: str) -> tuple[Parameter, ...]:
    """Return what products with weights of one stored type tell beside what all do."""
    efficiency = Parameter(f"matrix.efficiency.{stored}", 0.1, 1.0)
    rows = (Parameter("matrix.row_bandwidth", 1 * GB, 200 * GB),) if stored.startswith("fp8") else ()
    return (efficiency, *rows)

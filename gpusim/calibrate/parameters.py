"""The parameters of every law that are fitted, with the range in which they are searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gpusim.units import GB, us


@dataclass(frozen=True, slots=True)
class Parameter:
    """A positive number of a law, searched on a logarithmic scale."""

    name: str
    """The key in the law's spec."""
    low: float
    high: float


PHYSICS: Final[dict[str, tuple[Parameter, ...]]] = {}
"""By family of laws: what it tells of the device (`PhysicsSpec`), shared by all engines and by other families."""

OWN: Final[dict[str, tuple[Parameter, ...]]] = {
    "gemm": (
        Parameter("t0", 0.5 * us, 40 * us),
        Parameter("t_tile", 0.01 * us, 5 * us),
        Parameter("sm_bandwidth", 10 * GB, 400 * GB),
        Parameter("memory_factor", 0.3, 1.0),
        Parameter("compute_efficiency", 0.2, 1.0),
        Parameter("t_split_k", 0.1 * us, 12 * us),
        Parameter("l2_fraction", 0.1, 2.0),
        Parameter("l2_speedup", 1.0, 6.0),
    ),
    "moe": (
        Parameter("t0", 10 * us, 100 * us),
        Parameter("t_tile", 0.01 * us, 20 * us),
        Parameter("sm_factor", 0.1, 3.0),
        Parameter("memory_factor", 0.05, 1.0),
        Parameter("token_factor", 0.02, 3.0),
        Parameter("row_factor", 0.05, 3.0),
    ),
    "attention": (
        Parameter("t0", 1 * us, 40 * us),
        Parameter("t_cta", 0.1 * us, 10 * us),
        Parameter("cta_bandwidth", 5 * GB, 500 * GB),
        Parameter("memory_factor", 0.3, 1.0),
        Parameter("l2_speedup", 1.0, 6.0),
        Parameter("l2_fraction", 0.1, 2.0),
        Parameter("t_split", 0.1 * us, 40 * us),
    ),
}
"""By family of laws: what belongs to the kernels of one engine (or to nobody's, as NCCL's), for one stored type."""


def own_parameters(law: tuple[str, ...]) -> tuple[Parameter, ...]:
    """Return the parameters of the law that stands at *law* in a device's laws."""
    family = law[2] if law[0] == "engines" else law[0]
    return OWN.get(family, ())


def physics_parameters(law: tuple[str, ...]) -> tuple[Parameter, ...]:
    """Return what the rows of *law* tell of the device."""
    family = law[2] if law[0] == "engines" else law[0]
    return PHYSICS.get(family, ())

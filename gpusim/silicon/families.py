"""All kinds of measurement that are known, by table."""

from __future__ import annotations

from typing import Final

from gpusim.silicon.attention import ATTENTION
from gpusim.silicon.block import BLOCK
from gpusim.silicon.calls import Family
from gpusim.silicon.collectives import COLLECTIVES, NETWORK
from gpusim.silicon.elementwise import ELEMENTWISE
from gpusim.silicon.experts import EXPERTS
from gpusim.silicon.gemm import GEMM, LINEAR
from gpusim.silicon.mixed import MIXED, SKEWED
from gpusim.silicon.mla import MLA

FAMILIES: Final[tuple[Family, ...]] = (
    ATTENTION,
    MIXED,
    SKEWED,
    MLA,
    GEMM,
    LINEAR,
    EXPERTS,
    ELEMENTWISE,
    BLOCK,
    COLLECTIVES,
    NETWORK,
)

"""All kinds of measurement that are known, by table."""

from __future__ import annotations

from typing import Final

from gpusim.silicon.attention import ATTENTION
from gpusim.silicon.calls import Family
from gpusim.silicon.gemm import GEMM, LINEAR
from gpusim.silicon.mixed import MIXED, SKEWED

FAMILIES: Final[tuple[Family, ...]] = (ATTENTION, MIXED, SKEWED, GEMM, LINEAR)

"""All kinds of measurement that are known, by table."""

from __future__ import annotations

from typing import Final

from gpusim.silicon.attention import ATTENTION
from gpusim.silicon.calls import Family
from gpusim.silicon.experts import EXPERTS
from gpusim.silicon.gemm import GEMM, LINEAR

FAMILIES: Final[tuple[Family, ...]] = (ATTENTION, GEMM, LINEAR, EXPERTS)

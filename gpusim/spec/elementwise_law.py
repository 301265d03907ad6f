"""Parameters of kernels that go over elements."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gpusim.spec.base import Spec
from gpusim.units import Seconds


class ElementwiseLawSpec(Spec):
    """Norms, rotary embedding, activations, cache writes, sampling: what the device takes for them, whoever wrote them."""

    t0: Seconds = Field(ge=0)
    """First and last instruction of an empty kernel."""
    t_step: Seconds = Field(ge=0)
    """A round trip to L2 with the few instructions round it: a thread that handles several elements pays it for each."""
    issue_efficiency: float = Field(gt=0)
    """Elements an SM handles a cycle, relative to an SM of A100."""
    l2_speedup: float = Field(ge=1)
    """Bandwidth of L2 relative to device memory."""
    l2_fraction: float = Field(gt=0)
    """Part of L2 in which data stays from one kernel to the next."""


ElementwiseKernels = Literal["scalar", "vector"]
"""How element-wise kernels are written: an element a thread and step, as all were in 2023, or 16 bytes of them."""

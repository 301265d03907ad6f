"""What the laws of kernels and collectives are known not to reach, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Gap:
    """A known gap."""

    name: str
    why: str
    kind: str
    gpus: tuple[str, ...] = ()
    """Empty: all."""
    engines: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def covers(self, row: Mapping[str, Any]) -> bool:
        """Say whether a region (kind, gpu, engine, region) lies in this gap."""
        wanted = (("gpu", self.gpus), ("engine", self.engines), ("region", self.regions))
        return row["kind"] == self.kind and all(not values or row[key] in values for key, values in wanted)


GAPS: Final[tuple[Gap, ...]] = (
    Gap(
        "small products",
        "Fewer than 512 columns or a reduction of less: kernels of microseconds, of which libraries have many more than tiles of 64.",
        "gemm",
        regions=("n or k < 512",),
    ),
)

"""What rows of a table of measurements mean: calls of kernels, which one law times together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.model.work import Kernel
from gpusim.spec.device import DeviceSpec
from gpusim.spec.laws import DEFAULT_ENGINE


@dataclass(frozen=True, slots=True)
class Calls:
    """Rows of one table that are the same kind of work; all arrays of the works are (rows,)."""

    rows: IntArray
    """Their places in the table."""
    works: tuple[Kernel, ...]
    """What each row's call does, one after the other: the times add up."""
    law: tuple[str, ...]
    """Where the law that decides stands in a device's laws: keys, as ``engines``, ``vllm``, ``gemm``, ``bf16``."""
    ranks: int = 1
    """GPUs that take part in a collective."""
    ranks_per_node: int = 0
    """Of these in one machine; 0: all."""
    pairwise: bool = False
    """The GPUs' links are bridges that join pairs."""
    eager: bool = False
    """Launched by the CPU one by one, not from a CUDA graph."""
    host_s: FloatArray | float = 0.0
    """Time of the CPU that launches the call: a call takes no less. No part of the laws."""
    software: str = ""
    """Whose kernels, where the law is no engine's own."""

    @property
    def engine(self) -> str:
        """Whose kernels."""
        if self.software:
            return self.software
        return self.law[1] if self.law[0] == "engines" else DEFAULT_ENGINE


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One kind of measurement: how its rows are read."""

    kind: str
    """How its scores are called."""
    file: str
    """Its table in the folder."""
    words: tuple[str, ...]
    """Columns that a row must state, beside `id` and `gpu`."""
    numbers: tuple[str, ...]
    """Likewise, as numbers of at least 0."""
    calls: Callable[[pl.DataFrame, DeviceSpec], Sequence[Calls]]
    """Turn the rows of one GPU into calls; a row in none of them has no prediction."""
    core: Callable[[pl.DataFrame, DeviceSpec], pl.Expr]
    """Say which rows are core rows, as the data's README counts them."""
    shape: tuple[str, ...]
    """Columns of what is kept out of a fit together: all rows alike in them."""
    region: Callable[[], pl.Expr]
    """Name the part of the range in which a row lies."""
    engine: str = ""
    """The column that says whose kernels were measured."""
    reasons: Sequence[tuple[str, pl.Expr]] = field(default_factory=tuple, compare=False)
    """Why rows have no prediction, each with the rows it holds for; the first that does is named."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All that a row must state."""
        return self.words + self.numbers

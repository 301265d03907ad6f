"""Kernels that layers and what stands around them have in common: products, norms, rotary embedding, sums over ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gpusim.model.arrays import Count, Size
from gpusim.model.collectives import AllReduce
from gpusim.model.footprint import activation_bytes, mlp_matrices
from gpusim.model.layout import Layout
from gpusim.model.work import Elementwise, Gemm, Kernel
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import MlpSpec


@dataclass(frozen=True)
class CommonKernels:
    """Makes kernels of one model on one layout."""

    hidden_size: int
    layout: Layout
    weights: Dtype

    @cached_property
    def width(self) -> float:
        """Bytes of an activation element."""
        return activation_bytes(self.weights)

    def gemm(self, name: str, m: Count, n: int, k: int, dtype: Dtype | None = None) -> Gemm:
        """A product with weights of *dtype*, if not of that of the others."""
        dtype = dtype or self.weights
        return Gemm(name, m, n, k, dtype, n * k * DTYPE_BYTES[dtype], m * (n + k) * self.width)

    def fused_norm(self, name: str, num_tokens: Count) -> Elementwise:
        """Fused residual add and norm: both are read, both written."""
        size = 2 * num_tokens * self.hidden_size * self.width
        return Elementwise(name, size, size, "norm", num_tokens, self.hidden_size)

    def norm(self, name: str, rows: Count, columns: int) -> Elementwise:
        """A norm by itself, of tokens or of heads."""
        size = rows * (columns * self.width)
        return Elementwise(name, size, size, "norm", rows, columns)

    def rope(self, num_tokens: Count, elements: int) -> Elementwise:
        """Rotation of the *elements* of all heads of a token, pair by pair."""
        size = num_tokens * (elements * self.width)
        return Elementwise("rope", size, size, "rope", num_tokens, elements / 2)

    def all_reduce(self, name: str, size_bytes: Size) -> tuple[Kernel, ...]:
        """Sum over the ranks; nothing where there is one."""
        return (AllReduce(name, size_bytes),) if self.layout.tensor_parallel_size > 1 else ()

    def mlp(
        self, mlp: MlpSpec, num_tokens: Count, prefix: str = "", layout: Layout | None = None
    ) -> tuple[Kernel, ...]:
        """An MLP, its matrices divided as in *layout*, if not as the others."""
        hidden = self.hidden_size
        shapes = mlp_matrices(mlp, hidden, layout or self.layout)
        up = "gate_up" if mlp.kind == "gated" else "up"
        read, written = (num_tokens * size * self.width for size in (shapes.in_columns, shapes.out_rows))
        return (
            self.gemm(f"{prefix}{up}", num_tokens, shapes.in_columns, hidden),
            Elementwise(f"{prefix}activation", read, written, "activation", num_tokens, shapes.out_rows),
            self.gemm(f"{prefix}down", num_tokens, hidden, shapes.out_rows),
        )

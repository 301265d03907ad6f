"""Mirror: what a rank has moved and computed, entered in the accounts of those it stands for."""

from __future__ import annotations

from collections.abc import Sequence

from gpusim.hardware.gpu import Gpu


class Mirror:
    """Copies to *others* what *gpu* does from `look` to `account`, and from there to the next.

    Args:
        gpu: That is played.
        others: That would have done the same.
    """

    def __init__(self, gpu: Gpu, others: Sequence[Gpu]) -> None:
        self._gpu = gpu
        self._others = tuple(others)
        self.look()

    def look(self) -> None:
        """Note what the accounts say now."""
        if self._others:
            memory, compute = self._gpu.memory, self._gpu.compute
            self._size_bytes, self._served_s = memory.channel_bytes_out, memory.served_s
            self._busy_ticks, self._flops = compute.busy_ticks, compute.flops

    def account(self, start: int) -> None:
        """Enter with the others what has come to it since, which was at tick *start*."""
        if not self._others:
            return
        memory, compute = self._gpu.memory, self._gpu.compute
        size_bytes, served_s = memory.channel_bytes_out - self._size_bytes, memory.served_s - self._served_s
        busy_ticks, flops = compute.busy_ticks - self._busy_ticks, compute.flops - self._flops
        for other in self._others:
            other.memory.account(size_bytes, served_s)
            other.memory.spread(start)
            other.compute.account(busy_ticks, flops)
        self.look()

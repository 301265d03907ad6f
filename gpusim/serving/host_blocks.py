"""Host memory for KV of preempted requests: its blocks, and what moves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from simpy import Event

from gpusim.core.arrays import IntArray
from gpusim.core.component import Process
from gpusim.serving.free_blocks import FreeBlocks
from gpusim.serving.request import Request


class Mover(Protocol):
    """Moves KV blocks between the GPUs of an engine and host memory."""

    def move(self, num_blocks: int, *, to_host: bool) -> Process:
        """Move *num_blocks*, each GPU its shard of them; return when the last byte has arrived."""
        ...

    def store(self, num_blocks: int, *, behind: Event | None) -> Process:
        """Move *num_blocks* to host memory beside steps, once the copy *behind* which it stands is over."""
        ...


class HostBlocks:
    """Which swapped request has which blocks of host memory.

    Args:
        num_blocks: There are; each holds the shards of one KV block of all ranks.
        block_size: Tokens in a block.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.free = FreeBlocks(num_blocks)
        self.held: dict[Request, IntArray] = {}
        self.peak_used = 0
        """The most blocks ever held."""
        self.num_swaps = 0
        """Times a request went to host memory."""
        self.blocks_out = self.blocks_in = 0
        """Blocks that went there, and came back."""
        self._block_size = block_size

    @property
    def used(self) -> int:
        """Blocks held by swapped requests."""
        return self.num_blocks - self.free.count()

    def count(self, swapped: Sequence[tuple[Request, int]]) -> int:
        """Count the blocks of requests with the tokens they have in the cache."""
        return sum(-(-cached // self._block_size) for _, cached in swapped)

    def take(self, swapped_out: Sequence[tuple[Request, int]]) -> None:
        """Give blocks to requests that are swapped out."""
        for entry in swapped_out:
            num_blocks = self.count([entry])
            self.held[entry[0]] = self.free.take(num_blocks)
            self.blocks_out += num_blocks
            self.num_swaps += 1
        self.peak_used = max(self.peak_used, self.used)

    def release(self, swapped_in: Sequence[tuple[Request, int]]) -> None:
        """Take the blocks of requests that have come back."""
        for request, _ in swapped_in:
            blocks = self.held.pop(request)
            self.free.release(blocks)
            self.blocks_in += len(blocks)

"""KV of former requests in host memory, for those to come that begin alike; as vLLM's OffloadingConnector keeps it.

Blocks are known by what they hold, as on the GPU (`gpusim.serving.prefix_keys`). When a request is over or preempted, its
full blocks that are not there yet are copied to host memory while steps go on. A request that begins with blocks that the
GPU has lost and the host has gets them back before its first step, instead of computing them.
"""

from __future__ import annotations

from gpusim.serving.prefix_keys import block_keys, own_keys
from gpusim.serving.request import Request


class HostStore:
    """Which blocks host memory keeps; the one that was used longest ago is given up first.

    It changes only with steps that were played, so what is planned ahead sees it as it is.

    Args:
        num_blocks: There is room for; each holds the shards of one KV block of all ranks.
        block_size: Tokens in a block.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.blocks_out = self.blocks_in = 0
        """Blocks that set out for host memory, and copies that came back."""
        self._block_size = block_size
        self._known: dict[int, None] = {}
        """Keys, those used longest ago first."""
        self._pending = 0

    @property
    def used(self) -> int:
        """Blocks that are kept."""
        return len(self._known)

    def find(self, request: Request, first: int) -> int:
        """Count the blocks of a request that waits, from its *first* on, that can come back; its last token is computed."""
        keys = block_keys(request, self._block_size) if request.block_keys is None else request.block_keys
        number = 0
        for key in keys[first : (request.target - 1) // self._block_size]:
            if key not in self._known:
                break
            number += 1
        return number

    def keep(self, request: Request, cached: int) -> None:
        """Keep the full blocks of a request that is over or preempted, which had *cached* tokens in the cache."""
        full = cached // self._block_size
        # A block is of use only behind those before it, so the first ones are to stay longest.
        for key in reversed(self._keys(request, full)):
            if key in self._known:
                del self._known[key]
            else:
                self._pending += 1
            self._known[key] = None
        while len(self._known) > self.num_blocks:
            del self._known[next(iter(self._known))]

    def bring_back(self, request: Request, first: int, count: int) -> None:
        """Note that blocks of *request* were copied to the GPU."""
        self.blocks_in += count
        for key in reversed(self._keys(request, first + count)[first:]):
            if key in self._known:
                del self._known[key]
                self._known[key] = None

    def _keys(self, request: Request, full: int) -> list[int]:
        """Return the keys of the first *full* blocks of a request."""
        keys = block_keys(request, self._block_size)[:full]
        return keys + own_keys(request, len(keys), full)

    def take_pending(self) -> int:
        """Return how many blocks must go to host memory now."""
        pending, self._pending = min(self._pending, self.num_blocks), 0
        self.blocks_out += pending
        return pending

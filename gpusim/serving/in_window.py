"""What the requests of a plan in the making read through a window, known before the plan is."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from gpusim.serving.request import Request
from gpusim.serving.roster import Batch


class InWindow:
    """Follows those that decode, each up to its last token; `gpusim.serving.windows` has the sums of a finished plan.

    Args:
        window: Of the layers that read.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.read = 0
        """Tokens that the first step of the batch looked at reads."""
        self.growth = 0
        """Tokens that each further one reads more, until a request outgrows the window or ends."""
        self._changes: list[tuple[int, int, int]] = []
        """Heap of steps from which on so many requests more are longer than the window, and the sum of their offsets:
        in a step, what they leave out is the sum of offset + step."""
        self._number = self._offsets = 0

    def restart(self, decoding: Iterable[Request]) -> None:
        """Follow these requests and no others."""
        self._changes = [change for request in decoding for change in self._changes_of(request)]
        heapify(self._changes)
        self._number = self._offsets = 0

    def look_at(self, batch: Batch, step: int) -> None:
        """Find out what *batch* reads from a step of the engine on; of all batches since the restart, one by one."""
        for request in batch.begun:
            for change in self._changes_of(request):
                heappush(self._changes, change)
        while self._changes and self._changes[0][0] <= step:
            _, number, offset = heappop(self._changes)
            self._number += number
            self._offsets += offset
        in_chunks = sum(min(computed + new, new + self.window - 1) for _, computed, new in batch.chunks)
        self.read = batch.decode_context - self._offsets - self._number * step + in_chunks
        self.growth = batch.num_decodes - self._number

    def _changes_of(self, request: Request) -> list[tuple[int, int, int]]:
        # A request's context in a step is the tokens it had when it began to decode, one a step since, and this one.
        offset = request.target - request.first_decode + 1 - self.window
        outgrows = 1 - offset
        if outgrows > request.last_step:
            return []
        return [(outgrows, 1, offset), (request.last_step + 1, -1, -offset)]

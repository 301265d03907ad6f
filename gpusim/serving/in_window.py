"""What the requests of a plan in the making read through a window, known before the plan is."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from gpusim.serving.batch import Batch
from gpusim.serving.request import Request


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
        """Heap of rounds from which on so many requests more are longer than the window, and the sum of their offsets:
        in a round, what they leave out is the sum of offset + round."""
        self._number = self._offsets = 0

    def restart(self, decoding: Iterable[Request]) -> None:
        """Follow these requests and no others."""
        self._changes = [change for request in decoding for change in self._changes_of(request)]
        heapify(self._changes)
        self._number = self._offsets = 0

    def look_at(self, batch: Batch, number: int) -> None:
        """Find out what *batch* reads from a round of the engine on; of all batches since the restart, one by one."""
        for request in batch.begun:
            for change in self._changes_of(request):
                heappush(self._changes, change)
        while self._changes and self._changes[0][0] <= number:
            _, more, offset = heappop(self._changes)
            self._number += more
            self._offsets += offset
        in_chunks = sum(min(computed + new, new + self.window - 1) for _, computed, new in batch.chunks)
        self.read, self.growth = in_chunks, 0
        if batch.num_decodes:
            self.read += batch.decode_context - self._offsets - self._number * number
            self.growth = batch.num_decodes - self._number
        # Those who are preempted for it are counted still.
        self.read, self.growth = max(1, self.read), max(0, self.growth)

    def _changes_of(self, request: Request) -> list[tuple[int, int, int]]:
        # A request's context in a round is the tokens it had when it began to decode, one a round since, and this one.
        offset = request.target - request.first_decode + 1 - self.window
        outgrows = 1 - offset
        if outgrows > request.last_round:
            return []
        return [(outgrows, 1, offset), (request.last_round + 1, -1, -offset)]

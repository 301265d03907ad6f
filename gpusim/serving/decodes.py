"""Those who decode, as sums over them.

All decoding requests get a token in every step, so a step moves one number and not a hundred requests: their contexts
grow together, the first to end is on top of a heap, and who needs a block in a step is told by a remainder. Where decodes
pause, all pause: what concerns them counts in *rounds*, which are the steps without those in which they paused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush

from gpusim.serving.request import Request
from gpusim.serving.reserve import Reserve


@dataclass(slots=True)
class Decodes:
    """The decoding requests of an engine before its next round."""

    block_size: int
    takes_blocks: bool = True
    """Whether they need blocks as they grow."""
    round: int = 0
    """Number of the next one."""
    number: int = 0
    """Of decoding requests."""
    context: int = 0
    """Tokens of context of all of them in the next round, each including the token it computes."""
    ends: list[tuple[int, int, Request]] = field(default_factory=list)
    """Heap of (last round, order, request)."""
    crossings: list[int] = field(default_factory=list)
    """Requests by the remainder of the rounds, divided by the block size, in which they need a block."""
    farthest: int | None = field(default=None, compare=False)
    """Context of the request that has most, less the rounds; None: to be looked for."""

    def __post_init__(self) -> None:
        if not self.crossings:
            self.crossings = [0] * self.block_size

    @classmethod
    def of(cls, block_size: int, reserve: Reserve) -> Decodes:
        """Return those of an engine in which nobody decodes yet, and requests get *reserve* at their admission."""
        return cls(block_size, takes_blocks=not reserve.is_complete)

    def copy(self) -> Decodes:
        """Return decodes that can go on instead of these."""
        return Decodes(
            self.block_size,
            self.takes_blocks,
            self.round,
            self.number,
            self.context,
            self.ends.copy(),
            self.crossings.copy(),
            self.farthest,
        )

    @property
    def longest(self) -> int:
        """Tokens of context of the request that has most, in the next round, including the one it computes."""
        if not self.number:
            return 0
        if self.farthest is None:
            self.farthest = max(request.target - request.first_decode for _, _, request in self.ends)
        return self.farthest + self.round + 1

    def blocks_needed(self, rounds: int) -> int:
        """Blocks that they need for the next *rounds* rounds, if they do not pause."""
        if not self.takes_blocks:
            return 0
        begin = self.round % self.block_size
        if rounds == 1:
            return self.crossings[begin]
        whole, rest = divmod(rounds, self.block_size)
        end = begin + rest
        needed = whole * self.number + sum(self.crossings[begin:end])
        return needed if end <= self.block_size else needed + sum(self.crossings[: end - self.block_size])

    def steps_until_shortage(self, rounds: int, blocks: int) -> int:
        """Return for how many of *rounds* rounds that many *blocks* suffice."""
        # No more than one block a sequence and round; most often that settles it.
        if (rounds // self.block_size + 1) * self.number <= blocks or self.blocks_needed(rounds) <= blocks:
            return rounds
        enough, too_many = 0, rounds
        while too_many - enough > 1:
            middle = (enough + too_many) // 2
            if self.blocks_needed(middle) <= blocks:
                enough = middle
            else:
                too_many = middle
        return enough

    def needs_block(self, request: Request) -> bool:
        """Tell whether a decoding request needs a block for the next round."""
        return self.takes_blocks and self._crossing(request) == self.round % self.block_size

    def begin(self, request: Request) -> None:
        """Have *request*, which has computed what it had at admission, decode from the next round on."""
        target = request.target
        request.first_decode = self.round
        last = request.last_round = self.round + request.most_cached_tokens - target - 1
        heappush(self.ends, (last, request.order, request))
        self.number += 1
        self.context += target + 1
        if self.farthest is not None:
            self.farthest = max(self.farthest, target - self.round)
        self.crossings[(self.round - target) % self.block_size] += 1

    def drop(self, request: Request) -> None:
        """Take out a request before its end."""
        self._forget(request)
        self.ends = [entry for entry in self.ends if entry[2] is not request]
        self.ends.sort()

    def advance(self, rounds: int) -> None:
        """Let *rounds* rounds pass."""
        self.context += rounds * self.number
        self.round += rounds

    def ended(self) -> list[Request]:
        """Take out those who got their last token; return them."""
        finished = []
        while self.ends and self.ends[0][0] < self.round:
            request = heappop(self.ends)[2]
            self._forget(request)
            finished.append(request)
        return finished

    def _forget(self, request: Request) -> None:
        """Take out of the sums a request that decodes no more."""
        self.number -= 1
        self.context -= request.cached_before(self.round) + 1
        self.crossings[self._crossing(request)] -= 1
        if self.farthest == request.target - request.first_decode:
            self.farthest = None

    def _crossing(self, request: Request) -> int:
        return (request.first_decode - request.target) % self.block_size

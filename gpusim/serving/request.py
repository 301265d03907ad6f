"""A request, from arrival to its last token."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gpusim.workload.content import Content

Status: TypeAlias = Literal["waiting", "running", "finished", "rejected"]


@dataclass(slots=True, eq=False)
class Request:
    """One request and how far it has come.

    A request computes until its cache holds every token it has (prompt and generated ones); the step in which the
    last of them is computed gives it its next token. From then on it *decodes*: a token in every step.

    What it is given at admission and when it begins to decode is written here while steps are planned ahead; should
    they come differently, it is written again before anybody reads it. What changes step by step is in the `Roster`.
    """

    index: int
    arrival: int
    """Tick."""
    prompt_tokens: int
    output_tokens: int
    """How many it will get."""
    content: Content = ()
    """What its tokens are; see `gpusim.workload.content.Content`."""
    priority: int = 0
    """Lower comes first, where the engine schedules by priority."""
    is_followed: bool = False
    """Whether others come because it is over."""
    status: Status = "waiting"
    rejected_because: str | None = None
    scheduled: int | None = None
    """Tick at which its first step started."""
    finished: int | None = None
    """Tick of its last token."""
    segments: list[tuple[int, int]] = field(default_factory=list)
    """(first, last) steps of its engine; in each it got a token. Those that are over."""
    num_preemptions: int = 0
    preempted_at: int | None = None
    preempted_ticks: int = 0
    """Time between preemptions and the steps that resumed it."""

    cached_tokens: int | None = None
    """Of the prompt, those whose KV was there already when it was first scheduled."""
    hit_tokens: int = 0
    """Of what it had to compute, those whose KV was there already when it was admitted last."""
    block_keys: list[int] | None = None
    """What its full blocks hold; see `gpusim.serving.prefix_keys`."""

    generated: int = 0
    """Tokens it had when it was admitted last: those among them that it must compute before the next one comes out."""
    order: int = -1
    """Number of its admission among all of its engine."""
    slot: int = -1
    """Row of its block table, while running."""
    prompt_step: int = -1
    """Step that computed the last token it had at admission; -1 where all were in host memory."""
    decode_step: int = -1
    """Step in which it began to decode."""
    first_decode: int = -1
    """The same in rounds, see `Roster.round`."""
    last_round: int = -1
    """Round in which the last token for it is computed."""
    padding: int = 0
    """Tokens before its prompt that are computed with it, because its batch is padded."""
    overtime: int = 0
    """Tokens computed for it after its last one, because its batch goes on."""

    @property
    def most_cached_tokens(self) -> int:
        """Tokens whose KV is in the cache at the end: all but the last one, which is never computed."""
        return self.padding + self.prompt_tokens + self.output_tokens + self.overtime - 1

    @property
    def target(self) -> int:
        """Tokens it must compute, from its admission on, before its next one comes out."""
        return self.padding + self.prompt_tokens + self.generated

    def cached_before(self, number: int) -> int:
        """Tokens in the cache at the start of a round in which it decodes."""
        return self.target - self.first_decode + number

    def tenure(self, until: int, pauses: Sequence[int] = ()) -> list[tuple[int, int]]:
        """Return the segments of its tokens since its admission, up to step *until*, included.

        Args:
            until: The step.
            pauses: Steps in which nobody decoded who could have, ascending.
        """
        if self.overtime and self.decode_step >= 0:
            until = min(until, self.decode_step + self.output_tokens - 2)
        decodes = self._decodes(until, pauses) if 0 <= self.decode_step <= until else []
        if not 0 <= self.prompt_step <= until:
            return decodes if self.prompt_step < 0 else []
        if decodes and decodes[0][0] == self.prompt_step + 1:
            return [(self.prompt_step, decodes[0][1]), *decodes[1:]]
        return [(self.prompt_step, self.prompt_step), *decodes]

    def _decodes(self, until: int, pauses: Sequence[int]) -> list[tuple[int, int]]:
        within = pauses[bisect_left(pauses, self.decode_step) : bisect_right(pauses, until)]
        firsts, lasts = [self.decode_step, *(step + 1 for step in within)], [*(step - 1 for step in within), until]
        return [(first, last) for first, last in zip(firsts, lasts, strict=True) if first <= last]

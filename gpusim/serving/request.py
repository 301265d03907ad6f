"""A request, from arrival to its last token."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["waiting", "running", "finished", "rejected"]


@dataclass(slots=True, eq=False)
class Request:
    """One request and how far it has come.

    A request computes until its cache holds every token it has (prompt and generated ones); the step in which the
    last of them is computed gives it its next token.
    """

    index: int
    arrival: int
    """Tick."""
    prompt_tokens: int
    output_tokens: int
    """How many it will get."""
    status: Status = "waiting"
    rejected_because: str | None = None
    scheduled: int | None = None
    """Tick at which its first step started."""
    finished: int | None = None
    """Tick of its last token."""
    generated: int = 0
    """Tokens it got so far."""
    computed: int = 0
    """Tokens whose KV is in the cache."""
    blocks: array[int] = field(default_factory=lambda: array("q"))
    """Its KV blocks, in the order of its tokens."""
    slot: int = -1
    """Row among the running requests, while running."""
    segments: list[tuple[int, int]] = field(default_factory=list)
    """(first, last) steps of its engine; in each it got a token."""
    num_preemptions: int = 0
    preempted_at: int | None = None
    preempted_ticks: int = 0
    """Time between preemptions and the steps that resumed it."""

    @property
    def most_cached_tokens(self) -> int:
        """Tokens whose KV is in the cache at the end: all but the last one, which is never computed."""
        return self.prompt_tokens + self.output_tokens - 1

    @property
    def num_tokens(self) -> int:
        """Tokens it has: its prompt and what was generated."""
        return self.prompt_tokens + self.generated

    @property
    def missing(self) -> int:
        """Tokens still to be computed before its next one comes out."""
        return self.num_tokens - self.computed

    @property
    def is_decoding(self) -> bool:
        """Tell whether only the token generated last is missing."""
        return self.generated > 0 and self.missing == 1

    def got_tokens(self, first_step: int, num_steps: int) -> None:
        """Note a token in each of *num_steps* steps from *first_step* on."""
        last = first_step + num_steps - 1
        if self.segments and self.segments[-1][1] == first_step - 1:
            self.segments[-1] = (self.segments[-1][0], last)
        else:
            self.segments.append((first_step, last))
        self.generated += num_steps

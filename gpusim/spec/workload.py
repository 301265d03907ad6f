"""WorkloadSpec: when requests arrive, how long they are, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from gpusim.spec.arrivals import ArrivalsSpec, AtOnceArrivals, ClosedArrivals, StagedArrivals
from gpusim.spec.base import SchemaNumber, Spec, not_yet
from gpusim.spec.lengths import LengthSpec, TimeSpec, Tokens
from gpusim.units import Seconds

Order = Literal["cycled", "random"]


class PrefixesSpec(Spec):
    """Prompts begin with one of a few texts, such as system prompts; its tokens come on top of `prompt_tokens`."""

    groups: int = Field(ge=1)
    """Different texts."""
    tokens: LengthSpec
    """How long they are; drawn once for each."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Of the requests (sessions, distinct prompts) that begin with one."""
    order: Order = "random"
    """Each draws its text, or number i takes text i mod groups."""


class PromptsSpec(Spec):
    """Whole prompts repeat, as where a benchmark goes round a short list."""

    distinct: int = Field(ge=1)
    """Different prompts; `prompt_tokens` and the prefix are drawn once for each."""
    order: Order = "cycled"
    """Request i has prompt i mod distinct, or each draws one."""


class SessionsSpec(Spec):
    """Conversations: each turn's prompt is all that was said before and newly drawn `prompt_tokens`."""

    turns: LengthSpec | None = None
    """Requests of a session; a trace knows them by itself."""
    think_time: TimeSpec | None = None
    """From the last token of an answer to the next turn; default: none."""
    max_tokens: Tokens | None = None
    """A session ends before the turn whose prompt and output together would be longer than this."""


class WorkloadSpec(Spec):
    """A stream of requests: drawn (arrivals and lengths), read from a trace, or merged from several."""

    schema_number: SchemaNumber = Field(default=1, alias="schema")
    """Version of the file format: 1."""
    name: str = ""
    """What `gpusim list workloads` calls it."""
    source: str = ""
    """Where the values come from."""
    arrivals: ArrivalsSpec | None = None
    """Of requests, or of sessions; with a trace they take the place of what it says."""
    prompt_tokens: LengthSpec | None = None
    """Length of prompts; within sessions, of what a turn adds."""
    output_tokens: LengthSpec | None = None
    """Length of outputs."""
    prefixes: PrefixesSpec | None = None
    prompts: PromptsSpec | None = None
    sessions: SessionsSpec | None = None
    trace: str | None = None
    """Path of a file with requests; docs/workloads.md lists the formats."""
    sample: Literal["in_order", "shuffle"] | None = None
    """With a trace and arrivals: the order in which lengths are taken from it; default: in_order."""
    merge: list[str | WorkloadSpec] | None = Field(default=None, min_length=1, max_length=64)
    """Workloads, or their names, that come together; each keeps its own seed."""
    num_requests: int | None = Field(default=None, ge=1)
    """Stop after this many; of a trace, its first ones."""
    duration: Seconds | None = Field(default=None, gt=0)
    """Or stop with the last arrival (of a session: its first) before this time."""
    seed: int | None = Field(default=None, ge=0)
    """Default: the scenario's seed."""

    @model_validator(mode="after")
    def _is_complete(self) -> WorkloadSpec:
        if self.merge is not None:
            self._check_merge(self.merge)
        elif self.trace is not None:
            self._check_trace()
        else:
            self._check_drawn()
        if self.duration is not None and isinstance(self.arrivals, ClosedArrivals):
            raise not_yet("duration with closed arrivals; use num_requests alone")
        return self

    def _check_merge(self, merged: list[str | WorkloadSpec]) -> None:
        stated = self._stated("arrivals", "prompt_tokens", "output_tokens", "prefixes", "prompts", "sessions", "trace")
        if stated:
            raise ValueError(f"the merged workloads state their requests; leave out {', '.join(stated)}")
        for part in merged:
            if isinstance(part, WorkloadSpec):
                part.check_mergeable()

    def _check_trace(self) -> None:
        stated = self._stated("prompt_tokens", "output_tokens")
        if stated:
            raise ValueError(f"a trace states lengths; leave out {', '.join(stated)}")
        stated = self._stated("prefixes", "prompts")
        if stated:
            raise not_yet(
                f"{' and '.join(stated)} with a trace; give it columns prefix_id and prefix_tokens, or prompt_id"
            )
        if self.sessions is not None and (self.sessions.turns or self.sessions.max_tokens):
            raise ValueError("a trace states the turns of its sessions; only think_time may be added")
        if self.sample == "shuffle" and self.arrivals is None:
            raise ValueError("a trace whose arrivals count is read in order; state arrivals to shuffle its lengths")

    def _check_drawn(self) -> None:
        names = ("arrivals", "prompt_tokens", "output_tokens")
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{' and '.join(missing)} must be stated (or a trace)")
        if self.sample is not None:
            raise ValueError("sample is for a trace; lengths that are drawn have no order")
        if self.sessions is not None and self.sessions.turns is None:
            raise ValueError("sessions must say how many turns they have, e.g. turns: {kind: fixed, value: 4}")
        if self.sessions is not None and self.prompts is not None:
            raise not_yet("prompts that repeat within sessions; use prefixes for what sessions begin with")
        if self.num_requests is None:
            if isinstance(self.arrivals, AtOnceArrivals | ClosedArrivals):
                raise ValueError(f"{self.arrivals.kind} arrivals need num_requests")
            if self.duration is None and not isinstance(self.arrivals, StagedArrivals):
                raise ValueError("say when to stop: num_requests or duration")

    def _stated(self, *names: str) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]

    @property
    def is_closed(self) -> bool:
        """Whether clients decide when requests come."""
        return isinstance(self.arrivals, ClosedArrivals)

    def check_mergeable(self) -> None:
        """Check that this workload can be merged with others.

        Raises:
            ValueError: If it cannot.
        """
        if self.is_closed:
            raise not_yet("merging closed arrivals, whose times nobody knows ahead; give an engine its own workload")
        if self.merge is not None:
            raise not_yet("merging what is merged itself; list all parts in one")

    @property
    def traces(self) -> Iterator[str]:
        """Paths of all traces it reads."""
        if self.trace is not None:
            yield self.trace
        for part in self.merge or ():
            if isinstance(part, WorkloadSpec) and part.trace is not None:
                yield part.trace

    @property
    def shortest_request(self) -> int:
        """Fewest tokens, prompt and output, that a request can have; 0 where only the trace knows."""
        if self.prompt_tokens is None or self.output_tokens is None:
            return 0
        return self.prompt_tokens.shortest + self.output_tokens.shortest

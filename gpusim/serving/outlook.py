"""An outlook: the next steps of an engine as planned, in columns over runs, and what happens to its requests in them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.model.step import StepShapes, chunk_pairs
from gpusim.model.window import NO_WINDOWS, Windows
from gpusim.serving.batch import Batch
from gpusim.serving.request import Request
from gpusim.serving.roster import Roster


@dataclass(slots=True)
class Outlook:
    """Steps planned from a roster on. A run is a number of steps of one batch; steps here count from 0.

    Lists of runs have one entry a run. Lists of events are in the order of steps.
    """

    first_step: int
    """Number of the first step among all of the engine."""
    first_round: int
    """The same in rounds, see `Roster.round`."""
    decoding: list[Request]
    """Requests that decode from the start on."""
    num_steps: int = 0
    run_steps: list[int] = field(default_factory=list)
    first_of: list[int] = field(default_factory=list)
    """First step of each run."""
    num_decodes: list[int] = field(default_factory=list)
    decode_context: list[int] = field(default_factory=list)
    """In the first step of the run; it grows by `num_decodes` a step."""
    longest_decode: list[int] = field(default_factory=list)
    """Likewise, of the decode that has most; it grows by a token a step."""
    prefills: list[tuple[int, int, int, int, float, int]] = field(default_factory=list)
    """Run, tokens, chunks, their context and pairs, and the longest context among them, of each run with prefill chunks."""
    completed: list[int] = field(default_factory=list)
    """Prefill chunks that complete a prompt."""
    num_idle: list[int] = field(default_factory=list)
    """Decodes whose token nobody wants."""
    pauses: list[int] = field(default_factory=list)
    """Steps in which nobody decodes who could."""

    joined: list[int] = field(default_factory=list)
    """Arrivals expected by the start of the run."""
    num_joined: int = 0
    """Arrivals among those who wait after the last step, or run."""
    admitted_of: list[int] = field(default_factory=list)
    """Arrivals that had to be there, because they were admitted."""
    is_late: list[bool] = field(default_factory=list)
    """Whether the run's batch is fixed when it starts, though others may be fixed a step earlier: nothing was in flight."""
    is_fresh: list[bool] = field(default_factory=list)
    """Whether the run's batch is another than that of the run before."""
    is_steady: list[bool] = field(default_factory=list)
    """Whether the run only decodes, so that its batch may go on."""
    is_hungry: list[bool] = field(default_factory=list)
    """Whether one more arrival by its start would have been admitted to the run."""
    is_picky: list[bool] = field(default_factory=list)
    """Whether the run is right only with exactly the arrivals expected by its start."""
    open_to: list[bool] = field(default_factory=list)
    """Whether an arrival during the run ends it."""
    snapshots: list[tuple[int, int, Roster]] = field(default_factory=list)
    """Runs, arrivals expected and the roster after them, now and then."""
    wakes: dict[int, int] = field(default_factory=dict)
    """Ticks before which certain steps do not start: a request arrives at an idle engine."""

    admitted: list[tuple[int, Request]] = field(default_factory=list)
    begun: list[tuple[int, Request]] = field(default_factory=list)
    finished: list[tuple[int, Request]] = field(default_factory=list)
    gone: list[tuple[int, int, Request]] = field(default_factory=list)
    """Those who left their seats and blocks to others: the step that makes it final, the step from which on, who."""
    gone_before: list[Request] = field(default_factory=list)
    """The same of those who left before the first step."""
    preempted: list[tuple[Request, int]] = field(default_factory=list)
    """In the first step, with the tokens they had in the cache."""
    swapped_out: list[tuple[Request, int]] = field(default_factory=list)
    """Those of them whose KV goes to host memory before that step."""
    swapped_in: list[tuple[Request, int]] = field(default_factory=list)
    """Requests whose KV comes back from there before it, with the tokens in it."""
    restored: list[tuple[Request, int, int]] = field(default_factory=list)
    """Requests admitted to it that begin with blocks from there: place of the first, and how many."""
    chunks: list[tuple[int, Request, int, int]] = field(default_factory=list)
    """Step, request, tokens computed before and in it."""
    reads: list[tuple[int, Request, int, int]] = field(default_factory=list)
    """Step, request, tokens, and 1 or -1: KV in the cache that is read again, or no more, from that step on."""

    @classmethod
    def on(cls, roster: Roster) -> Outlook:
        """Return one in which nothing is planned yet."""
        return cls(roster.step, roster.decodes.round, [request for _, _, request in roster.decodes.ends])

    def note(self, batch: Batch, joined: int, admitted: int, *, is_open: bool, is_late: bool) -> None:
        """Note on which arrivals the run of *batch*, which comes next, depends."""
        self.joined.append(joined)
        self.admitted_of.append(admitted)
        self.is_hungry.append(batch.is_hungry)
        self.is_picky.append(batch.is_picky)
        self.open_to.append(is_open)
        self.is_late.append(is_late)

    def steps_of(self, rounds: IntArray) -> IntArray:
        """Return the steps, from 0, that certain rounds are, counted from the first one."""
        if not self.pauses:
            return rounds
        steps: IntArray = np.delete(np.arange(self.num_steps), self.pauses)[rounds]
        return steps

    def add(self, batch: Batch, steps: int, roster: Roster) -> None:
        """Add a run of *steps* steps of *batch*, decided on *roster*, before they pass."""
        step, run = self.num_steps, len(self.run_steps)
        steady = not (batch.chunks or batch.preempted or batch.swapped_in)
        ended = (bool(self.finished) and self.finished[-1][0] == step - 1) or batch.num_idle != roster.num_idle
        self.is_fresh.append(not steady or bool(batch.begun) or ended or (run > 0 and not self.is_steady[-1]))
        roster.num_idle = batch.num_idle
        self.num_idle.append(batch.num_idle)
        if roster.pauses(batch):
            self.pauses += range(step, step + steps)
        self.is_steady.append(steady)
        self.first_of.append(step)
        self.run_steps.append(steps)
        self.num_decodes.append(batch.num_decodes)
        self.decode_context.append(batch.decode_context)
        self.longest_decode.append(roster.decodes.longest if batch.num_decodes else 0)
        for request in batch.begun:
            self.begun.append((step, request))
            if roster.unread and request in roster.unread:
                del roster.unread[request]
                self.reads.append((step, request, request.target, 1))
        if batch.preempted:
            self._add_preempted(batch, roster)
        if batch.swapped_in:
            assert not self.num_steps, "blocks move before a first step"
            self.swapped_in = list(batch.swapped_in)
        if batch.restored:
            assert not self.num_steps, "blocks move before a first step"
            self.restored = list(batch.restored)
        if batch.chunks or batch.admitted:
            self._add_chunks(batch, run, step, roster)
        else:
            self.completed.append(0)
        if (roster.prefilling or roster.ready) and not roster.pauses(batch):
            self._note_unread(batch, step, roster)
        self.num_steps += steps

    def _add_preempted(self, batch: Batch, roster: Roster) -> None:
        assert not self.num_steps, "who is preempted is decided for sure, in the first step"
        self.preempted = list(batch.preempted)
        self.swapped_out = [entry for entry in batch.preempted if entry[0] in roster.swapped]
        lost = {request for request, _ in batch.preempted}
        self.decoding = [request for request in self.decoding if request not in lost]
        for request, cached in batch.preempted:
            if request in roster.unread:
                del roster.unread[request]
                self.reads.append((0, request, cached, 1))

    def _add_chunks(self, batch: Batch, run: int, step: int, roster: Roster) -> None:
        for request in batch.admitted:
            self.admitted.append((step, request))
            if request.hit_tokens:
                self.reads.append((step, request, request.hit_tokens, 1))
        tokens, completed, spans = 0, 0, []
        for request, computed, new in batch.chunks:
            self.chunks.append((step, request, computed, new))
            if request in roster.unread:
                del roster.unread[request]
                self.reads.append((step, request, computed, 1))
            tokens += new
            completed += computed + new == request.target
            spans.append((new, computed + new))
        self.completed.append(completed)
        ends = [end for _, end in spans]
        self.prefills.append((run, tokens, len(spans), sum(ends), chunk_pairs(spans), max(ends, default=0)))

    def _note_unread(self, batch: Batch, step: int, roster: Roster) -> None:
        """Note whose KV is in the cache and not read in this run."""
        if len(roster.prefilling) + len(roster.ready) == len(batch.chunks):
            return
        read = {request for request, _, _ in batch.chunks}
        for request in (*roster.prefilling, *roster.ready):
            if request not in read and request not in roster.unread:
                roster.unread[request] = None
                self.reads.append((step, request, roster.cached(request), -1))

    def runs(self) -> RunColumns:
        """Return the counts of each run as arrays."""
        steps, decodes = np.array(self.run_steps), np.array(self.num_decodes)
        prefill_tokens = np.zeros(len(steps), dtype=np.int64)
        if self.prefills:
            runs, tokens, *_ = zip(*self.prefills, strict=True)
            prefill_tokens[list(runs)] = tokens
        sampled = decodes + np.array(self.completed)
        tokens = sampled - np.array(self.num_idle)
        return RunColumns(np.array(self.first_of), steps, decodes, prefill_tokens, sampled, tokens)

    def shapes(self, runs: RunColumns, windows: Windows = NO_WINDOWS) -> StepShapes:
        """Return what each step computes; *windows* says it of layers with one."""
        steps = runs.steps
        of = np.repeat(np.arange(len(steps)), steps)
        offset = np.arange(self.num_steps) - runs.first[of]
        chunks, chunk_context, longest = np.zeros((3, len(steps)), dtype=np.int64)
        pairs = np.zeros(len(steps))
        if self.prefills:
            runs_of, _, count, context, run_pairs, most = zip(*self.prefills, strict=True)
            where = list(runs_of)
            chunks[where], chunk_context[where], pairs[where], longest[where] = count, context, run_pairs, most
        decodes = runs.num_decodes[of]
        longest_decode = np.array(self.longest_decode)[of] + offset * (decodes > 0)
        return StepShapes(
            num_tokens=decodes + runs.num_prefill_tokens[of],
            num_sampled=runs.num_sampled[of],
            num_sequences=decodes + chunks[of],
            num_decodes=decodes,
            decode_context=np.array(self.decode_context)[of] + decodes * offset,
            chunk_context=chunk_context[of],
            chunk_pairs=pairs[of],
            chunk_tokens=runs.num_prefill_tokens[of],
            longest=np.maximum(longest[of], longest_decode),
            windows=windows,
        )


@dataclass(frozen=True, slots=True)
class RunColumns:
    """Runs of an outlook; arrays (runs,)."""

    first: IntArray
    """First step, from 0."""
    steps: IntArray
    num_decodes: IntArray
    num_prefill_tokens: IntArray
    num_sampled: IntArray
    """Tokens that come out of each step."""
    num_tokens: IntArray
    """Those of them that somebody wants."""

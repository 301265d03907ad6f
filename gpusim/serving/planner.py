"""Planning ahead: what the next steps compute, with the arrivals that are known to come.

When a request arrives is known; into which step it falls follows from how long the steps before it take. The planner
guesses that (`Forecast`), plans on, and the engine has all planned steps timed at once. `Planner.confirmed` then tells how
many of them would have been decided alike with the times as they are; the rest is planned again.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpusim.core.arrays import IntArray
from gpusim.serving.batch import Batch
from gpusim.serving.confirming import confirmed_steps
from gpusim.serving.feed import Feed
from gpusim.serving.forecast import Forecast
from gpusim.serving.outlook import Outlook
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers import Scheduler

ARRIVALS_AHEAD = 512
"""Arrivals that are known at the start of a plan; more become known as it needs them."""
SNAPSHOT_EVERY = 16
"""Runs between two snapshots from which a plan that went wrong is taken up again."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far to plan."""

    steps: int
    """At most."""
    decisions: int | None = None
    """At most, if not None."""


@dataclass(slots=True)
class _Look:
    """A plan in the making."""

    roster: Roster
    outlook: Outlook
    clock: int
    """Tick at which the next run is expected to start."""
    fixed: int
    """Tick at which its batch is expected to be fixed: then, or a step earlier where steps are in flight."""
    sure_blocks: int
    """Blocks that are free at the start of the plan and not taken yet; those it releases are left for later plans."""
    admitted: int
    """Arrivals that were admitted, less those who had been waiting."""
    joined: int = 0
    """Arrivals expected since the start of the plan."""
    is_late: bool = False
    """Whether the next run's batch is fixed when it starts, because nothing is in flight."""


class Planner:
    """Plans the steps of one engine.

    Args:
        scheduler: Decides batches.
        feed: Brings requests.
        forecast: Guesses how long steps take; None where no more than one decision is planned at a time.
        lags: Whether a batch is fixed when the step before it starts.
    """

    def __init__(self, scheduler: Scheduler, feed: Feed, forecast: Forecast | None, *, lags: bool = False) -> None:
        self.scheduler = scheduler
        self.feed = feed
        self.forecast = forecast
        self.lags = lags

    def look_ahead(self, roster: Roster, now: int, horizon: Horizon) -> Outlook:
        """Plan steps from tick *now* on; *roster* is left as it is after them."""
        self.feed.reach(ARRIVALS_AHEAD)
        outlook = Outlook.on(roster)
        if self.forecast is not None:
            self.forecast.begin(outlook.decoding)
        fixed = roster.fixed if roster.lags else now
        look = _Look(roster, outlook, now, fixed, roster.free_blocks, -len(roster.waiting))
        while outlook.num_steps < horizon.steps and self._plan_run(look, horizon):
            pass
        outlook.num_joined = look.joined
        outlook.wakes.pop(outlook.num_steps, None)
        return outlook

    def _plan_run(self, look: _Look, horizon: Horizon) -> bool:
        """Plan one run more; return whether another may follow."""
        roster, outlook, scheduler = look.roster, look.outlook, self.scheduler
        runs = len(outlook.run_steps)
        if runs % SNAPSHOT_EVERY == SNAPSHOT_EVERY - 1:
            outlook.snapshots.append((runs, look.joined, roster.copy()))
        if not self._arrive(look) or (runs and scheduler.runs_short(roster, look.sure_blocks)):
            return False
        if look.is_late:
            self._let_go(look)
        free_blocks, num_released = roster.free_blocks, roster.num_released
        batch = self._decide(look)
        if batch is None:
            return False
        look.admitted += len(batch.admitted)
        is_open = scheduler.admits(roster)
        steps = min(batch.steps, horizon.steps - outlook.num_steps)
        if steps > 1:
            steps = max(1, roster.decodes.steps_until_shortage(steps, look.sure_blocks))
        if self.forecast is not None:
            self.forecast.look_at(batch, roster.decodes.round)
            steps = self._expect(self.forecast, look, batch, steps, is_open=is_open)
        outlook.note(batch, look.joined, look.admitted, is_open=is_open, is_late=look.is_late)
        outlook.add(batch, steps, roster)
        finished = roster.advance(batch, steps)
        begin = outlook.first_step
        outlook.gone += [(final - begin, since - begin, request) for final, since, request in roster.gone]
        roster.gone.clear()
        if finished:
            last = outlook.num_steps - 1
            outlook.finished += [(last, request) for request in finished]
        look.sure_blocks -= free_blocks + roster.num_released - num_released - roster.free_blocks
        # Whose blocks move is decided for sure, and who comes when another is through is not known ahead.
        moves = batch.preempted or batch.swapped_in or batch.restored
        stores = roster.store is not None and finished and not self.feed.is_open
        is_followed = not self.feed.is_open and any(request.is_followed for request in finished)
        return not (moves or stores or is_followed or runs + 1 == horizon.decisions)

    def replay(self, roster: Roster, outlook: Outlook, steps: int) -> Roster:
        """Let the first *steps* steps of *outlook*, and no more, pass; return the roster they leave.

        Args:
            roster: That *outlook* was planned on a copy of.
            outlook: What was planned.
            steps: At least one, and fewer than were planned.
        """
        run, joined, found = 0, 0, None
        for runs, arrivals, snapshot in outlook.snapshots:
            # The last one may have been taken before a run that was not planned any more.
            if runs < len(outlook.first_of) and outlook.first_of[runs] <= steps:
                run, joined, found = runs, arrivals, snapshot
        roster = roster if found is None else found
        roster.rewind()
        roster = roster.copy()
        while outlook.first_of[run] < steps:
            if outlook.is_late[run]:
                roster.let_go()
            while joined < outlook.joined[run]:
                roster.join(self.feed.requests[joined])
                joined += 1
            passing = min(outlook.run_steps[run], steps - outlook.first_of[run])
            batch = self.scheduler.next_batch(roster)
            Outlook.on(roster).add(batch, passing, roster)
            roster.advance(batch, passing)
            run += 1
            if run == len(outlook.run_steps):
                break
        outlook.num_joined = joined
        roster.gone.clear()
        return roster

    def confirmed(self, outlook: Outlook, starts: IntArray, fixed: int) -> int:
        """Return how many steps of *outlook* were planned with the right requests.

        Args:
            outlook: The steps.
            starts: (steps,) Tick at which each step starts.
            fixed: Tick at which the first batch was fixed, where steps are in flight.
        """
        return confirmed_steps(outlook, self.feed.ticks, starts, fixed, lags=self.lags)

    def _arrive(self, look: _Look) -> bool:
        """Have those wait who have arrived; an idle engine waits for the next. Return whether there is anybody."""
        self._join(look, look.fixed)
        look.is_late = look.roster.is_idle
        if look.is_late:
            self._join(look, look.clock)
        if look.roster.is_idle:
            ticks = self.feed.ticks
            # Where somebody may come unannounced, an engine without work waits outside of a plan, which is cut in steps only.
            if look.joined == len(ticks) or not self.feed.is_open:
                return False
            look.clock = look.outlook.wakes[look.outlook.num_steps] = ticks[look.joined]
            self._join(look, look.clock)
        return True

    def _decide(self, look: _Look) -> Batch | None:
        """Return the next batch; None if it is fixed so late that another plan must begin with it."""
        roster = look.roster
        if not (roster.leaving and self.scheduler.must_wait(roster)):
            batch = self.scheduler.next_batch(roster)
            if batch.num_decodes or batch.chunks:
                return batch
        if look.outlook.run_steps:
            return None
        self._let_go(look)
        look.is_late = True
        self._join(look, look.clock)
        return self.scheduler.next_batch(roster)

    @staticmethod
    def _let_go(look: _Look) -> None:
        """Have those leave who are over, before the next run's batch is fixed."""
        roster, outlook = look.roster, look.outlook
        if outlook.run_steps:
            outlook.gone += [(outlook.num_steps, outlook.num_steps, request) for request in roster.let_go()]
        else:
            outlook.gone_before += roster.let_go()
            look.sure_blocks = roster.free_blocks

    def _join(self, look: _Look, tick: int) -> None:
        feed = self.feed
        feed.reach_tick(tick)
        ticks = feed.ticks
        while look.joined < len(ticks) and ticks[look.joined] <= tick:
            look.roster.join(feed.requests[look.joined])
            look.joined += 1

    def _expect(self, forecast: Forecast, look: _Look, batch: Batch, steps: int, *, is_open: bool) -> int:
        """Return how many of *steps* steps pass before a request that comes has a say, and move the clock behind them."""
        ticks, start = self.feed.ticks, look.clock
        if batch.chunks:
            look.clock += int(forecast.step(*batch.sums()))
            look.fixed = start if self.lags else look.clock
            return steps
        # A request joins after the step during which it arrives, or after the one behind it. The clock stays on its own
        # whole numbers: floats are coarser than ticks after some hours.
        left = ticks[look.joined] - start if is_open and look.joined < len(ticks) else None
        if not self.lags:
            steps, spent = _decodes(forecast, batch, steps, left)
            look.clock = look.fixed = start + int(spent)
            return steps
        begun = 0 if left is not None and left <= 0 else _decodes(forecast, batch, steps, left)[0]
        steps = min(steps, begun + 1)
        look.clock = start + int(_decodes(forecast, batch, steps, None)[1])
        look.fixed = start + int(_decodes(forecast, batch, steps - 1, None)[1]) if steps > 1 else start
        return steps


def _decodes(forecast: Forecast, batch: Batch, steps: int, left: int | None) -> tuple[int, float]:
    return forecast.decodes(batch.num_decodes, batch.decode_context, steps, left)

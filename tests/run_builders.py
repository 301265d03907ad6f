"""Small made-up runs: logs without a simulation behind them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.summary import RunRecord
from gpusim.runtime.attribution import CATEGORIES


def add_run(log: StepLog, start: int, durations: list[int], **known) -> int:
    """Append a run of steps that take *durations* ticks; all of their time is compute."""
    ends = start + np.cumsum(np.array(durations, np.int64))
    attribution_ps = np.zeros(len(CATEGORIES), np.int64)
    attribution_ps[CATEGORIES.index("compute")] = int(ends[-1]) - start
    defaults = {"num_decodes": 1, "num_prefill_tokens": 0, "num_tokens": 1, "attribution_ps": attribution_ps}
    return log.append(start, ends, **(defaults | known))


def add_request(requests: RequestLog, index: int, segments: list[tuple[int, int]], **known) -> int:
    """Append a finished request that asked for the tokens it got."""
    defaults = {
        "engine": requests.engines[0],
        "arrival": 0,
        "scheduled": known.get("arrival", 0),
        "prompt_tokens": 10,
        "output_tokens": sum(last - first + 1 for first, last in segments),
        "status": "finished",
    }
    return requests.append(index=index, segments=segments, **(defaults | known))


def uniform_run(num_requests: int, num_tokens: int, *, step_ticks: int = 10**10) -> RunRecord:
    """One engine, steps of equal time; request i arrives with step i and gets *num_tokens* from it on."""
    log, requests = StepLog("engine"), RequestLog(["engine"])
    add_run(log, 0, [step_ticks] * (num_requests + num_tokens - 1))
    for i in range(num_requests):
        add_request(requests, i, [(i, i + num_tokens - 1)], arrival=i * step_ticks)
    return record(requests, {"engine": log})


def record(requests: RequestLog, steps: dict[str, StepLog], **known) -> RunRecord:
    """Wrap logs into a record with a tiny scenario."""
    defaults = {"version": "1.2.3", "scenario": {"schema": 1, "name": "made up"}, "seed": 7, "complete": True}
    return RunRecord(requests=requests, steps=steps, **(defaults | known))


@dataclass
class Expanded:
    """A run with the ticks of every token of every request written out."""

    requests: RequestLog
    steps: dict[str, StepLog]
    tokens: list[list[int]]

    @property
    def gaps(self) -> list[int]:
        """Every gap after a first token, sorted."""
        return sorted(b - a for ticks in self.tokens for a, b in pairwise(ticks))


@st.composite
def expanded_runs(draw, *, shortest: int = 1, longest: int = 10**10) -> Expanded:
    """Runs of several engines that idle at times, with requests that were preempted; late ones start after 10⁵ s.

    Steps take from *shortest* to *longest* ticks.
    """
    names = [f"engine{i}" for i in range(draw(st.integers(1, 3)))]
    steps = {name: draw(_step_logs(name, st.integers(shortest, longest))) for name in names}
    requests, tokens = RequestLog(names), []
    for index in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from(names))
        log = steps[name]
        chosen = sorted(draw(st.sets(st.integers(0, len(log) - 1), min_size=1)))
        arrival = max(0, int(log.starts[chosen[0]]) - draw(st.integers(0, 10**12)))
        segments = _segments(chosen, cut_every=draw(st.integers(2, 9)))
        add_request(requests, index, segments, engine=name, arrival=arrival, num_preemptions=len(segments) - 1)
        tokens.append([int(log.ends[step]) for step in chosen])
    return Expanded(requests, steps, tokens)


@st.composite
def _step_logs(draw, name: str, ticks: st.SearchStrategy[int]) -> StepLog:
    log = StepLog(name)
    now = draw(st.sampled_from([0, 10**17 + 1]))
    durations = st.lists(ticks, min_size=1, max_size=8)
    for run in draw(st.lists(durations, min_size=1, max_size=4)):
        now += draw(st.sampled_from([0, 0, 12_345]))
        add_run(log, now, run)
        now += sum(run)
    return log


def _segments(chosen: list[int], *, cut_every: int) -> list[tuple[int, int]]:
    """Group successive steps into segments, cut also where nothing was missed (preempted and back at once)."""
    segments = [(chosen[0], chosen[0])]
    for step in chosen[1:]:
        if step == segments[-1][1] + 1 and step % cut_every:
            segments[-1] = (segments[-1][0], step)
        else:
            segments.append((step, step))
    return segments

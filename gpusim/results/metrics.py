"""Metrics: the latencies of the measured requests, what was served, and how much of it met the SLO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpusim.core.arrays import BoolArray, IntArray
from gpusim.core.clock import seconds, ticks
from gpusim.results import statistics
from gpusim.results.columns import seconds_array
from gpusim.results.quantity import Duration
from gpusim.results.request_log import RequestLog
from gpusim.results.statistics import Sample
from gpusim.results.step_log import StepLog
from gpusim.results.tokens import TokenTimes, token_gaps, token_times
from gpusim.spec.scenario import MeasureSpec, SloSpec


@dataclass(frozen=True, slots=True)
class LatencyStats:
    """One latency in seconds. Without an observation all are NaN (null in files) and `count` is 0.

    Percentiles are values that occurred.
    """

    mean: Duration
    p50: Duration
    p90: Duration
    p95: Duration
    p99: Duration
    p999: Duration
    max: Duration
    count: int
    """Observations, each as often as it counts."""
    mean_ci95: tuple[float, float] | None
    """95 % confidence interval by batch means; None with too few observations."""
    p99_ci95: tuple[float, float] | None
    """Likewise, of the 99th percentile."""

    @classmethod
    def of(cls, sample: Sample) -> LatencyStats:
        """Describe *sample*."""
        if not sample.count:
            return _NOTHING
        mean = Duration(statistics.mean_s(sample))
        quantiles_s = statistics.quantiles_s(sample, (500, 900, 950, 990, 999, 1000))
        p50, p90, p95, p99, p999, largest = map(Duration, quantiles_s)
        parts = statistics.batches(sample)
        mean_ci95 = statistics.interval_s(parts, mean, statistics.mean_s, statistics.MIN_FOR_MEAN)
        p99_ci95 = statistics.interval_s(parts, p99, statistics.p99_s, statistics.MIN_FOR_P99)
        return cls(mean, p50, p90, p95, p99, p999, largest, sample.count, mean_ci95, p99_ci95)


_NOTHING = LatencyStats(
    mean=Duration(math.nan),
    p50=Duration(math.nan),
    p90=Duration(math.nan),
    p95=Duration(math.nan),
    p99=Duration(math.nan),
    p999=Duration(math.nan),
    max=Duration(math.nan),
    count=0,
    mean_ci95=None,
    p99_ci95=None,
)


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """All requests of the run, measured or not: submitted = finished + running + waiting + rejected."""

    submitted: int
    finished: int
    running: int
    waiting: int
    rejected: int
    preempted: int
    """Requests that were preempted at least once."""
    preemptions: int
    """Preemptions, all requests together."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the latencies and rates are taken of."""

    warmup_s: float
    cooldown_s: float
    requests: int
    """Measured requests, whatever became of them."""
    left_out_warmup: int
    left_out_cooldown: int
    from_s: float | None
    """Arrival of the first measured request."""
    until_s: float | None
    """Last token of the measured requests that finished."""
    duration_s: float | None
    """From the one to the other: what rates are per second of."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `measure` finds out. Rates are NaN if nothing finished."""

    ttft: LatencyStats
    itl: LatencyStats
    tpot: LatencyStats
    e2e: LatencyStats
    queue: LatencyStats
    counts: RequestCounts
    measured: Measured
    requests_per_s: float
    output_tokens_per_s: float
    prompt_tokens_per_s: float
    met_slo: int | None
    """Measured requests that finished within the SLO; None without one."""
    goodput_per_s: float | None

    @property
    def attainment(self) -> float | None:
        """Part of the measured requests that met the SLO; rejected and unfinished ones did not."""
        if self.met_slo is None or not self.measured.requests:
            return None
        return self.met_slo / self.measured.requests


def measure(
    requests: RequestLog,
    steps: Mapping[str, StepLog],
    *,
    window: MeasureSpec | None = None,
    slo: SloSpec | None = None,
    engine: str | None = None,
    times: TokenTimes | None = None,
) -> Metrics:
    """Compute the metrics of a run.

    Args:
        requests: Every request submitted.
        steps: The step log of each engine.
        window: Warm-up and cool-down to leave out.
        slo: Targets of the goodput.
        engine: Count the requests of this engine only.
        times: Those of `token_times`, if known.
    """
    window, slo = window or MeasureSpec(), slo or SloSpec()
    mine = _of_engine(requests, engine)
    finished = mine & measured_requests(requests, window) & requests.has_status("finished")
    times = times or token_times(requests, steps)
    measured = _measured(requests, times, window, mine)
    num_tokens = int(times.num_tokens[finished].sum())
    num_prompt_tokens = int(requests.rows["prompt_tokens"][finished].sum(dtype=np.int64))
    met_slo = None if slo == SloSpec() else int((finished & meets_slo(requests, times, slo)).sum())
    return Metrics(
        **_latencies(requests, steps, times, finished),
        counts=_counts(requests, mine),
        measured=measured,
        requests_per_s=_rate(int(finished.sum()), measured),
        output_tokens_per_s=_rate(num_tokens, measured),
        prompt_tokens_per_s=_rate(num_prompt_tokens, measured),
        met_slo=met_slo,
        goodput_per_s=None if met_slo is None else _rate(met_slo, measured),
    )


def measured_requests(requests: RequestLog, window: MeasureSpec) -> BoolArray:
    """Say of each request whether it is neither in the warm-up nor in the cool-down (num_requests,)."""
    early, late = _left_out(requests, window)
    return ~early & ~late


def arrival_order(requests: RequestLog) -> IntArray:
    """Return the rows of *requests* in order of arrival: who came in one tick goes by number, then by engine."""
    rows = requests.rows
    # The log's own order depends on when engines commit.
    return np.lexsort((rows["engine"], rows["index"], rows["arrival_ps"]))


def meets_slo(requests: RequestLog, times: TokenTimes, slo: SloSpec) -> BoolArray:
    """Say of each request whether its TTFT and its mean gap are within *slo*; compared in ticks, exactly."""
    meets = np.ones(len(requests), bool)
    if slo.ttft is not None:
        meets &= times.first_ps - requests.rows["arrival_ps"] <= ticks(slo.ttft)
    if slo.itl is not None:
        meets &= times.last_ps - times.first_ps <= ticks(slo.itl) * np.maximum(times.num_tokens - 1, 0)
    return meets


def tpot_sample(times: TokenTimes, which: BoolArray) -> Sample:
    """Return (last - first) / (tokens - 1) in seconds of each request in *which* with more than one token."""
    several = which & (times.num_tokens > 1)
    spans_s = seconds_array(times.last_ps[several] - times.first_ps[several])
    return Sample(spans_s / (times.num_tokens[several] - 1))


def _latencies(
    requests: RequestLog, steps: Mapping[str, StepLog], times: TokenTimes, finished: BoolArray
) -> dict[str, LatencyStats]:
    rows = requests.rows
    # In order of arrival, which is what the batches of the confidence intervals go by.
    order = arrival_order(requests)
    order = order[finished[order]]
    arrival = rows["arrival_ps"][order]
    in_order = TokenTimes(times.first_ps[order], times.last_ps[order], times.num_tokens[order])
    return {
        "ttft": LatencyStats.of(Sample(in_order.first_ps - arrival)),
        "itl": LatencyStats.of(token_gaps(requests, steps, finished)),
        "tpot": LatencyStats.of(tpot_sample(in_order, np.ones(len(order), bool))),
        "e2e": LatencyStats.of(Sample(in_order.last_ps - arrival)),
        "queue": LatencyStats.of(Sample(rows["scheduled_ps"][order] - arrival)),
    }


def _of_engine(requests: RequestLog, engine: str | None) -> BoolArray:
    if engine is None:
        return np.ones(len(requests), bool)
    mine: BoolArray = requests.rows["engine"] == requests.engines.index(engine)
    return mine


def _left_out(requests: RequestLog, window: MeasureSpec) -> tuple[BoolArray, BoolArray]:
    """Say of each request whether it arrived during the warm-up, and whether during the cool-down."""
    arrival = requests.rows["arrival_ps"]
    last = arrival.max(initial=0)
    return arrival < ticks(window.warmup), arrival > last - ticks(window.cooldown)


def _measured(requests: RequestLog, times: TokenTimes, window: MeasureSpec, mine: BoolArray) -> Measured:
    early, late = _left_out(requests, window)
    kept = mine & ~early & ~late
    finished = kept & requests.has_status("finished")
    first = int(requests.rows["arrival_ps"][kept].min()) if kept.any() else None
    last = int(times.last_ps[finished].max()) if finished.any() else None
    return Measured(
        warmup_s=window.warmup,
        cooldown_s=window.cooldown,
        requests=int(kept.sum()),
        left_out_warmup=int((mine & early).sum()),
        left_out_cooldown=int((mine & late & ~early).sum()),
        from_s=None if first is None else seconds(first),
        until_s=None if last is None else seconds(last),
        duration_s=None if first is None or last is None else seconds(last - first),
    )


def _counts(requests: RequestLog, mine: BoolArray) -> RequestCounts:
    preemptions = requests.rows["num_preemptions"][mine]
    return RequestCounts(
        submitted=int(mine.sum()),
        finished=int((mine & requests.has_status("finished")).sum()),
        running=int((mine & requests.has_status("running")).sum()),
        waiting=int((mine & requests.has_status("waiting")).sum()),
        rejected=int((mine & requests.has_status("rejected")).sum()),
        preempted=int((preemptions > 0).sum()),
        preemptions=int(preemptions.sum(dtype=np.int64)),
    )


def _rate(count: int, measured: Measured) -> float:
    return count / measured.duration_s if measured.duration_s else math.nan

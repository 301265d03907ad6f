"""What a run was measured by, request by request, so that all metrics can be taken again of any choice of its requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray, IntArray
from gpusim.results.bootstrap import block_length, weighted_quantiles
from gpusim.results.columns import Records, seconds_array
from gpusim.results.gap_counts import GapCounts
from gpusim.results.metrics import arrival_order, measured_requests, meets_slo
from gpusim.results.request_log import STATUSES
from gpusim.results.result import Result
from gpusim.results.tokens import TokenTimes, token_times
from gpusim.spec.scenario import SloSpec

Samples: TypeAlias = "dict[str, FloatArray]"
"""Of each metric its value in each sample (num_samples,)."""

PERCENTILES: Final = {"p50": 500, "p90": 900, "p95": 950, "p99": 990}
"""Compared of each latency beside its mean, in thousandths."""
_PER_MILLE: Final = tuple(PERCENTILES.values())
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
"""Multiples of it fill the numbers from 0 to 1 evenly, in an order that has nothing to do with that of anything else."""


def is_percentile(metric: str) -> bool:
    """Tell whether *metric* is a percentile of a latency."""
    return metric.partition(".")[2] in PERCENTILES


@dataclass(frozen=True)
class Observations:
    """The measured requests of a run, in order of arrival.

    Args:
        rows: Of dtype `REQUEST` (n,).
        latencies: TTFT, TPOT, E2E and queue time of each in seconds (n,); NaN where it has none.
        num_tokens: Tokens of each that finished (n,).
        gap_s: From the arrival before it to its own (n,); 0 of the first.
        left_s: From its arrival to the last token of all that had arrived by then (n,); negative where they were over. Had it
            been the last one, the run would have lasted so much longer: the sum of gaps and the last of these are its duration.
        gaps: Their gaps between tokens.
        met_slo: Which finished within the SLO (n,); None without one.
    """

    rows: Records
    latencies: Mapping[str, FloatArray]
    num_tokens: IntArray
    gap_s: FloatArray
    left_s: FloatArray
    gaps: GapCounts
    met_slo: BoolArray | None

    @classmethod
    def of(cls, result: Result, only: BoolArray | None = None) -> Observations:
        """Take them from the logs of *result*, of all requests or *only* some (num_requests,)."""
        record = result.record
        requests = record.requests
        times = token_times(requests, record.steps)
        order = arrival_order(requests)
        keep = measured_requests(requests, record.window)
        order = order[(keep if only is None else keep & only)[order]]
        finished = requests.has_status("finished")[order]
        rows = requests.rows[order]
        own = TokenTimes(times.first_ps[order], times.last_ps[order], times.num_tokens[order])
        return cls(
            rows,
            _latencies(rows, own, finished),
            own.num_tokens * finished,
            seconds_array(np.diff(rows["arrival_ps"], prepend=rows["arrival_ps"][:1])),
            _left_s(rows, own, finished),
            GapCounts.of(result, np.where(finished, order, -1)),
            None if record.slo == SloSpec() else finished & meets_slo(requests, times, record.slo)[order],
        )

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def block_length(self) -> float:
        """The longest of the block lengths that suit its latencies in order of arrival, and the mean number in flight.

        Requests in flight together wait for the same steps, so a block holds at least as many.
        """
        return max(self.in_flight, *(block_length(values[~np.isnan(values)]) for values in self.latencies.values()))

    @property
    def in_flight(self) -> float:
        """Mean number of requests between arrival and last token, by Little's law."""
        duration_s = float(self.gap_s.sum() + self.left_s[-1])
        return float(np.nansum(self.latencies["e2e"])) / duration_s if duration_s else 0.0

    def beyond(self, metric: str) -> float:
        """Return how many observations lie beyond the percentile that *metric* names; of a mean, how many there are."""
        latency, _, statistic = metric.partition(".")
        number = len(self)
        if latency == "itl":
            number = self.gaps.num_observed
        elif latency in self.latencies:
            number = int(np.count_nonzero(~np.isnan(self.latencies[latency])))
        return number * (1000 - PERCENTILES.get(statistic, 0)) / 1000

    def blocks_beyond(self, metric: str, length: int) -> int:
        """Return how many blocks of *length* requests have an observation beyond the percentile that *metric* names; 1 at least."""
        latency, _, statistic = metric.partition(".")
        per_mille = PERCENTILES[statistic]
        if latency == "itl":
            is_beyond = self.gaps.are_beyond(per_mille)
        else:
            values = self.latencies[latency]
            is_beyond = values > np.nanquantile(values, per_mille / 1000, method="inverted_cdf")
        return max(1, len(np.unique(np.flatnonzero(is_beyond) // length)))

    def values(self) -> dict[str, float]:
        """Return every metric as it was; NaN where nothing was observed of it, none at all of no requests."""
        if not len(self):
            return {}
        return {metric: float(found[0]) for metric, found in self.samples(np.ones((1, len(self)), np.int64)).items()}

    def tails_s(self, number: int) -> FloatArray:
        """Draw *number* times what may be left to do when the last request has arrived (number,).

        It is what was left after one of the last quarter of the requests, and as much as was left in the mean of the first
        quarter more or less, at most: so much is left wherever a run ends, and a shorter tail is no higher throughput. What a
        growing queue has added by then counts.
        """
        quarter = max(len(self) // 4, 1)
        after = len(self) - 1 - np.arange(number) * quarter // number
        part = 2 * np.modf(np.arange(number) * _GOLDEN)[0] - 1
        tails: FloatArray = self.left_s[after] + part * max(float(self.left_s[:quarter].mean()), 0.0)
        return tails

    def samples(self, counts: IntArray, tails_s: FloatArray | None = None) -> Samples:
        """Take every metric of every sample.

        Args:
            counts: How often each request is in each sample (num_samples, n).
            tails_s: From the last arrival to the last token of each (num_samples,); as it was by default.
        """
        found: Samples = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for name in ("ttft", "itl", "tpot", "e2e", "queue"):
                means, quantiles = self._gaps(counts) if name == "itl" else self._latency(name, counts)
                found[f"{name}.mean"] = means
                found |= {f"{name}.{key}": quantiles[:, i] for i, key in enumerate(PERCENTILES)}
            found |= self._served(counts, self.left_s[-1:] if tails_s is None else tails_s)
        return found

    def _gaps(self, counts: IntArray) -> tuple[FloatArray, FloatArray]:
        return self.gaps.means_s(counts), self.gaps.quantiles_s(counts, _PER_MILLE)

    def _latency(self, name: str, counts: IntArray) -> tuple[FloatArray, FloatArray]:
        known = ~np.isnan(self.latencies[name])
        values, own = self.latencies[name][known], counts[:, known]
        return own @ values / own.sum(axis=1), weighted_quantiles(values, own, _PER_MILLE)

    def _served(self, counts: IntArray, tails_s: FloatArray) -> Samples:
        duration_s, number = counts @ self.gap_s + tails_s, counts.sum(axis=1)
        rejected = self.rows["status"] == STATUSES.index("rejected")
        found: Samples = {"throughput": counts @ self.num_tokens / duration_s}
        if self.met_slo is not None:
            found |= {"goodput": counts @ self.met_slo / duration_s, "attainment": counts @ self.met_slo / number}
        found["rejected"] = counts @ rejected / number
        found["preemptions"] = counts @ self.rows["num_preemptions"] / number
        return found


def _latencies(rows: Records, times: TokenTimes, finished: BoolArray) -> dict[str, FloatArray]:
    several = finished & (times.num_tokens > 1)
    tpot_s = seconds_array(times.last_ps - times.first_ps) / np.maximum(times.num_tokens - 1, 1)
    return {
        "ttft": np.where(finished, seconds_array(times.first_ps - rows["arrival_ps"]), np.nan),
        "tpot": np.where(several, tpot_s, np.nan),
        "e2e": np.where(finished, seconds_array(times.last_ps - rows["arrival_ps"]), np.nan),
        "queue": np.where(finished, seconds_array(rows["scheduled_ps"] - rows["arrival_ps"]), np.nan),
    }


def _left_s(rows: Records, times: TokenTimes, finished: BoolArray) -> FloatArray:
    """Return how long after each arrival the latest last token of the requests so far is, or how long before it was."""
    arrivals = rows["arrival_ps"]
    return seconds_array(np.maximum.accumulate(np.where(finished, times.last_ps, arrivals[:1])) - arrivals)

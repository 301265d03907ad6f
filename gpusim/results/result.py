"""Result: what `gpusim.simulate` returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpusim.results.explain_itl import explain_itl
from gpusim.results.explain_queue import explain_queue
from gpusim.results.explain_ttft import explain_ttft
from gpusim.results.metrics import LatencyStats, Metrics, measure, measured_requests
from gpusim.results.store import to_json, write_results
from gpusim.results.summary import RunRecord, attribution, build_summary, plain
from gpusim.results.tables import all_tables, requests_table, runs_table, segments_table, steps_table, use_table
from gpusim.results.tokens import TokenTimes, token_times
from gpusim.spec.yaml_files import dump_yaml
from gpusim.spelling import counted

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Result:
    """A finished run. Times are in seconds; it can be pickled.

    Args:
        record: The logs of the run and what it was.
    """

    record: RunRecord

    def __repr__(self) -> str:
        return f"<Result of {self.record.scenario.get('name') or 'a scenario'!r}, {counted(len(self.record.requests), 'request')}>"

    @cached_property
    def metrics(self) -> Metrics:
        """All metrics of the measured requests."""
        record = self.record
        return measure(record.requests, record.steps, window=record.window, slo=record.slo, times=self._times)

    @cached_property
    def _times(self) -> TokenTimes:
        return token_times(self.record.requests, self.record.steps)

    @property
    def _serving(self) -> dict[str, Any]:
        """How each engine serves, as the resolved scenario states it; replicas serve alike."""
        scenario = self.record.scenario
        stated = {engine["name"]: engine["serving"] for engine in scenario.get("engines") or ()}
        return {name: stated.get(name) or scenario["serving"] for name in self.record.steps}

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return build_summary(self.record, self.metrics, self._times)

    @property
    def ttft(self) -> LatencyStats:
        """First token - arrival, of each request."""
        return self.metrics.ttft

    @property
    def itl(self) -> LatencyStats:
        """Every gap between two tokens of a request, weighted by token."""
        return self.metrics.itl

    @property
    def tpot(self) -> LatencyStats:
        """(Last - first token) / (tokens - 1), of each request with more than one."""
        return self.metrics.tpot

    @property
    def e2e(self) -> LatencyStats:
        """Last token - arrival, of each request."""
        return self.metrics.e2e

    @property
    def goodput_per_s(self) -> float | None:
        """Requests per second that met the SLO; None without one."""
        return self.metrics.goodput_per_s

    @property
    def requests(self) -> pl.DataFrame:
        """One row a request."""
        return requests_table(self.record.requests, self.record.steps, self.record.window, times=self._times)

    @property
    def steps(self) -> pl.DataFrame:
        """One row a step."""
        return steps_table(self.record.steps)

    @property
    def segments(self) -> pl.DataFrame:
        """One row for successive steps in which a request got a token each."""
        return segments_table(self.record.requests)

    @property
    def runs(self) -> pl.DataFrame:
        """One row for successive steps of an unchanged batch, with where their time went."""
        return runs_table(self.record.steps)

    @property
    def use(self) -> pl.DataFrame:
        """One row for a piece of time and each kind of memory or link: which part of its peak bandwidth was in use."""
        return use_table(self.record.use)

    def summary(self) -> dict[str, Any]:
        """Return everything in `summary.json`, as plain data."""
        # A copy, for what is handed out may be changed.
        return dict(plain(self._summary))

    def explain(self) -> dict[str, Any]:
        """Return where the time of all steps went, and that of tokens.

        Returns:
            `step_time_s` and `num_steps`, `seconds` and `share` by resource, which add up to the step time; `itl`, `ttft`
            and `queue`: see `explain_itl`, `explain_ttft` and `explain_queue`; all of the measured requests that finished.
        """
        record = self.record
        keep = measured_requests(record.requests, record.window) & record.requests.has_status("finished")
        return {
            **attribution(list(record.steps.values())),
            "itl": explain_itl(record.requests, record.steps, keep),
            "ttft": explain_ttft(record.requests, record.steps, keep, self._times),
            "queue": explain_queue(record.requests, record.steps, keep, self._serving),
        }

    def plot(self, name: str = "percentiles", width: int = 720) -> Any:
        """Return an Altair chart: `percentiles`, `step_time`, `timeline` or `topology` (see docs/report.md)."""
        # By name: figures stand above results.
        return import_module("gpusim.report.run_figures").plot(self, name, width)

    def _repr_html_(self) -> str:
        text: str = import_module("gpusim.report.run_page").summary_html(self)
        return text

    def to_json(self, path: str | Path) -> None:
        """Write the summary to *path*."""
        Path(path).write_text(to_json(self.summary()), encoding="utf-8")

    def save(self, directory: str | Path) -> None:
        """Write summary, tables and the scenario to *directory*, whole or not at all."""
        record = self.record
        write_results(
            Path(directory),
            summary=self.summary(),
            tables=all_tables(record.requests, record.steps, record.window, times=self._times, use=record.use),
            scenario_yaml=dump_yaml(dict(record.scenario)),
        )

"""Groups of the measured requests of a run, and their latencies: all, by engine, by stream of a merged workload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from gpusim.core.arrays import BoolArray
from gpusim.results.metrics import measured_requests
from gpusim.results.result import Result
from gpusim.results.statistics import Sample, mean_s, quantiles_s
from gpusim.results.tokens import token_gaps, token_times
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.stream import stream_numbers

ALL: Final = "all"
FIGURES: Final = ("itl_mean_s", "itl_p50_s", "itl_p99_s", "ttft_mean_s", "ttft_p50_s", "ttft_p99_s")

Latencies = dict[str, float | None]
"""Of a group, by `FIGURES`; None where it has no observation."""


def stream_names(workload: Mapping[str, Any]) -> list[str]:
    """Return what the streams that a resolved workload merges are called: their names, or their numbers."""
    named = [f"stream {part.get('name') or number}" for number, part in enumerate(workload.get("merge") or ())]
    return named if len(set(named)) == len(named) else [f"stream {number}" for number in range(len(named))]


def groups_of(result: Result) -> dict[str, BoolArray]:
    """Say which requests of a run belong to each group (num_requests,)."""
    record = result.record
    keep = measured_requests(record.requests, record.window) & record.requests.has_status("finished")
    return {ALL: keep} | dict(_engines(result, keep)) | dict(_streams(result, keep))


def _engines(result: Result, keep: BoolArray) -> Iterator[tuple[str, BoolArray]]:
    requests = result.record.requests
    if len(requests.engines) > 1 or result.record.scenario.get("engines"):
        for code, name in enumerate(requests.engines):
            yield f"engine {name}", keep & (requests.rows["engine"] == code)


def _streams(result: Result, keep: BoolArray) -> Iterator[tuple[str, BoolArray]]:
    scenario, requests = result.record.scenario, result.record.requests
    workload = scenario.get("workload") or {}
    if not workload.get("merge"):
        return
    own = {engine["name"] for engine in scenario.get("engines") or () if engine.get("workload")}
    is_shared = np.isin(requests.rows["engine"], [n for n, name in enumerate(requests.engines) if name not in own])
    spec = WorkloadSpec.model_validate(workload)
    numbers = np.full(len(requests), -1)
    of_workload = stream_numbers(spec, seed=result.record.seed, folder=Path())
    numbers[is_shared] = of_workload[requests.rows["index"][is_shared]]
    for number, name in enumerate(stream_names(workload)):
        yield name, keep & (numbers == number)


def latencies(result: Result) -> dict[str, Latencies]:
    """Return the latencies of every group."""
    requests, steps = result.record.requests, result.record.steps
    waits = token_times(requests, steps).first_ps - requests.rows["arrival_ps"]
    return {
        name: {**_figures("itl", token_gaps(requests, steps, mask)), **_figures("ttft", Sample(waits[mask]))}
        for name, mask in groups_of(result).items()
    }


def _figures(name: str, sample: Sample) -> Latencies:
    if not sample.count:
        return dict.fromkeys((f"{name}_mean_s", f"{name}_p50_s", f"{name}_p99_s"))
    p50, p99 = quantiles_s(sample, (500, 990))
    return {f"{name}_mean_s": mean_s(sample), f"{name}_p50_s": p50, f"{name}_p99_s": p99}

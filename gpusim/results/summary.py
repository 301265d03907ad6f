"""summary.json: one dictionary that says what was run and what came out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from gpusim.core.clock import seconds
from gpusim.hardware.bandwidth_use import BandwidthUse
from gpusim.results.metrics import LatencyStats, Metrics, measure
from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.tokens import TokenTimes, token_times
from gpusim.runtime.attribution import CATEGORIES
from gpusim.spec.scenario import MeasureSpec, SloSpec

SUMMARY_SCHEMA: Final = 1
LATENCIES: Final = ("ttft", "itl", "tpot", "e2e", "queue")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run hands over to be summed up.

    Args:
        version: Version of gpusim.
        scenario: The resolved scenario as plain data.
        seed: Its seed.
        complete: Whether it ran to its end, not stopped by the user.
        requests: Every request submitted.
        steps: The step log of each engine, in order of the scenario.
        window: What the metrics leave out.
        slo: Targets of the goodput.
        utilisation: Busy fraction in [0, 1] of each resource.
        use: Bandwidth in use over time; empty for runs saved by versions that did not note it.
        bounds: Of each engine, closed-form floors in seconds, summed over its steps: by `CATEGORIES`, and `step` for
            the whole. May lack any.
        engines: Of each engine, further entries for its part of the summary (KV blocks, weights, ...).
        background: One mapping per background transfer: `name` and what is known of it.
        warnings: What the user should know, one sentence each.
    """

    version: str
    scenario: Mapping[str, Any]
    seed: int
    complete: bool
    requests: RequestLog
    steps: Mapping[str, StepLog]
    window: MeasureSpec = field(default_factory=MeasureSpec)
    slo: SloSpec = field(default_factory=SloSpec)
    utilisation: Mapping[str, float] = field(default_factory=dict)
    use: BandwidthUse = field(default_factory=BandwidthUse)
    bounds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    background: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()


def build_summary(record: RunRecord, metrics: Metrics | None = None, times: TokenTimes | None = None) -> dict[str, Any]:
    """Build the summary of *record* as plain JSON data; null where there is no number.

    Args:
        record: What was run.
        metrics: Its metrics, if computed already.
        times: Its tokens' times, if computed already.
    """
    times = times or token_times(record.requests, record.steps)
    if metrics is None:
        metrics = measure(record.requests, record.steps, window=record.window, slo=record.slo, times=times)
    logs = list(record.steps.values())
    summary = {
        "schema": SUMMARY_SCHEMA,
        "version": record.version,
        "name": record.scenario.get("name", ""),
        "seed": record.seed,
        "scenario_hash": scenario_hash(record.scenario),
        "complete": record.complete,
        "requests": {**asdict(metrics.counts), "rejected_reasons": record.requests.rejected_reasons()},
        **_metrics_part(metrics),
        "slo": {
            "ttft_s": record.slo.ttft,
            "itl_s": record.slo.itl,
            "met": metrics.met_slo,
            "attainment": metrics.attainment,
        },
        "measured": asdict(metrics.measured),
        "attribution": attribution(logs),
        "bounds": _sum_bounds(list(record.bounds.values()), len(logs)),
        "utilisation": record.utilisation,
        "engines": {name: _engine_part(record, name, metrics, times) for name in record.steps},
        "background": record.background,
        "warnings": record.warnings,
        "scenario": record.scenario,
    }
    cleaned: dict[str, Any] = plain(summary)
    return cleaned


def attribution(logs: Sequence[StepLog]) -> dict[str, Any]:
    """Say where the step time of *logs* went: seconds and share by category, which add up to the step time."""
    step_time = sum(log.step_time_ps for log in logs)
    ticks_by = [sum(column) for column in zip(*(log.attribution_ps.tolist() for log in logs), strict=True)]
    return {
        "step_time_s": seconds(step_time),
        "num_steps": sum(len(log) for log in logs),
        "seconds": {name: seconds(spent) for name, spent in zip(CATEGORIES, ticks_by, strict=True)},
        "share": {name: spent / max(step_time, 1) for name, spent in zip(CATEGORIES, ticks_by, strict=True)},
    }


def scenario_hash(scenario: Mapping[str, Any]) -> str:
    """Return the SHA-256 of *scenario* as canonical JSON: sorted keys, no spaces, UTF-8."""
    text = json.dumps(plain(scenario), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return *value* as JSON data: no numpy, no tuples, and None for what is not a finite number."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _metrics_part(metrics: Metrics) -> dict[str, Any]:
    stats: dict[str, LatencyStats] = {name: getattr(metrics, name) for name in LATENCIES}
    return {
        **{f"{name}_s": asdict(stat) for name, stat in stats.items()},
        "throughput": {
            "requests_per_s": metrics.requests_per_s,
            "output_tokens_per_s": metrics.output_tokens_per_s,
            "prompt_tokens_per_s": metrics.prompt_tokens_per_s,
        },
        "goodput_per_s": metrics.goodput_per_s,
    }


def _engine_part(record: RunRecord, name: str, metrics: Metrics, times: TokenTimes) -> dict[str, Any]:
    log = record.steps[name]
    if len(record.steps) > 1:
        window, slo = record.window, record.slo
        metrics = measure(record.requests, record.steps, window=window, slo=slo, engine=name, times=times)
    return {
        "requests": asdict(metrics.counts),
        "num_steps": len(log),
        "num_runs": len(log.runs),
        "produced_tokens": log.total("num_tokens"),
        "prefill_tokens": log.total("num_prefill_tokens"),
        "mean_decodes": log.total("num_decodes") / len(log) if len(log) else None,
        "jitter_s": log.jitter_s,
        **_metrics_part(metrics),
        "attribution": attribution([log]),
        "bounds": record.bounds.get(name, {}),
        **record.engines.get(name, {}),
    }


def _sum_bounds(bounds: Sequence[Mapping[str, float]], num_engines: int) -> dict[str, float]:
    """Add the bounds of all engines, where every engine has one."""
    keys = [key for key in (*CATEGORIES, "step") if all(key in bound for bound in bounds)]
    return {key: math.fsum(bound[key] for bound in bounds) for key in keys} if len(bounds) == num_engines else {}

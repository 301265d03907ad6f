"""A run read back from its directory: the same `Result` that was saved there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.errors import GpusimError
from gpusim.hardware.bandwidth_use import BandwidthUse
from gpusim.results.columns import Records
from gpusim.results.delivery import Delivery
from gpusim.results.request_log import NONE, REQUEST, SEGMENT, STATUSES, RequestLog
from gpusim.results.result import Result
from gpusim.results.step_log import COUNTS, StepLog
from gpusim.results.store import read_summary
from gpusim.results.summary import RunRecord, build_summary
from gpusim.runtime.attribution import CATEGORIES
from gpusim.spec.scenario import MeasureSpec, SloSpec

if TYPE_CHECKING:
    import polars as pl

Table: TypeAlias = "Callable[[str], pl.DataFrame]"
"""Reads a table by the stem of its file."""


def read_result(directory: str | Path) -> Result:
    """Return the result that was saved to *directory* (`Result.save`, ``gpusim run --out``).

    Raises:
        GpusimError: If there is none, a file of it is missing or broken, or it is of a newer schema.
    """
    from polars.exceptions import PolarsError  # noqa: PLC0415 - slow to import

    path = Path(directory)
    summary = read_summary(path)
    if not path.is_dir():
        raise GpusimError(f"{path}: name the directory of the run, which has the tables too")

    def table(stem: str) -> pl.DataFrame:
        return _table(path / f"{stem}.parquet")

    try:
        steps = {name: _steps(name, table, _delivery(summary, name)) for name in summary["engines"]}
        record = _record(summary, _requests(steps, table), steps, _use(path, table))
        return Result(_with_facts(record, summary["engines"]))
    except (KeyError, AssertionError, IndexError, TypeError, ValueError, PolarsError) as error:
        raise GpusimError(
            f"{path}: the files of this run do not fit together ({error!r}); simulate it again"
        ) from error


def _table(file: Path) -> pl.DataFrame:
    import polars as pl  # noqa: PLC0415 - slow to import

    try:
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise GpusimError(f"{file}: not a table of a run: {str(error).splitlines()[0]}; simulate it again") from error


def _delivery(summary: Mapping[str, Any], engine: str) -> Delivery | None:
    mean_s = summary["engines"][engine].get("jitter_s")
    return Delivery(summary["seed"], engine, mean_s) if mean_s else None


def _use(path: Path, table: Table) -> BandwidthUse:
    """Return the bandwidth in use over time; nothing of a run that an older version saved."""
    if not (path / "use.parquet").exists():
        return BandwidthUse()
    rows = table("use")
    parts = {str(kind): part for (kind,), part in rows.group_by("kind", maintain_order=True)}
    if not parts:
        return BandwidthUse()
    first = next(iter(parts.values()))
    edges_ps = np.append(first["start_ps"].to_numpy(), first["end_ps"][-1])
    return BandwidthUse(edges_ps, {kind: part["use"].to_numpy() for kind, part in parts.items()})


def _steps(engine: str, table: Table, delivery: Delivery | None) -> StepLog:
    log = StepLog(engine, delivery)
    runs, steps = (table(stem).filter(engine=engine) for stem in ("runs", "steps"))
    if len(runs):
        first = runs["first_step"].to_numpy()
        seconds_by = runs.select(f"{name}_s" for name in CATEGORIES).to_numpy()
        log.extend(
            runs["start_ps"].to_numpy(),
            runs["num_steps"].to_numpy(),
            steps["end_ps"].to_numpy(),
            kv_blocks=runs["kv_blocks"].to_numpy(),
            attribution_ps=np.rint(seconds_by * 1e12).astype(np.int64),
            **{name: steps[name].to_numpy()[first] for name in COUNTS},
        )
    return log


def _requests(steps: Mapping[str, StepLog], table: Table) -> RequestLog:
    """Return the log of all requests; what the API takes is what tokens are later than their delivery."""
    rows, segments = table("requests"), table("segments")
    # Numbers are of a workload: engines with workloads of their own have the same ones.
    owners = segments.join(
        rows.select("engine", "request").with_row_index("row"), on=["engine", "request"], maintain_order="left"
    )
    found = np.empty(len(segments), SEGMENT)
    found["request"] = owners["row"].to_numpy()
    found["engine"] = _codes(segments["engine"], list(steps))
    for name in ("first_step", "last_step"):
        found[name] = segments[name].to_numpy()
    log = RequestLog(list(steps), _api(rows, found, steps))
    log.reasons.extend(rows["reason"].drop_nulls().unique(maintain_order=True).to_list())
    log.extend(_request_rows(rows, log), found)
    return log


def _request_rows(rows: pl.DataFrame, log: RequestLog) -> Records:
    found = np.empty(len(rows), REQUEST)
    found["index"] = rows["request"].to_numpy()
    found["engine"] = _codes(rows["engine"], log.engines)
    found["status"] = _codes(rows["status"], STATUSES)
    found["reason"] = _codes(rows["reason"], log.reasons)
    found["arrival_ps"] = rows["arrival_ps"].to_numpy()
    found["scheduled_ps"] = _ticks(rows["scheduled_s"].fill_null(NONE * 1e-12))
    found["preempted_ps"] = _ticks(rows["preempted_s"])
    for name in ("prompt_tokens", "output_tokens", "num_preemptions", "cached_tokens"):
        found[name] = rows[name].to_numpy()
    return found


def _codes(texts: pl.Series, names: Sequence[str]) -> IntArray:
    """Return the position of each text in *names*, `NONE` for null."""
    code_of = {name: code for code, name in enumerate(names)}
    return np.array([NONE if text is None else code_of[text] for text in texts.to_list()], dtype=np.int64)


def _ticks(seconds: pl.Series) -> IntArray:
    return np.rint(seconds.to_numpy() * 1e12).astype(np.int64)


def _api(rows: pl.DataFrame, segments: Records, steps: Mapping[str, StepLog]) -> list[int]:
    """Return the ticks by which tokens of each engine are later for the client than their delivery."""
    first_tokens = rows["first_token_ps"].fill_null(NONE).to_numpy()
    api: list[int] = []
    for code, log in enumerate(steps.values()):
        own = np.flatnonzero(segments["engine"] == code)[:1]
        first = segments[own]
        api += (first_tokens[first["request"]] - log.delivered[first["first_step"]]).tolist() or [0]
    return api


def _record(
    summary: Mapping[str, Any], requests: RequestLog, steps: Mapping[str, StepLog], use: BandwidthUse
) -> RunRecord:
    scenario = summary["scenario"]
    return RunRecord(
        version=summary["version"],
        scenario=scenario,
        seed=summary["seed"],
        complete=summary["complete"],
        requests=requests,
        steps=steps,
        window=MeasureSpec.model_validate(scenario.get("measure") or {}),
        slo=SloSpec.model_validate(scenario.get("slo") or {}),
        utilisation=summary["utilisation"],
        use=use,
        bounds={name: engine["bounds"] for name, engine in summary["engines"].items()},
        background=summary["background"],
        warnings=summary["warnings"],
    )


def _with_facts(record: RunRecord, engines: Mapping[str, Mapping[str, Any]]) -> RunRecord:
    """Return *record* with what its engines' parts of the summary hold beside what is computed from the logs."""
    computed = build_summary(record)["engines"]
    facts = {
        name: {key: value for key, value in part.items() if key not in computed[name]} for name, part in engines.items()
    }
    return replace(record, engines=facts)

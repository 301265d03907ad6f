"""Baselines: what a scenario's latencies were when somebody last looked at them, as a small JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from gpusim.core.clock import TICKS_PER_S
from gpusim.errors import GpusimError, SpecError
from gpusim.files import write_text
from gpusim.regression.facts import Fact, facts
from gpusim.results.result import Result
from gpusim.results.summary import LATENCIES, plain, scenario_hash

SCHEMA: Final = 1
STATISTICS: Final = ("mean", "p50", "p90", "p99")
RATES: Final = ("requests_per_s", "output_tokens_per_s", "goodput_per_s")
COUNTS: Final = ("finished", "rejected", "preemptions")
_DIGITS: Final = 6
"""Significant digits kept: a millionth is far below any tolerance, and more would make every diff longer."""

_TICK_S: Final = 1 / TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is compared of a run, and what explains a change of it.

    Args:
        gpusim: Version that simulated it.
        scenario_hash: SHA-256 of the resolved scenario.
        scenario: Its settings, see `facts`.
        latency_s: Seconds by name, such as ``itl.p99``; None where there was no observation.
        rate: Rates per second by name; None without one.
        requests: Numbers of requests by what became of them, and of preemptions.
        spent_s: Mean seconds by what they went to, as `Result.explain` says, of gaps between tokens (``itl``) and of times to the
            first token (``ttft``), all and the slowest hundredth (``.slow``); what took none is left out.
        schema: Of the file.
    """

    gpusim: str
    scenario_hash: str
    scenario: Mapping[str, Fact]
    latency_s: Mapping[str, float | None]
    rate: Mapping[str, float | None]
    requests: Mapping[str, int]
    spent_s: Mapping[str, Mapping[str, float]]
    schema: int = SCHEMA

    @classmethod
    def of(cls, result: Result) -> Baseline:
        """Return what a baseline keeps of *result*, in the digits it keeps."""
        record, metrics = result.record, result.metrics
        latencies = {f"{name}.{which}": getattr(getattr(metrics, name), which) for name, which in _latency_names()}
        return cls(
            gpusim=record.version,
            scenario_hash=scenario_hash(record.scenario),
            scenario=facts(plain(record.scenario)),
            latency_s=_short(latencies),
            rate=_short({name: getattr(metrics, name) for name in RATES}),
            requests={name: getattr(metrics.counts, name) for name in COUNTS},
            spent_s=_spent(result.explain()),
        )

    def text(self) -> str:
        """Return the file: sorted keys, a line each, so that a diff shows what moved."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write it to *path*, whole or not at all; its folder is made.

        Raises:
            SpecError: If it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(f"{path}: its folder cannot be made: {error.strerror or error}") from None
        write_text(path, self.text())


def read_baseline(path: Path) -> Baseline:
    """Read the baseline at *path*.

    Raises:
        GpusimError: If it cannot be read, is none, or is of a newer schema.
    """
    again = "make it anew with --gpusim-update"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GpusimError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise GpusimError(f"{path}: not a baseline of latencies: {error}; {again}") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int):
        raise GpusimError(f"{path}: not a baseline of latencies: it has no schema number; {again}")
    if schema > SCHEMA:
        raise GpusimError(f"{path}: schema {schema} is newer than this gpusim reads ({SCHEMA}); install a newer gpusim")
    return _checked(path, data, again)


def _checked(path: Path, data: dict[str, Any], again: str) -> Baseline:
    try:
        baseline = Baseline(**data)
    except TypeError as error:
        raise GpusimError(f"{path}: not a baseline of latencies ({error}); {again}") from None
    for name in ("scenario", "spent_s"):
        if not isinstance(data[name], dict):
            raise GpusimError(f"{path}: {name} must be a mapping; {again}")
    numbers = {name: data[name] for name in ("latency_s", "rate", "requests")}
    numbers |= {f"spent_s.{group}": parts for group, parts in data["spent_s"].items()}
    for name, values in numbers.items():
        if not isinstance(values, dict) or not all(_is_number(value) for value in values.values()):
            raise GpusimError(f"{path}: {name} must hold numbers; {again}")
    return baseline


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _spent(explained: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    groups = {
        f"{of}{suffix}": explained[of][group]["seconds"]
        for of in ("itl", "ttft")
        for group, suffix in (("all", ""), ("slow", ".slow"))
        if explained[of]
    }
    return {
        name: _short({part: value for part, value in parts.items() if abs(value) >= _TICK_S})
        for name, parts in groups.items()
    }


def _latency_names() -> list[tuple[str, str]]:
    return [(name, which) for name in LATENCIES for which in STATISTICS]


def _short(values: Mapping[str, float | None]) -> dict[str, Any]:
    rounded = {name: None if value is None else float(f"{value:.{_DIGITS}g}") for name, value in values.items()}
    return dict(plain(rounded))

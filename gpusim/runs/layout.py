"""A folder of measured serving runs: its experiments, each with its inputs and, where they are there, its measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gpusim.errors import SpecError

METRICS: Final = ("ttft_mean_s", "ttft_p90_s", "ttft_p99_s", "itl_mean_s", "e2e_mean_s", "e2e_p90_s", "e2e_p99_s")
"""What is predicted of an experiment."""
NEWEST_SCHEMA: Final = 1
EXPERIMENTS: Final = "experiments"
"""Folder of the files of experiments."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One run as its file states it. Predictions read `system`, `engine`, `model` and `workload` only."""

    name: str
    folder: Path
    """Of all experiments; files of requests lie below it."""
    data: Mapping[str, Any]

    @property
    def system(self) -> Mapping[str, Any]:
        """GPU, how many, and how the model is split."""
        return self._part("system")

    @property
    def engine(self) -> Mapping[str, Any]:
        """Version and limits of the engine."""
        return self._part("engine")

    @property
    def model(self) -> Mapping[str, Any]:
        """Architecture."""
        return self._part("model")

    @property
    def workload(self) -> Mapping[str, Any]:
        """Load stages or a file of requests."""
        return self._part("workload")

    @property
    def measured(self) -> dict[str, float]:
        """Those of `METRICS` that were measured."""
        return _numbers(self.data.get("measured"))

    @property
    def peers(self) -> dict[str, dict[str, float]]:
        """What others predicted, by who."""
        stated = self.data.get("peers")
        peers = stated if isinstance(stated, Mapping) else {}
        return {name: _numbers(peer.get("predicted")) for name, peer in peers.items() if isinstance(peer, Mapping)}

    @property
    def is_scored(self) -> bool:
        """Whether its errors count: overload runs are for capacity studies only."""
        return bool(self.data.get("scored", True))

    def _part(self, name: str) -> Mapping[str, Any]:
        part = self.data.get(name)
        if not isinstance(part, Mapping):
            raise SpecError(f"the experiment has no {name!r}")
        return part


def read_folder(folder: Path) -> list[Experiment]:
    """Read all experiments of *folder*, in order of their names.

    Raises:
        SpecError: If there is none, or a file is no experiment.
    """
    paths = sorted((folder / EXPERIMENTS).glob("*.json"))
    if not paths:
        raise SpecError(
            f"{folder}: holds no experiments; name a folder with {EXPERIMENTS}/NAME.json in it (gpusim runs from-bench makes one)"
        )
    return sorted((_read(path, folder) for path in paths), key=lambda experiment: experiment.name)


def _read(path: Path, folder: Path) -> Experiment:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: expected one experiment, a mapping of keys")
    if data.get("schema_version", NEWEST_SCHEMA) != NEWEST_SCHEMA:
        raise SpecError(f"{path}: schema_version {data['schema_version']}; this gpusim reads {NEWEST_SCHEMA}")
    return Experiment(str(data.get("experiment_id", path.stem)), folder, data)


def _numbers(stated: Any) -> dict[str, float]:
    if not isinstance(stated, Mapping):
        return {}
    return {name: float(stated[name]) for name in METRICS if isinstance(stated.get(name), int | float)}

"""What served a run, in a few words: model, how it was split, on which GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gpusim.results.machines import gpu_counts

if TYPE_CHECKING:
    from gpusim.results.summary import RunRecord


def setup(scenario: Mapping[str, Any], engines: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what served: ``llama-3-8b, TP 2 on 2 of 8 × h100-sxm``; engines that are alike together.

    Args:
        scenario: Resolved.
        engines: What the summary of the run says of each.
    """
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for name, engine in engines.items():
        if "model" in engine:
            alike.setdefault((_served(scenario, name, engine), engine["device"]), []).append(engine)
    return "; ".join(
        f"{f'{len(group)} engines of ' if len(group) > 1 else ''}{served} on {_gpus(scenario, device, group)}"
        for (served, device), group in alike.items()
    )


def interrupted(complete: bool) -> Iterator[str]:
    """Warn of a run that is not *complete*."""
    if not complete:
        yield "this run was interrupted; these are the requests that had finished"


@dataclass(frozen=True, slots=True)
class About:
    """What a reader of a run's numbers must know beside its name.

    Args:
        setup: What served it: see `setup`.
        warnings: Its warnings, one sentence each.
    """

    setup: str = ""
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: RunRecord) -> About:
        """Return it of a run."""
        return cls(setup(record.scenario, record.engines), (*interrupted(record.complete), *record.warnings))


UNKNOWN: Final = About()


def engine_setup(scenario: Mapping[str, Any], name: str, engine: Mapping[str, Any]) -> str:
    """Say it of the engine called *name* alone."""
    return setup(scenario, {name: engine})


def _served(scenario: Mapping[str, Any], name: str, engine: Mapping[str, Any]) -> str:
    stated = {each["name"]: each.get("serving") for each in scenario.get("engines") or ()}
    serving = stated.get(name) or scenario.get("serving") or {}
    tensor, data = (serving.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "data"))
    experts = tensor * data if serving.get("enable_expert_parallel") else 1
    sizes = {"TP": tensor, "DP": data, "EP": experts}
    return ", ".join([engine["model"], *(f"{kind} {size}" for kind, size in sizes.items() if size > 1)])


def _gpus(scenario: Mapping[str, Any], device: str, engines: list[Mapping[str, Any]]) -> str:
    used = sum(len(engine["gpus"]) for engine in engines)
    there = gpu_counts(scenario["topology"])[device] if "topology" in scenario else used
    return f"{used} of {there} × {device}" if there > used else f"{used} × {device}"

"""From a scenario to a checked plan: every name resolved, every engine placed, every problem found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpusim.machine import copy_ends, gpu_devices, read_topology, with_devices
from gpusim.model.layout import MOST_RANKS
from gpusim.placement import EnginePlan, Placement
from gpusim.spec.background import CollectiveSpec
from gpusim.spec.document import Document, validate_leniently
from gpusim.spec.expand import expand, set_key
from gpusim.spec.names import read
from gpusim.spec.problems import Location, Problem, Problems
from gpusim.spec.scenario import AttentionOverride, Scenario
from gpusim.spec.topology import TopologySpec
from gpusim.spec.workload import WorkloadSpec
from gpusim.stated import EngineReader, StatedEngine, replicas

_PLACEHOLDERS = {"schema": 1, "topology": ""}
"""Stand for what a scenario cannot be without while its other problems are looked for."""

_IN_PLACE_OF_ENGINES = ("model", "workload", "serving")
"""Keys that only a scenario without engines must have."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario that can run."""

    scenario: Scenario
    """Self-contained: everything named is written out."""
    topology: TopologySpec
    workload: WorkloadSpec | None
    engines: tuple[EnginePlan, ...]

    def resolved(self) -> dict[str, Any]:
        """Return the scenario as plain data with every default filled in; it runs again to the same bytes."""
        scenario = self.scenario
        if scenario.engines:
            filled = [
                stated.model_copy(update={"serving": plan.serving, **_attention_of(plan)})
                for stated, plan in zip(scenario.engines, self.engines, strict=True)
            ]
            scenario = scenario.model_copy(update={"engines": filled})
        else:
            scenario = scenario.model_copy(update={"serving": self.engines[0].serving})
        data = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
        if scenario.what_if.is_neutral:
            del data["what_if"]
        return {"schema": data.pop("schema"), "name": data.pop("name"), **data}


def load(source: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check a scenario.

    Args:
        source: A path, or the name of an example.
        overrides: Values to set by dotted path before it is read, such as ``{"serving.tensor_parallel_size": 4}``.

    Raises:
        SpecError: With all problems of the file at once.
    """
    return plan_document(open_scenario(source, overrides, by="overrides")).scenario


def open_scenario(source: str | Path, overrides: Mapping[str, Any] | None = None, *, by: str = "--set") -> Document:
    """Read the file of a scenario with *overrides* set in it, unchecked; messages on them say *by* what they were set."""
    document = read("example", str(source))
    for path, value in (overrides or {}).items():
        set_key(document, path, value, by)
    return document


def plan_document(document: Document) -> Plan:
    """Resolve and check the scenario in *document*.

    Raises:
        SpecError: With all problems at once, each with its line.
    """
    planner = _Planner(document.folder)
    problems = expand(document)
    scenario, found = validate_leniently(Scenario, document, _PLACEHOLDERS)
    problems += _elsewhere(found, problems)
    # What could be read is planned even so: the user learns of all problems at once.
    plan = None if scenario is None else planner.plan(scenario)
    absent = [*_PLACEHOLDERS, *_IN_PLACE_OF_ENGINES] if "engines" in document.data else [*_PLACEHOLDERS]
    known = [*problems, *(Problem((key,), "") for key in absent if problems and key not in document.data)]
    problems += _elsewhere(planner.problems.found, known)
    if problems or plan is None:
        raise document.error(problems)
    return plan


def _elsewhere(problems: Iterable[Problem], known: Sequence[Problem]) -> list[Problem]:
    """Return those of *problems* that are no consequence of *known* ones: neither within their keys nor around them."""

    def overlap(one: Location, other: Location) -> bool:
        length = min(len(one), len(other))
        return length > 0 and one[:length] == other[:length]

    return [problem for problem in problems if not any(overlap(problem.where, other.where) for other in known)]


def plan_scenario(scenario: Scenario) -> Plan:
    """Resolve and check a scenario made in Python.

    Raises:
        SpecError: With all problems at once.
    """
    planner = _Planner(Path())
    plan = planner.plan(scenario)
    if plan is None:
        raise Document(scenario.name or "scenario", {}).error(planner.problems.found)
    return plan


@dataclass
class _Planner:
    """Resolves one scenario, collecting problems instead of stopping at the first."""

    folder: Path
    problems: Problems = field(default_factory=Problems)

    def plan(self, scenario: Scenario) -> Plan | None:
        """Return the plan of *scenario*, or None if it has problems."""
        topology = self._topology(scenario.topology)
        num_gpus = MOST_RANKS if topology is None else len(gpu_devices(topology))
        reader = EngineReader(self.folder, self.problems, num_gpus)
        workload = reader.workload(scenario.workload, ("workload",))
        own = [engine.workload for engine in scenario.engines]
        if scenario.workload is None and (not own or None in own):
            self.problems.add(("workload",), "this key is required, or one in each of engines")
        stated = reader.engines(scenario)
        if topology is None:
            return None
        engines = Placement(topology, self.problems).place([one for engine in stated for one in replicas(engine)])
        self._check_background(scenario, topology)
        self._check_lengths(engines, workload)
        if self.problems.found:
            return None
        return Plan(_inlined(scenario, topology, workload, stated), topology, workload, tuple(engines))

    def _topology(self, stated: str | TopologySpec) -> TopologySpec | None:
        """Return the machine with every device written out, or None if it has problems."""
        where, known = ("topology",), len(self.problems.found)
        if not isinstance(stated, str):
            stated = with_devices(stated, self.folder, self.problems, where)
        if len(self.problems.found) > known:
            return None
        return self.problems.attempt(where, lambda: read_topology(stated, self.folder))

    def _check_background(self, scenario: Scenario, topology: TopologySpec) -> None:
        """Check that background traffic runs between nodes that exist."""
        for index, entry in enumerate(scenario.background):
            if isinstance(entry, CollectiveSpec):
                ends, known = {"gpus": entry.gpus}, list(gpu_devices(topology))
            else:
                ends, known = {"from": [entry.source], "to": [entry.target]}, copy_ends(topology)
            for key, names in ends.items():
                unknown = ", ".join(name for name in names if name not in known)
                if unknown:
                    message = f"{unknown}: unknown; {topology.name} has {', '.join(known)}"
                    self.problems.add(("background", index, key), message)

    def _check_lengths(self, engines: Sequence[EnginePlan], shared: WorkloadSpec | None) -> None:
        """Check that the shortest request of each workload is not too long for all engines that serve it."""
        streams = [(("engines", i, "workload"), e.workload, [e]) for i, e in enumerate(engines) if e.workload]
        sharing = [engine for engine in engines if engine.workload is None]
        for where, workload, serving in [*streams, (("workload",), shared, sharing)]:
            longest = max((engine.serving.max_model_len or 0 for engine in serving), default=0)
            shortest = 0 if workload is None else workload.shortest_request
            if serving and shortest > longest:
                message = f"the shortest request has {shortest} tokens, serving.max_model_len is {longest}"
                self.problems.add(where, f"{message}; shorten the requests or raise it")


def _attention_of(plan: EnginePlan) -> dict[str, Any]:
    """Return what is said of the attention of an engine, by itself or by the scenario."""
    return {name: getattr(plan.attention, name) for name in AttentionOverride.model_fields}


def _inlined(
    scenario: Scenario, topology: TopologySpec, workload: WorkloadSpec | None, engines: list[StatedEngine]
) -> Scenario:
    """Return *scenario* with everything it names written out."""
    update: dict[str, Any] = {"topology": topology, "workload": workload}
    if scenario.engines:
        update["engines"] = [
            engine.spec.model_copy(
                update={"model": engine.model, "workload": engine.workload, "serving": engine.serving}
            )
            for engine in engines
        ]
    else:
        update |= {"model": engines[0].model, "serving": engines[0].serving}
    return scenario.model_copy(update=update)

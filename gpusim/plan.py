"""From a scenario to a checked plan: every name resolved, every engine placed, every problem found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpusim.machine import copy_ends, gpu_devices, read_topology
from gpusim.placement import ALL_GPUS, EnginePlan, Placement, Problems, StatedEngine
from gpusim.spec.background import CollectiveSpec
from gpusim.spec.document import Document, Location, validate, validate_leniently
from gpusim.spec.huggingface import model_from_config
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import extended, is_path, read
from gpusim.spec.scenario import AttentionOverride, EngineSpec, Scenario
from gpusim.spec.topology import TopologySpec
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.trace import locate_trace


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
                stated.model_copy(update={"serving": plan.serving})
                for stated, plan in zip(scenario.engines, self.engines, strict=True)
            ]
            scenario = scenario.model_copy(update={"engines": filled})
        else:
            scenario = scenario.model_copy(update={"serving": self.engines[0].serving})
        return scenario.model_dump(mode="json", by_alias=True, exclude_none=True)


def load(source: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check a scenario.

    Args:
        source: A path, or the name of an example.
        overrides: Values to set by dotted path before it is read, such as ``{"serving.tensor_parallel_size": 4}``.

    Raises:
        SpecError: With all problems of the file at once.
    """
    return plan_document(open_scenario(source, overrides)).scenario


def open_scenario(source: str | Path, overrides: Mapping[str, Any] | None = None) -> Document:
    """Read the file of a scenario with *overrides* set in it, unchecked."""
    document = read("example", str(source))
    for path, value in (overrides or {}).items():
        document.override(path, value)
    return document


def plan_document(document: Document) -> Plan:
    """Resolve and check the scenario in *document*.

    Raises:
        SpecError: With all problems at once, each with its line.
    """
    planner = _Planner(document.folder)
    planner.problems.attempt(("workload",), lambda: _extend_workloads(document))
    scenario, problems = validate_leniently(Scenario, document)
    # What could be read is planned even so: the user learns of all problems at once.
    plan = None if scenario is None else planner.plan(scenario)
    known = [problem.where for problem in problems if problem.where]
    problems += [p for p in planner.problems.found if not any(p.where[: len(where)] == where for where in known)]
    if problems or plan is None:
        raise document.error(problems)
    return plan


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


def _extend_workloads(document: Document) -> None:
    """Write out workloads that are named, or that extend a named one."""
    engines = document.data.get("engines")
    places = [document.data, *(engines if isinstance(engines, list) else [])]
    for place in (place for place in places if isinstance(place, dict)):
        workload = place.get("workload")
        if isinstance(workload, str):
            place["workload"] = read("workload", workload, document.folder).data
        elif isinstance(workload, dict):
            place["workload"] = extended(workload, "workload", document.folder)


@dataclass
class _Planner:
    """Resolves one scenario, collecting problems instead of stopping at the first."""

    folder: Path
    problems: Problems = field(default_factory=Problems)

    def plan(self, scenario: Scenario) -> Plan | None:
        """Return the plan of *scenario*, or None if it has problems."""
        topology = self.problems.attempt(("topology",), lambda: read_topology(scenario.topology, self.folder))
        workload = self._workload(scenario.workload, ("workload",))
        stated = [self._stated(scenario, spec, where) for spec, where in _engines(scenario)]
        known = [engine for engine in stated if engine is not None]
        if topology is None or len(known) < len(stated):
            return None
        engines = Placement(topology, self.problems).place(known)
        self._check_background(scenario, topology)
        if self.problems.found:
            return None
        return Plan(_inlined(scenario, topology, workload, known), topology, workload, tuple(engines))

    def _stated(self, scenario: Scenario, spec: EngineSpec, where: Location) -> StatedEngine | None:
        """Fill in what an engine leaves to the scenario."""
        model = self._model(spec.model or scenario.model, (*where, "model"))
        workload = self._workload(spec.workload, (*where, "workload"))
        if model is None:
            return None
        own: AttentionOverride = spec if spec.model_fields_set & AttentionOverride.model_fields.keys() else scenario
        return StatedEngine(
            spec=spec,
            model=model,
            dtype=spec.dtype or scenario.dtype,
            serving=spec.serving or scenario.serving,
            attention=own,
            workload=workload,
            where=where,
        )

    def _model(self, stated: str | ModelSpec | None, where: Location) -> ModelSpec | None:
        """Return a model as published."""
        if stated is None:
            self.problems.add(where, "model is required, here or for all engines")
            return None
        if isinstance(stated, ModelSpec):
            return stated
        return self.problems.attempt(where, lambda: read_model(stated, self.folder))

    def _workload(self, stated: str | WorkloadSpec | None, where: Location) -> WorkloadSpec | None:
        """Return a workload with the path of its trace made absolute."""
        if stated is None:
            return None
        return self.problems.attempt(where, lambda: _read_workload(stated, self.folder))

    def _check_background(self, scenario: Scenario, topology: TopologySpec) -> None:
        """Check that background traffic runs between nodes that exist."""
        for index, entry in enumerate(scenario.background):
            if isinstance(entry, CollectiveSpec):
                ends, known, key = entry.gpus, list(gpu_devices(topology)), "gpus"
            else:
                ends, known, key = [entry.source, entry.target], copy_ends(topology), "from"
            unknown = [end for end in ends if end not in known]
            if unknown:
                message = f"{', '.join(unknown)}: not among what {topology.name} has: {', '.join(known)}"
                self.problems.add(("background", index, key), message)


def _engines(scenario: Scenario) -> list[tuple[EngineSpec, Location]]:
    """Return the engines of *scenario* with their places in the file."""
    if scenario.engines:
        return [(engine, ("engines", index)) for index, engine in enumerate(scenario.engines)]
    return [(EngineSpec(name="engine", gpus=ALL_GPUS), ())]


def _read_workload(stated: str | WorkloadSpec, folder: Path) -> WorkloadSpec:
    spec = validate(WorkloadSpec, read("workload", stated, folder)) if isinstance(stated, str) else stated
    if spec.trace is None:
        return spec
    return spec.model_copy(update={"trace": str(locate_trace(spec.trace, folder).resolve())})


def read_model(name: str, folder: Path) -> ModelSpec:
    """Return the model that *name* means: from the catalog, a file of ours, or a Hugging Face config.json."""
    document = read("model", name, folder)
    if is_path(name) and name.endswith(".json"):
        return model_from_config(document)
    return validate(ModelSpec, document)


def _inlined(
    scenario: Scenario, topology: TopologySpec, workload: WorkloadSpec | None, engines: list[StatedEngine]
) -> Scenario:
    """Return *scenario* with everything it names written out."""
    update: dict[str, Any] = {"topology": topology, "workload": workload}
    if scenario.engines:
        update["engines"] = [
            engine.spec.model_copy(update={"model": engine.model, "workload": engine.workload}) for engine in engines
        ]
    else:
        update["model"] = engines[0].model
    return scenario.model_copy(update=update)

"""Engines as a scenario states them: names resolved, what they leave out filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gpusim.model.attention import with_attention
from gpusim.model.layout import MOST_RANKS, Layout
from gpusim.spec.document import validate
from gpusim.spec.engine_profile import NO_PROFILE, EngineProfile
from gpusim.spec.model import ModelSpec, MoeSpec
from gpusim.spec.names import read
from gpusim.spec.problems import Location, Problems
from gpusim.spec.scenario import AttentionOverride, DtypeSpec, EngineSpec, Scenario
from gpusim.spec.serving import ServingSpec
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.named import read_workload

ALL_GPUS = ["*"]
"""What the single engine of a scenario without `engines:` states."""


@dataclass(frozen=True, slots=True)
class StatedEngine:
    """An engine as the scenario states it, what it leaves out filled in from the scenario."""

    spec: EngineSpec
    model: ModelSpec
    """As published."""
    served: ModelSpec
    """With its attention overridden."""
    dtype: DtypeSpec
    serving: ServingSpec
    attention: AttentionOverride
    workload: WorkloadSpec | None
    where: Location
    """Its place in the file; empty for the single engine of a scenario without `engines:`."""


def replicas(engine: StatedEngine) -> list[StatedEngine]:
    """Return an engine as often as it is to be placed, by names of their own if that is several times."""
    size = engine.serving.data_parallel_size
    if size == 1:
        return [engine]
    names = [f"{engine.spec.name}{number}" for number in range(size)]
    return [replace(engine, spec=engine.spec.model_copy(update={"name": name})) for name in names]


def unshared_experts(model: ModelSpec, serving: ServingSpec) -> str:
    """Say why replicas of *model* cannot share its experts, if it has any; empty where they can."""
    blocks = [group for group in model.layers if isinstance(group.mlp, MoeSpec)]
    if not blocks:
        return ""
    if not serving.enable_expert_parallel:
        return (
            f"not yet: data_parallel_size of {model.name} with a slice of every expert on every GPU of all replicas; "
            "say enable_expert_parallel: true to deal whole experts over them, or list independent replicas under engines"
        )
    if any(group.parallel for group in blocks):
        return f"not yet: data_parallel_size of {model.name}, whose attention and experts run in parallel"
    if serving.kv_placement == "pooled":
        return "not yet: kv_placement: pooled with replicas that share experts; use kv_placement: sharded"
    if serving.swaps or serving.kv_offload is not None:
        key = "preemption_mode: swap" if serving.swaps else "kv_offload"
        return (
            f"not yet: {key} with replicas that share experts, which would wait for each other's copies; leave it out"
        )
    return ""


@dataclass
class EngineReader:
    """Reads the engines of a scenario, collecting problems instead of stopping at the first.

    Args:
        folder: Paths in the scenario are relative to it.
        problems: Gets what is wrong.
        num_gpus: Of the machine.
    """

    folder: Path
    problems: Problems
    num_gpus: int = MOST_RANKS

    def engines(self, scenario: Scenario) -> list[StatedEngine]:
        """Return the engines of *scenario* that can be served as stated."""
        stated = [self._stated(scenario, spec, where) for spec, where in _engines(scenario)]
        return [engine for engine in stated if engine is not None]

    def _stated(self, scenario: Scenario, spec: EngineSpec, where: Location) -> StatedEngine | None:
        """Fill in what an engine leaves to the scenario."""
        model = self._model(spec.model or scenario.model, (*where, "model"))
        workload = self.workload(spec.workload, (*where, "workload"))
        stated = spec.model_fields_set & AttentionOverride.model_fields.keys()
        own = scenario.model_copy(update={name: getattr(spec, name) for name in stated})
        serving = self._with_profile(spec.serving or scenario.serving, where)
        served = None if model is None else self._served(model, own, serving, where)
        if model is None or served is None or not self._can_replicate(model, serving, where):
            return None
        return StatedEngine(
            spec=spec,
            model=model,
            served=served,
            dtype=spec.dtype or scenario.dtype,
            serving=_sampling_stated(serving, model),
            attention=own,
            workload=workload,
            where=where,
        )

    def _with_profile(self, serving: ServingSpec, where: Location) -> ServingSpec:
        """Return *serving* with its engine profile written out."""
        name = serving.engine
        if not (isinstance(name, EngineProfile) or name == NO_PROFILE.name):
            profile = self.problems.attempt(
                (*where, "serving", "engine"), lambda: validate(EngineProfile, read("engine", name, self.folder))
            )
            if profile is None:
                return serving
            serving = serving.model_copy(update={"engine": profile})
        if serving.jitter and not serving.profile.jitter:
            self.problems.add(
                (*where, "serving", "engine"),
                f"the profile {serving.profile.name} states no jitter, and jitter: true needs some; name one that does, "
                "such as engine: vllm, or leave jitter out",
            )
        return serving

    def _model(self, stated: str | ModelSpec | None, where: Location) -> ModelSpec | None:
        """Return a model as published."""
        if stated is None:
            self.problems.add(where, "this key is required, here or for all engines")
            return None
        if isinstance(stated, ModelSpec):
            return stated
        return self.problems.attempt(where, lambda: read_model(stated, self.folder))

    def _served(
        self, model: ModelSpec, override: AttentionOverride, serving: ServingSpec, where: Location
    ) -> ModelSpec | None:
        """Return *model* with its attention overridden; None, and a problem, if it cannot be, or not be split."""
        served = self.problems.attempt(
            (*where, "attention"),
            lambda: with_attention(model, override.attention, keep_weights=override.attention_keeps_weights),
        )
        misfit = None if served is None else Layout.of(serving).problem(served, self.num_gpus)
        if misfit is not None:
            self.problems.add((*where, "serving", "tensor_parallel_size"), misfit)
        return served if misfit is None else None

    def _can_replicate(self, model: ModelSpec, serving: ServingSpec, where: Location) -> bool:
        """Say whether an engine can have replicas if it wants them; add a problem if it cannot."""
        message = ""
        if serving.data_parallel_size > 1 and where:
            message = "not yet: data_parallel_size of one of several engines; list its replicas as engines"
        elif serving.data_parallel_size > 1:
            message = unshared_experts(model, serving)
        if message:
            self.problems.add((*where, "serving", "data_parallel_size"), message)
        return not message

    def workload(self, stated: str | WorkloadSpec | None, where: Location) -> WorkloadSpec | None:
        """Return a workload with the path of its trace made absolute."""
        if stated is None:
            return None
        return self.problems.attempt(where, lambda: read_workload(stated, self.folder))


def _engines(scenario: Scenario) -> list[tuple[EngineSpec, Location]]:
    """Return the engines of *scenario* with their places in the file."""
    if scenario.engines:
        return [(engine, ("engines", index)) for index, engine in enumerate(scenario.engines)]
    return [(EngineSpec(name="engine", gpus=ALL_GPUS), ())]


def _sampling_stated(serving: ServingSpec, model: ModelSpec) -> ServingSpec:
    """Return *serving* with the sampling that it leaves to the model."""
    return serving.model_copy(update={"sampling": serving.sampling or model.generation})


def read_model(name: str, folder: Path) -> ModelSpec:
    """Return the model that *name* means: from the catalog, a file of ours, or a Hugging Face config.json."""
    return validate(ModelSpec, read("model", name, folder))

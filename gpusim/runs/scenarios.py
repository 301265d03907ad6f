"""From the inputs of an experiment to a scenario."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gpusim.errors import SpecError
from gpusim.runs.layout import Experiment
from gpusim.runs.machines import topology_of
from gpusim.runs.models import model_of
from gpusim.runs.workloads import workload_of
from gpusim.spec.base import Dtype
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.engine_profile import NO_PROFILE, EngineProfile
from gpusim.spec.names import read
from gpusim.spec.sampling import SamplingSpec
from gpusim.spec.scenario import DtypeSpec, Scenario
from gpusim.spec.serving import KvOffloadSpec, ServingSpec
from gpusim.units import GiB

_DTYPES: Final[dict[str, Dtype]] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "16-bit": "bf16",
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "float8_e4m3fn": "fp8",
    "auto": "bf16",
}
LIMITS: Final = {
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_model_len": "max_model_len",
    "block_size": "block_size",
    "gpu_memory_utilization": "gpu_memory_utilization",
}
"""Of an experiment's engine, with our names; a limit that is not recorded has our default."""
OFFLOADED: Final = 8 * GiB
"""Host memory for offloaded KV where an experiment does not say how much: that of all those which do."""
ASYNCHRONOUS_FROM: Final = (0, 14)
"""Version of vLLM that schedules asynchronously unless told otherwise (its release notes)."""


def scenario_of(
    experiment: Experiment,
    scratch: Path,
    devices: Mapping[str, DeviceSpec] | None = None,
    *,
    num_blocks: bool = True,
    engine: str | EngineProfile = "vllm",
    left_out: bool = False,
) -> Scenario:
    """Return the scenario of an experiment.

    Args:
        experiment: With its inputs.
        scratch: A folder for the trace that is made of a file of requests.
        devices: Devices by the name experiments have for them, where the catalog's are not meant.
        num_blocks: Take the KV blocks that were recorded, where they were; else what memory holds.
        engine: The engine profile, or its name or path.
        left_out: Take the GPU for unmeasured.

    Raises:
        SpecError: If it cannot be told; the message is the reason.
    """
    system, stated = experiment.system, experiment.engine
    for key in ("pipeline_parallel", "data_parallel"):
        if int(system.get(key) or 1) > 1:
            raise SpecError(f"{key} = {system[key]}: not modelled")
    return Scenario(
        schema_number=1,
        name=experiment.name,
        topology=topology_of(system, devices or {}, left_out=left_out),
        model=model_of(experiment.model),
        dtype=DtypeSpec(weights=_dtype(stated, "weight_dtype"), kv=_dtype(stated, "kv_dtype")),
        serving=_serving(experiment, num_blocks=num_blocks, engine=engine),
        workload=workload_of(experiment, scratch),
    )


def is_inside(experiment: Experiment) -> bool:
    """Say whether requests were put into the engine by the process it runs in, without a server between.

    Runs of LLMServingSim's bench are: it replays token ids through vLLM's `AsyncLLM`, greedily, and takes the engine's own
    time stamps (`bench/core/runner.py` of its repository).
    """
    return str(experiment.workload.get("kind", "")).startswith("sharegpt")


def stated_jitter(experiment: Experiment, engine: str | EngineProfile) -> float:
    """Return the mean jitter in seconds that an engine profile, or its name or path, states for an experiment."""
    profile = _profile(engine, inside=is_inside(experiment))
    return profile.jitter if isinstance(profile, EngineProfile) else 0.0


def _profile(engine: str | EngineProfile, *, inside: bool) -> EngineProfile | str:
    """Return an engine profile, by its name where that is given, without what a server adds where there is none."""
    if engine == NO_PROFILE.name:
        return engine
    profile = validate(EngineProfile, read("engine", engine)) if isinstance(engine, str) else engine
    return profile.model_copy(update={"request": 0.0, "token": 0.0, "jitter": 0.0}) if inside else profile


def _dtype(stated: Mapping[str, Any], key: str) -> Dtype:
    name = str(stated.get(key) or "16-bit")
    if name not in _DTYPES:
        raise SpecError(f"engine.{key}: {name!r} is not known; known are {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _serving(experiment: Experiment, *, num_blocks: bool, engine: str | EngineProfile) -> ServingSpec:
    system, stated, inside = experiment.system, experiment.engine, is_inside(experiment)
    keys: dict[str, Any] = {ours: stated[name] for name, ours in LIMITS.items() if stated.get(name) is not None}
    if num_blocks and stated.get("num_gpu_kv_blocks"):
        keys["num_gpu_blocks_override"] = stated["num_gpu_kv_blocks"]
    return ServingSpec(
        tensor_parallel_size=int(system.get("tensor_parallel") or 1),
        enable_expert_parallel=int(system.get("expert_parallel") or 1) > 1,
        enable_prefix_caching=bool(stated.get("prefix_caching")),
        async_scheduling=_is_asynchronous(stated),
        kv_offload=_offload(experiment),
        engine=_profile(engine, inside=inside),
        sampling=SamplingSpec(temperature=0) if inside else None,
        **keys,
    )


def _offload(experiment: Experiment) -> KvOffloadSpec | None:
    """Return how KV is offloaded: vLLM's `kv_offloading_size` is that of all ranks together."""
    system, stated = experiment.system, experiment.engine
    if not (stated.get("kv_cpu_offload") and stated.get("prefix_caching")):
        return None
    ranks = int(system.get("tensor_parallel") or 1)
    size_gib = stated.get("kv_cpu_offload_gib")
    return KvOffloadSpec(size=(OFFLOADED if size_gib is None else float(size_gib) * GiB) / ranks)


def _is_asynchronous(stated: Mapping[str, Any]) -> bool:
    """Say whether the batch of a step is fixed when the one before it starts: as stated, else as the version does."""
    if stated.get("async_scheduling") is not None:
        return bool(stated["async_scheduling"])
    version = re.match(r"v?(\d+)\.(\d+)", str(stated.get("version", "")))
    return version is None or (int(version[1]), int(version[2])) >= ASYNCHRONOUS_FROM

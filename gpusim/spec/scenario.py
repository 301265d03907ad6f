"""Scenario: the whole file a user writes."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from gpusim.spec.background import BackgroundSpec
from gpusim.spec.base import Dtype, SchemaNumber, Spec
from gpusim.spec.model import ModelSpec
from gpusim.spec.serving import ServingSpec
from gpusim.spec.topology import TopologySpec
from gpusim.spec.what_if import WhatIfSpec
from gpusim.spec.workload import WorkloadSpec
from gpusim.units import Seconds

_ATTENTION = re.compile(r"mha|mqa|gqa:[1-9][0-9]*")


Detail = Literal["kernel", "step"]
Ranks = Literal["all", "folded"]
"""How finely an engine is played."""


class DtypeSpec(Spec):
    """Stored types."""

    weights: Dtype = "bf16"
    """Of the weight matrices."""
    kv: Dtype = "bf16"
    """Of the KV cache."""


class MeasureSpec(Spec):
    """What the summary leaves out."""

    warmup: Seconds = Field(default=0.0, ge=0)
    """Requests that arrived before this time."""
    cooldown: Seconds = Field(default=0.0, ge=0)
    """Requests that arrived within this time before the last arrival."""


class SloSpec(Spec):
    """Targets a request must meet to count as goodput."""

    ttft: Seconds | None = Field(default=None, gt=0)
    """For the time to its first token."""
    itl: Seconds | None = Field(default=None, gt=0)
    """For the mean gap of the request (its TPOT)."""


class PublishedSpec(Spec):
    """A figure from elsewhere, printed beside the simulated one in a sweep."""

    when: dict[str, Any]
    """Sweep keys and values of the points it belongs to."""
    itl: Seconds = Field(gt=0)
    """Mean gap between tokens."""
    source: str
    """Who says so."""


class AttentionOverride(Spec):
    """What `attention`, `attention_keeps_weights` and `attention_kernel` say of a model."""

    attention: str | None = None
    """mha | mqa | gqa:8 replaces the model's own; the projections shrink with it."""
    attention_keeps_weights: bool = False
    """Only the cache shrinks, the projections stay as they are."""
    attention_kernel: Literal["fused", "naive"] = "fused"
    """naive: the scores are written to memory and read back."""

    @field_validator("attention")
    @classmethod
    def _known_attention(cls, value: str | None) -> str | None:
        if value is not None and not _ATTENTION.fullmatch(value):
            raise ValueError(f"write mha, mqa or gqa:N with N KV heads, not {value!r}")
        return value

    @model_validator(mode="after")
    def _keeps_only_what_changes(self) -> AttentionOverride:
        if self.attention_keeps_weights and self.attention is None:
            raise ValueError("attention_keeps_weights needs attention: mha, mqa or gqa:N")
        return self


class EngineSpec(AttentionOverride):
    """One of several engines on a machine. What it leaves out is as the scenario says."""

    name: str
    """Its rows in results."""
    gpus: list[str] = Field(min_length=1)
    """As many as tensor_parallel_size, by the names the topology gives them; no other engine has them."""
    model: str | ModelSpec | None = None
    """Name, path, or the model itself."""
    dtype: DtypeSpec | None = None
    """Stored types."""
    serving: ServingSpec | None = None
    """How it serves; replaces the scenario's as a whole."""
    workload: str | WorkloadSpec | None = None
    """Requests of this engine alone; engines without share the scenario's workload in turn."""


class Scenario(AttentionOverride):
    """A machine, a model and a stream of requests."""

    schema_number: SchemaNumber = Field(alias="schema")
    """Version of the file format: 1."""
    name: str = ""
    """Title of reports."""
    topology: str | TopologySpec
    """Name, path, or the topology itself."""
    model: str | ModelSpec | None = None
    """Name, path (also of a Hugging Face config.json), or the model itself."""
    dtype: DtypeSpec = DtypeSpec()
    efficiency: Literal["calibrated", "ideal"] = "calibrated"
    """ideal: peak numbers, pure roofline and alpha-beta."""
    what_if: WhatIfSpec = WhatIfSpec()
    """Factors on what machine and host achieve."""
    serving: ServingSpec = ServingSpec()
    """How engines serve."""
    engines: list[EngineSpec] = []
    """Several engines on one machine; without it one on its first GPUs, or several alike (data_parallel_size)."""
    background: list[BackgroundSpec] = []
    """Copies and collectives beside the engines' own traffic."""
    workload: str | WorkloadSpec | None = None
    """Name, path, or the requests themselves."""
    measure: MeasureSpec = MeasureSpec()
    """What the summary leaves out."""
    slo: SloSpec = SloSpec()
    """Targets that goodput counts against."""
    detail: Detail = "step"
    """kernel: every kernel of every layer; step: folded, with the same token times, wherever an engine
    shares no link and no memory with other traffic."""
    ranks: Ranks = "folded"
    """At kernel detail. folded: one GPU of an engine is simulated for all of them, with the same token times, wherever an
    engine shares no link and no memory with other traffic; all: every GPU is."""
    seed: int = Field(default=0, ge=0)
    """Of all random draws."""
    sweep: dict[str, list[Any]] | list[dict[str, Any]] | None = None
    """Only for `gpusim sweep`: keys crossed, or a list of points."""
    relative_to: dict[str, Any] = {}
    """Swept key and value of the points that the others of a sweep are compared with."""
    published: list[PublishedSpec] = []
    """Figures from elsewhere, shown beside the points of a sweep."""

    @model_validator(mode="after")
    def _tells_engines_apart(self) -> Scenario:
        names = [engine.name for engine in self.engines]
        if len(set(names)) < len(names):
            raise ValueError(f"engines: names must differ, not {', '.join(names)}")
        return self

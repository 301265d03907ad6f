"""Small models, machines and scenarios with sane defaults, for tests that change one thing of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpusim.model.layout import Layout
from gpusim.model.lower import Lowering
from gpusim.plan import Plan, plan_document
from gpusim.serving.request import Request
from gpusim.simulation import Simulation
from gpusim.spec.document import Document, validate
from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec, ModelSpec
from gpusim.spec.names import read


def build_model(*, layers: int = 2, heads: int = 8, kv_heads: int = 8, **changes: Any) -> ModelSpec:
    """Return a small Llama-like model."""
    attention = AttentionSpec(num_heads=heads, num_kv_heads=kv_heads, head_dim=64)
    group = LayersSpec(count=layers, attention=attention, mlp=MlpSpec(intermediate_size=1024))
    group = changes.pop("group", group)
    values = {"name": "small", "hidden_size": 64 * heads, "vocab_size": 1000, "max_model_len": 4096, "layers": [group]}
    return ModelSpec(**{**values, **changes})


def catalog_model(name: str) -> ModelSpec:
    """Return a model of the catalog."""
    return validate(ModelSpec, read("model", name))


def build_lowering(model: ModelSpec | None = None, *, tp: int = 1, **changes: Any) -> Lowering:
    """Return the lowering of *model* on *tp* ranks."""
    return Lowering(model or build_model(), changes.pop("layout", Layout(tp)), **changes)


def scenario_data(**changes: Any) -> dict[str, Any]:
    """Return a scenario of the tiny model as file data; keyword ``serving__max_num_seqs`` sets a nested key."""
    data: dict[str, Any] = {
        "schema": 1,
        "topology": "single-gpu",
        "model": "tiny",
        "detail": "kernel",
        "serving": {"max_num_seqs": 8, "max_num_batched_tokens": 64},
        "workload": {
            "arrivals": {"kind": "constant", "rate": "2000 /s"},
            "prompt_tokens": {"kind": "fixed", "value": 40},
            "output_tokens": {"kind": "fixed", "value": 6},
            "num_requests": 10,
        },
    }
    document = Document("test", data)
    for path, value in changes.items():
        document.override(path.replace("__", "."), value)
    return document.data


def build_plan(**changes: Any) -> Plan:
    """Return the plan of `scenario_data`."""
    return plan_document(Document("test.yaml", scenario_data(**changes), folder=Path()))


def build_simulation(*, probes: Any = (), **changes: Any) -> Simulation:
    """Return a simulation of `scenario_data`, not yet run."""
    return Simulation(build_plan(**changes), probes=probes)


def build_request(index: int = 0, *, prompt: int = 8, output: int = 4, **progress: Any) -> Request:
    """Return a request; keywords such as ``computed`` and ``generated`` say how far it has come."""
    request = Request(index, 0, prompt, output)
    for name, value in progress.items():
        setattr(request, name, value)
    return request


def token_ticks(simulation: Simulation) -> dict[tuple[str, int], list[int]]:
    """Return the tick of every token of every request of a run, by engine and number of the request."""
    log = simulation.requests
    found: dict[tuple[str, int], list[int]] = {(log.engines[row["engine"]], int(row["index"])): [] for row in log.rows}
    for segment in log.segments:
        engine = log.engines[segment["engine"]]
        ends = simulation.logs[engine].ends[segment["first_step"] : segment["last_step"] + 1]
        found[engine, int(log.rows["index"][segment["request"]])] += ends.tolist()
    return found

"""What `benchmarks/speed.py` runs: a conversation service on one DGX H100, as its trace has it and as its twin is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TRACE: Final = Path(__file__).parents[2] / "shared" / "data" / "traces" / "azure_llm_2023_conv.csv"
"""The Azure conversation trace, which is not in the repository; where it is absent only the twin is run."""
TRACE_REQUESTS: Final = (1_000, 5_000, 19_366)
LONG_REQUESTS: Final = (200_000, 1_000_000)
FOREIGN_REQUESTS: Final = 5_000

BACKGROUNDS: Final[dict[str, dict[str, Any]]] = {
    "a copy at 20 GB/s": {"rate": "20 GB/s"},
    "256 MiB each 50 ms": {"size": "256 MiB", "period": "50 ms"},
}
"""Foreign traffic from a GPU to its host."""


SERVED: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "prefix caching": {"enable_prefix_caching": True},
    "steps in flight": {"async_scheduling": True},
}
"""Ways to serve the whole trace, or as many requests of its twin."""


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario to time."""

    name: str
    scenario: dict[str, Any]
    """File data."""

    @property
    def num_requests(self) -> int:
        """Requests it runs."""
        number: int = self.scenario["workload"]["num_requests"]
        return number


def twin(num_requests: int, name: str = "twin", **settings: Any) -> Case:
    """Return a run of `workloads/conversation.yaml`, at constant load however long."""
    return _case(name, {"extends": "conversation", "num_requests": num_requests}, settings)


def trace(path: Path, num_requests: int, name: str = "trace", **settings: Any) -> Case:
    """Return a run of the first requests of the trace in the file *path*."""
    return _case(name, {"trace": str(path.resolve()), "num_requests": num_requests}, settings)


def conversation(path: Path | None, num_requests: int, name: str, **settings: Any) -> Case:
    """Return a run of the trace in the file *path*, of the twin where that is None."""
    if path is None:
        return twin(num_requests, name, **settings)
    return trace(path, num_requests, name, **settings)


def foreign(path: Path | None, num_requests: int) -> list[Case]:
    """Return the conversation alone, and beside each kind of foreign traffic."""
    ends = {"kind": "copy", "from": "gpu0", "to": "cpu0"}
    beside = {f"beside {name}": [ends | how] for name, how in BACKGROUNDS.items()}
    return [
        conversation(path, num_requests, name, background=background)
        for name, background in ({"alone": []} | beside).items()
    ]


def served(path: Path | None, num_requests: int) -> list[Case]:
    """Return the conversation served in different ways, and its twin as sessions whose turns share their history."""
    cases = [_with_serving(conversation(path, num_requests, name), settings) for name, settings in SERVED.items()]
    sessions = {"turns": {"kind": "uniform", "low": 1, "high": 8}, "think_time": {"kind": "fixed", "value": "20 s"}}
    workload = {
        "arrivals": {"kind": "poisson", "rate": "1.2 /s"},
        "sessions": sessions | {"max_tokens": 16_000},
        "prompt_tokens": {"kind": "lognormal", "median": 300, "p99": 3000, "max": 12_000},
        "output_tokens": {"kind": "lognormal", "median": 160, "p99": 900},
        "num_requests": num_requests,
    }
    case = _case("sessions, prefix caching", workload, {})
    return [*cases, _with_serving(case, {"enable_prefix_caching": True})]


def _with_serving(case: Case, settings: dict[str, Any]) -> Case:
    scenario = case.scenario
    return Case(case.name, scenario | {"serving": scenario["serving"] | settings})


def _case(name: str, workload: dict[str, Any], settings: dict[str, Any]) -> Case:
    scenario = {
        "schema": 1,
        "name": name,
        "topology": "dgx-h100",
        "model": "llama-2-70b",
        "serving": {"tensor_parallel_size": 8, "scheduler": "continuous", "max_model_len": 16384},
        "workload": workload,
        **settings,
    }
    return Case(name, scenario)

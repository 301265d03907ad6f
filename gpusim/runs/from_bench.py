"""From results of ``vllm bench serve`` to a folder of measured runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from gpusim.errors import SpecError
from gpusim.files import write_text, write_whole
from gpusim.runs.bench import gaps_of, read_results, requests_of, stage_of, stated_metrics
from gpusim.runs.layout import EXPERIMENTS, NEWEST_SCHEMA
from gpusim.runs.metrics import run_metrics
from gpusim.runs.models import stated_model
from gpusim.runs.scenarios import LIMITS
from gpusim.spec.document import validate
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import names, read
from gpusim.spelling import unknown_name

_REQUESTS: Final = "requests"
_WORDS: Final = ("version", "weight_dtype", "kv_dtype")
ENGINE_KEYS: Final = (
    *_WORDS,
    *LIMITS,
    "num_gpu_kv_blocks",
    "prefix_caching",
    "async_scheduling",
)
"""Of an experiment, as `scenarios` reads them."""


@dataclass(frozen=True, slots=True)
class Server:
    """What results do not say of the server they are from."""

    gpu: str
    tensor_parallel: int = 1
    model: str | None = None
    """A name of the catalog or a file; None: the model of the catalog that is called as the result's ``model_id``."""
    engine: Mapping[str, Any] | None = None
    """Keys of an experiment's ``engine``: version, limits."""


def engine_keys(assignments: Sequence[str]) -> dict[str, Any]:
    """Return the ``KEY=VALUE`` pairs as keys of an experiment's ``engine``.

    Raises:
        SpecError: If a pair is written otherwise, or the key is none.
    """
    found = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not value:
            raise SpecError(f"{text!r}: write KEY=VALUE, e.g. max_num_seqs=128")
        if key not in ENGINE_KEYS:
            raise SpecError(f"{key!r}: {unknown_name(key, list(ENGINE_KEYS), 'engine key')}")
        found[key] = _value(key, value)
    return found


def _value(key: str, text: str) -> Any:
    if key in _WORDS:
        return text
    try:
        return json.loads(text.lower())
    except ValueError:
        raise SpecError(f"engine key {key}: {text!r} is neither a number nor true or false") from None


def convert(files: Sequence[Path], folder: Path, server: Server) -> list[str]:
    """Write an experiment for each result of *files* to *folder*, and its requests where it has them; return their names.

    Raises:
        SpecError: If a file holds no results, says too little, or *folder* cannot be written.
    """
    results = {}
    for file in files:
        found = read_results(file)
        for number, result in enumerate(found, 1):
            name = file.stem if len(found) == 1 else f"{file.stem}-{number}"
            if name in results:
                raise SpecError(f"{file}: a second result called {name}; rename the file")
            results[name] = (file, result)
    made = {name: _checked(file, name, result, server) for name, (file, result) in results.items()}
    for name, (experiment, requests) in made.items():
        _write(folder, name, experiment, requests)
    return list(made)


def _checked(
    file: Path, name: str, result: Mapping[str, Any], server: Server
) -> tuple[dict[str, Any], pl.DataFrame | None]:
    try:
        return _experiment(name, result, server)
    except SpecError as error:
        raise SpecError(f"{file}: {error}") from None


def _experiment(name: str, result: Mapping[str, Any], server: Server) -> tuple[dict[str, Any], pl.DataFrame | None]:
    requests = requests_of(result)
    if requests is not None and not len(requests):
        raise SpecError("no request has finished")
    experiment = {
        "schema_version": NEWEST_SCHEMA,
        "experiment_id": name,
        "scored": True,
        "source": {"tool": "vllm bench serve", "date": result.get("date")},
        "system": {"gpu": server.gpu, "num_gpus": server.tensor_parallel, "tensor_parallel": server.tensor_parallel},
        "engine": {"name": "vLLM", **(server.engine or {})},
        "model": stated_model(_model(server.model, str(result.get("model_id") or ""))),
        "workload": _workload(name, result, detailed=requests is not None),
        "measured": _measured(result, requests),
    }
    return experiment, requests


def _model(name: str | None, model_id: str) -> ModelSpec:
    if name is not None:
        return validate(ModelSpec, read("model", name))
    wanted = model_id.rsplit("/", 1)[-1].lower()
    fitting = [known for known in names("model") if wanted == known or wanted.startswith(f"{known}-")]
    if not fitting:
        raise SpecError(f"no model {model_id!r} in the catalog; name one, or its config.json, with --model")
    return validate(ModelSpec, read("model", max(fitting, key=len)))


def _workload(name: str, result: Mapping[str, Any], *, detailed: bool) -> dict[str, Any]:
    keys = ("request_rate", "burstiness", "max_concurrency", "num_prompts")
    workload = {"kind": "bench", **{key: result.get(key) for key in keys}}
    if detailed:
        return workload | {"requests_file": f"{_REQUESTS}/{name}.csv"}
    completed = result["completed"]
    if not completed:
        raise SpecError("no request has finished")
    return workload | {
        "stages": [stage_of(result)],
        "prompt_tokens_mean": result["total_input_tokens"] / completed,
        "output_tokens_requested": max(1, round(result["total_output_tokens"] / completed)),
    }


def _measured(result: Mapping[str, Any], requests: pl.DataFrame | None) -> dict[str, Any]:
    counts = {"num_ok": result["completed"], "num_failed": result.get("failed")}
    if requests is None:
        return counts | stated_metrics(result)
    gaps = gaps_of(result)
    return counts | run_metrics(requests) | ({"token_gap_s": gaps} if gaps else {})


def _write(folder: Path, name: str, experiment: Mapping[str, Any], requests: pl.DataFrame | None) -> None:
    for part in (EXPERIMENTS, _REQUESTS):
        try:
            (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(f"{folder / part}: cannot be made: {error.strerror or error}") from None
    if requests is not None:
        write_whole(folder / _REQUESTS / f"{name}.csv", requests.write_csv)
    write_text(folder / EXPERIMENTS / f"{name}.json", json.dumps(experiment, indent=1) + "\n")

"""The requests of an experiment: its file of them where there is one, else its load stages and lengths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from gpusim.errors import SpecError
from gpusim.runs.layout import Experiment
from gpusim.spec.workload import WorkloadSpec

_BLOCK: Final = 16
"""Tokens to which ``prefix_reusable_tokens`` is rounded down."""
_PROMPT_MEANS: Final = ("prompt_tokens_mean", "prompt_tokens_mean_llama2_tokenizer")


def workload_of(experiment: Experiment, scratch: Path) -> WorkloadSpec:
    """Return the workload of an experiment.

    Args:
        experiment: With its inputs.
        scratch: A folder for the trace that is made of a file of requests.

    Raises:
        SpecError: If there is neither a file of requests nor a load profile, or one cannot be read.
    """
    stated = experiment.workload
    file = stated.get("requests_file")
    if file:
        trace = scratch / f"{experiment.name}.csv"
        _trace_of(experiment.folder / str(file)).write_csv(trace)
        return WorkloadSpec(trace=str(trace))
    if not stated.get("stages"):
        raise SpecError("workload: neither requests_file nor stages")
    return _profile(stated)


def read_requests(path: Path) -> pl.DataFrame:
    """Read a file of requests.

    Raises:
        SpecError: If it is no table.
    """
    try:
        return pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SpecError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from None


def _trace_of(path: Path) -> pl.DataFrame:
    """Return requests as a trace of ours: arrival, lengths and the text that each begins with."""
    rows = read_requests(path)
    output = next((name for name in ("output_tokens_requested", "output_tokens") if name in rows.columns), None)
    missing = [name for name in ("arrival_s", "prompt_tokens") if name not in rows.columns]
    if output is None or missing:
        raise SpecError(f"{path}: no column {', '.join([*missing, *(() if output else ('output_tokens',))])}")
    columns: list[pl.Expr | pl.Series] = [
        pl.col("arrival_s"),
        pl.col("prompt_tokens").cast(pl.Int64),
        pl.col(output).alias("output_tokens"),
    ]
    if "prompt_id" in rows.columns:
        columns.append(pl.col("prompt_id").cast(pl.String))
    elif "prefix_reusable_tokens" in rows.columns:
        texts = _texts(rows["prompt_tokens"].to_list(), rows["prefix_reusable_tokens"].to_list())
        columns.append(pl.Series("prompt_id", texts))
    return rows.sort("arrival_s", maintain_order=True).select(columns)


def _texts(prompts: list[int], reusable: list[int]) -> list[str]:
    """Name the text that each prompt is the beginning of, so that it shares with an earlier one what it can reuse.

    Turns of a conversation repeat all of the turn before. What a prompt can reuse is the whole blocks of an earlier one; of
    several of that length it is taken to follow the first that nothing follows yet.
    """
    texts: list[str] = []
    last_of: dict[int, list[int]] = {}
    for number, (prompt, shared) in enumerate(zip(prompts, reusable, strict=True)):
        before = last_of.get(shared, [])
        texts.append(texts[before.pop(0)] if shared and before else str(number))
        last_of.setdefault(prompt // _BLOCK * _BLOCK, []).append(number)
    return texts


def _profile(stated: Mapping[str, Any]) -> WorkloadSpec:
    """Return Poisson arrivals in stages, whose prompts are cycled and begin with the prompt of a system."""
    output, system = stated.get("output_tokens_requested"), int(stated.get("system_prompt_tokens_nominal") or 0)
    own = _own_tokens(stated, system)
    if output is None or own is None:
        raise SpecError("workload: the lengths of prompts and outputs are not stated")
    document: dict[str, Any] = {
        "arrivals": {"kind": "stages", "stages": [_stage(stage) for stage in stated["stages"]]},
        "prompt_tokens": {"kind": "fixed", "value": own},
        "output_tokens": {"kind": "fixed", "value": int(output)},
    }
    if stated.get("unique_prompts"):
        document["prompts"] = {"distinct": int(stated["unique_prompts"])}
    if system and stated.get("prompt_groups"):
        tokens = {"kind": "fixed", "value": system}
        document["prefixes"] = {"groups": int(stated["prompt_groups"]), "tokens": tokens, "order": "cycled"}
    elif system:
        document["prompt_tokens"]["value"] = own + system
    return WorkloadSpec.model_validate(document)


def _own_tokens(stated: Mapping[str, Any], system: int) -> int | None:
    """Return the mean length of a prompt behind what it shares with others; None if that is not stated."""
    mean = next((float(stated[name]) for name in _PROMPT_MEANS if stated.get(name)), None)
    question = stated.get("question_tokens_nominal")
    if mean is None and question is None:
        return None
    return max(1, round(mean - system if mean is not None else float(question or 0)))


def _stage(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {"rate": float(stated["rate_rps"]), "duration": float(stated["duration_s"]), "kind": "poisson"}

"""Result files of ``vllm bench serve``, as its ``--save-result`` writes them (`vllm/benchmarks/serve.py`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from gpusim.errors import SpecError

_LISTS: Final = ("input_lens", "output_lens", "ttfts", "itls")
"""Of one element for each request; only ``--save-detailed`` writes them."""
_EVERY: Final = "inf"
"""The request rate of a run whose requests were all sent at once."""
_GAP_PERCENTILES: Final = (50, 80, 90, 98)
_LEAST_SINGLE: Final = 0.9
"""Share of requests that must have had an event for each token, so that gaps between events are gaps between tokens."""


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read the results in a file: one, or as many as ``--append-result`` has put there.

    Raises:
        SpecError: If it cannot be read, or holds something else.
    """
    try:
        results = list(_documents(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise SpecError(f"{path}: cannot be read as JSON: {error}") from None
    if not results or not all(isinstance(result, dict) and "completed" in result for result in results):
        raise SpecError(
            f"{path}: no result of vllm bench serve: it has no 'completed'; write one with vllm bench serve --save-result"
        )
    return results


def _documents(text: str) -> Iterator[Any]:
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield document
        rest = rest[end:].lstrip()


def requests_of(result: Mapping[str, Any]) -> pl.DataFrame | None:
    """Return requests that did not fail, in the columns of a file of requests; None if the result has no such detail.

    A request arrives when it was sent, the first at 0. That is later than it was due where ``--max-concurrency`` held it
    back; its times count from there, too.
    """
    starts = _starts(result)
    if starts is None or not all(isinstance(result.get(name), list) for name in _LISTS):
        return None
    lists = [result[name] for name in _LISTS]
    if len({len(starts), *map(len, lists)}) > 1:
        raise SpecError(f"start_times, {', '.join(_LISTS)} are not of one length")
    ends = result.get("latencies") or [ttft + sum(gaps) for ttft, gaps in zip(lists[2], lists[3], strict=True)]
    table = pl.DataFrame(
        {"arrival_s": starts, "prompt_tokens": lists[0], "output_tokens": lists[1], "ttft_s": lists[2], "e2e_s": ends},
        schema_overrides={"arrival_s": pl.Float64, "ttft_s": pl.Float64, "e2e_s": pl.Float64},
    )
    later = pl.when(pl.col("output_tokens") > 1).then(pl.col("output_tokens") - 1)
    return (
        table.filter(pl.Series(_succeeded(result)))
        .with_columns(pl.col("arrival_s") - pl.col("arrival_s").min())
        .with_columns(tpot_s=(pl.col("e2e_s") - pl.col("ttft_s")) / later)
        .sort("arrival_s", maintain_order=True)
        .with_row_index()
    )


def _starts(result: Mapping[str, Any]) -> list[float] | None:
    """Return when each request was sent, on some clock; older versions say so only where all were sent at once."""
    if isinstance(result.get("start_times"), list):
        return list(result["start_times"])
    at_once = result.get("request_rate") == _EVERY and not result.get("max_concurrency")
    return [0.0] * len(result.get("input_lens") or ()) if at_once else None


def _succeeded(result: Mapping[str, Any]) -> list[bool]:
    errors = result.get("errors") or [""] * len(result["output_lens"])
    return [not error and tokens > 0 for error, tokens in zip(errors, result["output_lens"], strict=True)]


def stage_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the load stage that a result without detail states.

    Raises:
        SpecError: If its arrivals are no Poisson process of a known rate.
    """
    rate = result.get("request_rate")
    known = isinstance(rate, int | float) and not result.get("max_concurrency") and not result.get("ramp_up_strategy")
    if not known or result.get("burstiness", 1.0) != 1.0:
        raise SpecError("when requests were sent is not stated; run vllm bench serve with --save-detailed")
    return {"rate_rps": float(rate), "duration_s": int(result["num_prompts"]) / float(rate)}  # type: ignore[arg-type]


def stated_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that a result without detail states, in seconds and with our names."""
    figures = {
        f"{ours}_{figure}_s": f"{figure}_{theirs}_ms"
        for ours, theirs in (("ttft", "ttft"), ("e2e", "e2el"))
        for figure in ("mean", "p90", "p99")
    }
    figures["itl_mean_s"] = "mean_tpot_ms"
    return {ours: result[name] / 1000 for ours, name in figures.items() if result.get(name)}


def gaps_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return percentiles of the gaps between tokens; none where one event brought several tokens too often."""
    singles: list[Sequence[float]] = []
    several = 0
    for gaps, tokens, ok in zip(result["itls"], result["output_lens"], _succeeded(result), strict=True):
        if ok and tokens > 1:
            several += 1
            singles += [gaps] if len(gaps) == tokens - 1 else []
    if not several or len(singles) < _LEAST_SINGLE * several:
        return {}
    values = np.quantile(np.concatenate(singles), [percent / 100 for percent in _GAP_PERCENTILES])
    return {f"p{percent}.0": float(value) for percent, value in zip(_GAP_PERCENTILES, values, strict=True)}

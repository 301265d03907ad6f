"""Traces that are one JSON document: ShareGPT's conversations, and what ``vllm bench serve`` saves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gpusim.workload.conversations import conversation_rows
from gpusim.workload.files import LineError, named_errors, opened
from gpusim.workload.rows import InOrder, TraceRow, number, whole

_LENGTHS: Final = ("input_lens", "output_lens")
_STARTS: Final = "start_times"


def read_document(path: Path) -> Any:
    """Return the JSON document in *path*.

    Raises:
        SpecError: If it cannot be read or is not JSON.
    """
    with named_errors(path, lambda: 0), opened(path) as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            raise LineError(f"line {error.lineno}: not JSON: {error.msg}") from None
        except RecursionError:
            raise LineError("not JSON: nested too deeply") from None


def kind_of(path: Path, document: Any) -> tuple[str, bool]:
    """Return the format of *document*, and whether it states arrivals.

    Raises:
        SpecError: If it is none that is known.
    """
    if isinstance(document, dict) and all(isinstance(document.get(name), list) for name in _LENGTHS):
        return "vLLM result", isinstance(document.get(_STARTS), list)
    if isinstance(document, list) and document and isinstance(document[0], dict) and "conversations" in document[0]:
        return "ShareGPT", "arrival_s" in document[0]
    with named_errors(path, lambda: 0):
        raise LineError(
            "neither a list of conversations (ShareGPT) nor a result of vllm bench serve with "
            "input_lens and output_lens (--save-detailed); write one request a line to a .jsonl or .csv file"
        )


def how_sent(document: Any) -> str:
    """Say how the requests of a benchmark were sent, if its result does."""
    rate = document.get("request_rate") if isinstance(document, dict) else None
    if isinstance(rate, int | float) and not isinstance(rate, bool):
        return f"; it was sent with request_rate {rate:g}, burstiness {document.get('burstiness', 1)}"
    return "; it was sent all at once" if rate == "inf" else ""


def read_json(path: Path) -> Iterator[TraceRow]:
    """Yield the requests of the JSON document in *path*.

    Raises:
        SpecError: At the first that is malformed, when it is reached; names file, place, value and the way out.
    """
    document = read_document(path)
    name, has_arrivals = kind_of(path, document)
    with named_errors(path, lambda: 0):
        read = _conversations if name == "ShareGPT" else _result
        count = 0
        for row in read(document, has_arrivals):
            yield row
            count += 1
        if not count:
            raise LineError("no request in it")


def _conversations(document: list[Any], has_arrivals: bool) -> Iterator[TraceRow]:
    in_order = InOrder("arrival_s")
    for position, entry in enumerate(document):
        try:
            arrival_s = _arrival(entry, in_order) if has_arrivals else None
            yield from conversation_rows(entry, arrival_s, position)
        except LineError as error:
            raise LineError(f"conversation {position}: {error}") from None


def _arrival(entry: Any, in_order: InOrder) -> float:
    written = entry.get("arrival_s") if isinstance(entry, dict) else None
    return in_order.check(number(written, "arrival_s", "seconds from the start"), written)


def _result(document: dict[str, Any], has_arrivals: bool) -> Iterator[TraceRow]:
    """Yield the requests of a benchmark in order of their start; those without output failed and are left out."""
    prompts, outputs = (document[name] for name in _LENGTHS)
    starts = document[_STARTS] if has_arrivals else [0] * len(prompts)
    if not len(prompts) == len(outputs) == len(starts):
        sizes = ", ".join(
            f"{len(values)} {name}"
            for name, values in zip((*_LENGTHS, _STARTS), (prompts, outputs, starts), strict=True)
        )
        raise LineError(f"lists of different lengths: {sizes}")
    starts = [number(start, f"start_times[{index}]", "seconds") for index, start in enumerate(starts)]
    first = min(starts, default=0.0)
    for index in sorted(range(len(starts)), key=starts.__getitem__):
        if outputs[index] == 0:
            continue
        prompt, output = whole(prompts[index], f"input_lens[{index}]"), whole(outputs[index], f"output_lens[{index}]")
        yield TraceRow(starts[index] - first if has_arrivals else None, prompt, output)

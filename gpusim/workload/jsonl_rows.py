"""Traces with one JSON object a line: Mooncake's, LLMServingSim's, and the request files of vLLM's benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from gpusim.workload.content import Content, Kind, hashed_blocks, hashed_tokens, key
from gpusim.workload.conversations import conversation_rows
from gpusim.workload.files import LineError, named_errors, opened
from gpusim.workload.rows import InOrder, TraceRow, number, whole

Entry: TypeAlias = Mapping[str, Any]

_NS: Final = 1e-9
_MS: Final = 1e-3
_SHOWN: Final = 60
"""Characters of a line that are quoted."""


@dataclass(frozen=True, slots=True)
class JsonlFormat:
    """One kind of line.

    Args:
        name: What people call it.
        markers: Keys of which one is in its first line.
        arrival: The key of arrivals; those that have it are all after one another.
        unit_s: Of arrivals, seconds.
        rows: Turns a line into requests, given its arrival and number.
        may_follow: Whether requests may wait for others to be over.
    """

    name: str
    markers: frozenset[str]
    arrival: str
    unit_s: float
    rows: Callable[[Entry, float | None, int], Iterator[TraceRow]]
    may_follow: bool = False


def _mooncake(entry: Entry, arrival_s: float | None, _: int) -> Iterator[TraceRow]:
    prompt = whole(entry.get("input_length"), "input_length")
    ids = entry.get("hash_ids", [])
    if not (isinstance(ids, list) and all(isinstance(name, int) and name >= 0 for name in ids)):
        raise LineError(f"hash_ids is {str(ids)[:_SHOWN]!r}; write a list of whole numbers, one for 512 tokens")
    content = hashed_blocks(ids, prompt)
    if content and content[-1][1] <= 0:
        raise LineError(f"{len(ids)} hash_ids of 512 tokens are more than the input_length of {prompt} tokens")
    yield TraceRow(arrival_s, prompt, whole(entry.get("output_length"), "output_length"), content)


def _serving_sim(entry: Entry, arrival_s: float | None, _: int) -> Iterator[TraceRow]:
    """Yield a request, or the calls of an agent, each of which waits for the one before and for a tool."""
    calls = entry.get("sub_requests", [entry])
    if not (isinstance(calls, list) and calls and all(isinstance(call, dict) for call in calls)):
        raise LineError("sub_requests is no list of requests")
    think_s = 0.0
    for number_of, call in enumerate(calls):
        prompt, output = whole(call.get("input_toks"), "input_toks"), whole(call.get("output_toks"), "output_toks")
        content = _known_tokens(call)
        if not content and "session_id" in entry:
            content = ((key(Kind.SESSION, str(entry["session_id"])), prompt + output),)
        follows = number_of > 0
        yield TraceRow(None if follows else arrival_s, prompt, output, content, 0, follows, think_s)
        think_s = _NS * number(call.get("tool_duration_ns", 0), "tool_duration_ns", "nanoseconds")


def _known_tokens(call: Entry) -> Content:
    ids = call.get("input_tok_ids") or []
    if not isinstance(ids, list) or len(ids) not in {0, call["input_toks"]}:
        raise LineError(f"input_tok_ids has {len(ids)} tokens where input_toks is {call['input_toks']}")
    answer = call.get("output_tok_ids") or []
    return hashed_tokens([*ids, *answer[: call["output_toks"]]]) if ids and isinstance(answer, list) else ()


def _vllm_requests(entry: Entry, arrival_s: float | None, _: int) -> Iterator[TraceRow]:
    name = next((name for name in ("prompt_tokens", "prompt_len") if name in entry), None)
    if name is None:
        raise LineError(
            "a prompt without its length, and gpusim has no tokenizer; count with the model's own and add "
            '"prompt_tokens" to each line, e.g. len(AutoTokenizer.from_pretrained(MODEL)(prompt).input_ids)'
        )
    prompt, output = whole(entry[name], name), whole(entry.get("output_tokens"), "output_tokens")
    text = entry.get("prompt")
    content: Content = ((key(Kind.PROMPT, f"text {text}"), prompt),) if isinstance(text, str) and text else ()
    yield TraceRow(arrival_s, prompt, output, content)


FORMATS: Final = (
    JsonlFormat("Mooncake", frozenset({"input_length", "hash_ids"}), "timestamp", _MS, _mooncake),
    JsonlFormat(
        "LLMServingSim",
        frozenset({"input_toks", "sub_requests"}),
        "arrival_time_ns",
        _NS,
        _serving_sim,
        may_follow=True,
    ),
    JsonlFormat("ShareGPT", frozenset({"conversations"}), "arrival_s", 1.0, conversation_rows, may_follow=True),
    JsonlFormat(
        "vLLM requests", frozenset({"prompt", "prompt_tokens", "prompt_len"}), "arrival_s", 1.0, _vllm_requests
    ),
)


def jsonl_format(path: Path) -> tuple[JsonlFormat, bool]:
    """Return the format of the first line of *path*, and whether it states an arrival.

    Raises:
        SpecError: If there is none, or none that is known.
    """
    lines = [0]
    with named_errors(path, lambda: lines[0]):
        for entry in _entries(path, lines):
            found = next((each for each in FORMATS if each.markers & entry.keys()), None)
            if found is None:
                known = "; ".join(f"{each.name}: {' or '.join(sorted(each.markers))}" for each in FORMATS)
                raise LineError(f"keys {', '.join(entry)[:_SHOWN]} are of no format that is known ({known})")
            return found, found.arrival in entry
        raise LineError("no request in it; write one JSON object a line")


def read_jsonl(path: Path, form: JsonlFormat, *, has_arrivals: bool) -> Iterator[TraceRow]:
    """Yield the requests of *path*, in its order, which must be the order of arrival. Skips blank lines.

    Raises:
        SpecError: At the first malformed line, when it is reached; names file, line, value and the way out.
    """
    lines, in_order = [0], InOrder(form.arrival)
    with named_errors(path, lambda: lines[0]):
        for entry in _entries(path, lines):
            arrival_s = None
            if has_arrivals:
                written = entry.get(form.arrival)
                units = {_MS: "milliseconds", _NS: "nanoseconds"}.get(form.unit_s, "seconds")
                arrival_s = in_order.check(
                    form.unit_s * number(written, form.arrival, f"{units} from the start"), written
                )
            elif form.arrival in entry:
                raise LineError(f"{form.arrival} stands here and not in the first line; write it in all or in none")
            yield from form.rows(entry, arrival_s, lines[0])


def _entries(path: Path, lines: list[int]) -> Iterator[Entry]:
    """Yield the objects of a file; *lines* is kept at the number of the line being read."""
    with opened(path) as file:
        for lines[0], text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                entry = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise LineError(f"not JSON: {error}: {text.strip()[:_SHOWN]!r}") from None
            if not isinstance(entry, dict):
                raise LineError(f"{text.strip()[:_SHOWN]!r} is no JSON object")
            yield entry

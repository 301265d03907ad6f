"""Conversations in the layout of ShareGPT, with the number of tokens of every turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gpusim.workload.content import Kind, key
from gpusim.workload.files import LineError
from gpusim.workload.rows import TraceRow, whole

_ANSWERS: Final = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard", "model"})
_LENGTHS: Final = ("num_tokens", "prompt_tokens", "output_tokens", "tokens")
"""Keys any of which states the length of a turn."""


def conversation_rows(entry: Any, arrival_s: float | None, number: int) -> Iterator[TraceRow]:
    """Yield the requests of conversation *number*: an answer each, whose prompt is all that was said before.

    What is said before anybody asks counts as history, and a question that nobody answers is left out.
    """
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise LineError("conversations is no list of turns")
    history, is_asked, is_first = 0, False, True
    for position, turn in enumerate(turns):
        size = _length(turn, position)
        if turn.get("from", turn.get("role")) not in _ANSWERS:
            history, is_asked = history + size, True
        elif not is_asked or not history:
            history += size
        else:
            output = whole(size, f"the length of turn {position}, an answer,")
            prompt = whole(history, f"the prompt of turn {position}")
            content = ((key(Kind.SESSION, number), prompt + output),)
            yield TraceRow(arrival_s if is_first else None, prompt, output, content, 0, not is_first)
            history, is_asked, is_first = history + size, False, False


def _length(turn: Mapping[str, Any], position: int) -> int:
    name = next((name for name in _LENGTHS if name in turn), None)
    if name is None:
        raise LineError(
            f"turn {position} is a text without its length, and gpusim has no tokenizer; count with the model's own and "
            'add "num_tokens" to each turn, e.g. len(AutoTokenizer.from_pretrained(MODEL)(turn["value"]).input_ids)'
        )
    return whole(turn[name], f"{name} of turn {position}", least=0)

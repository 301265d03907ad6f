"""Policies: who of those who wait goes first, and who of those who run gives way first.

Under *priority* and *sjf* both follow one key, smallest first: a request that arrives is put in its place among those
who wait, and where blocks run out the running request with the largest key is preempted. Without a key requests wait in
the order of their arrival, and who was admitted last gives way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from gpusim.serving.request import Request

Key: TypeAlias = Callable[[Request], tuple[int, int, int]]


def by_priority(request: Request) -> tuple[int, int, int]:
    """Lower priorities first, then those who came first: vLLM's *priority*."""
    return request.priority, request.arrival, request.index


def by_work(request: Request) -> tuple[int, int, int]:
    """Shortest first by prompt and output together, as an oracle knows them, then those who came first."""
    return request.prompt_tokens + request.output_tokens, request.arrival, request.index


KEYS: Final[dict[str, Key | None]] = {"fcfs": None, "priority": by_priority, "sjf": by_work}

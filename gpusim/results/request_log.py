"""The request log: what was asked, what became of it, and in which steps its tokens came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.results.columns import Column, Records

Status: TypeAlias = Literal["waiting", "running", "finished", "rejected"]

STATUSES: Final[tuple[Status, ...]] = ("waiting", "running", "finished", "rejected")
"""`waiting` and `running` are left when a run is stopped early."""
_STATUS_CODE: Final = {status: code for code, status in enumerate(STATUSES)}

NONE: Final = -1
"""A tick that never came."""

REQUEST: Final = np.dtype(
    [
        ("index", "i8"),
        ("engine", "i2"),
        ("status", "i1"),
        ("reason", "i2"),
        ("arrival_ps", "i8"),
        ("scheduled_ps", "i8"),
        ("preempted_ps", "i8"),
        ("prompt_tokens", "i4"),
        ("output_tokens", "i4"),
        ("num_preemptions", "i4"),
        ("cached_tokens", "i4"),
    ]
)
"""One request; `engine`, `status` and `reason` are positions in `engines`, `STATUSES` and `reasons` (-1: none)."""

SEGMENT: Final = np.dtype([("request", "i8"), ("engine", "i2"), ("first_step", "i8"), ("last_step", "i8")])
"""Steps of an engine, last included, in each of which the request in row `request` got exactly one token."""


class RequestLog:
    """All requests of a run, of all engines, in the order they were appended.

    A request costs 53 bytes and each of its segments 26; its tokens cost nothing.

    Args:
        engines: Names of the engines.
        api: Ticks that requests and tokens of each are under way between client and engine, both ways together; default: none.
    """

    def __init__(self, engines: Sequence[str], api: Sequence[int] | None = None) -> None:
        self.engines = tuple(engines)
        self._api = np.array(api or [0] * len(self.engines), dtype=np.int64)
        self.reasons: list[str] = []
        self._code_of = {name: code for code, name in enumerate(self.engines)}
        self._requests = Column(REQUEST)
        self._segments = Column(SEGMENT)

    def append(
        self,
        engine: str,
        index: int,
        *,
        arrival: int,
        scheduled: int | None,
        prompt_tokens: int,
        output_tokens: int,
        segments: Sequence[tuple[int, int]],
        status: Status,
        num_preemptions: int = 0,
        cached_tokens: int = 0,
        preempted: int = 0,
        reason: str | None = None,
    ) -> int:
        """Add a request once nothing more happens to it.

        Args:
            engine: Name of the engine that served or rejected it.
            index: Its number in the workload.
            arrival: Tick at which it arrived.
            scheduled: Tick at which the first step with a part of it started; None if none did.
            prompt_tokens: Length of its prompt.
            output_tokens: Tokens it asks for; how many it got, the segments say.
            segments: (first step, last step) of the engine, last included, ascending: one token in each step.
            status: What became of it.
            num_preemptions: How often it lost its KV blocks.
            cached_tokens: Of its prompt, those whose KV was in the cache when it was first scheduled.
            preempted: Ticks it waited, all preemptions together, until it was scheduled again.
            reason: Why it was rejected, the same text for all of a kind.

        Returns:
            Its row.
        """
        code = self._code_of[engine]
        row = len(self._requests)
        self._requests.append(
            (
                index,
                code,
                _STATUS_CODE[status],
                self._reason_code(reason),
                arrival,
                NONE if scheduled is None else scheduled,
                preempted,
                prompt_tokens,
                output_tokens,
                num_preemptions,
                cached_tokens,
            )
        )
        for first, last in segments:
            self._segments.append((row, code, first, last))
        return row

    def extend(self, requests: Records, segments: Records) -> None:
        """Add requests of dtype `REQUEST` and their segments, of dtype `SEGMENT`, to an empty log."""
        assert not len(self), "segments name rows of these requests"
        self._requests.extend(requests)
        self._segments.extend(segments)

    def _reason_code(self, reason: str | None) -> int:
        if reason is None:
            return NONE
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._requests.nbytes + self._segments.nbytes

    @property
    def rows(self) -> Records:
        """The requests (num_requests,), of dtype `REQUEST`."""
        return self._requests.array()

    @property
    def segments(self) -> Records:
        """The segments (num_segments,), of dtype `SEGMENT`, those of a request together and ascending."""
        return self._segments.array()

    @property
    def api_ps(self) -> IntArray:
        """Ticks by which each request's tokens are later for its client than for its engine (num_requests,)."""
        later: IntArray = self._api[self.rows["engine"]]
        return later

    def has_status(self, status: Status) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Say of each request whether it has *status* (num_requests,)."""
        answer: np.ndarray[tuple[int], np.dtype[np.bool_]] = self.rows["status"] == _STATUS_CODE[status]
        return answer

    def rejected_reasons(self) -> dict[str, int]:
        """Count the rejected requests by reason, most frequent first."""
        codes: IntArray = self.rows["reason"][self.has_status("rejected")]
        counts = {text: int((codes == code).sum()) for code, text in enumerate(self.reasons)}
        return dict(sorted(((text, n) for text, n in counts.items() if n), key=lambda item: (-item[1], item[0])))

    def rejected_for(self, reason: str) -> IntArray:
        """Return the numbers, in the workload, of the requests rejected for *reason*, ascending."""
        numbers: IntArray = np.sort(self.rows["index"][self.rows["reason"] == self.reasons.index(reason)])
        return numbers

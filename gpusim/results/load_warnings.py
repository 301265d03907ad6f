"""What a user should know of the load that a run was under, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from gpusim.results.growth import growth
from gpusim.results.metrics import measured_requests
from gpusim.results.request_log import RequestLog
from gpusim.results.start_up import start_up
from gpusim.results.step_log import StepLog
from gpusim.spec.scenario import MeasureSpec
from gpusim.spelling import counted

NAMED_REQUESTS: Final = 5
"""Rejected requests that a warning names."""


def load_warnings(
    requests: RequestLog, steps: Mapping[str, StepLog], engines: Sequence[str], window: MeasureSpec
) -> Iterator[str]:
    """Say of the requests of *engines*, which serve one stream, whether they pile up, and whether TTFT is of the start."""
    own = np.isin(requests.rows["engine"], [requests.engines.index(name) for name in engines])
    grown = growth(requests, steps, own)
    started = start_up(requests, steps, own & measured_requests(requests, window))
    for found in (grown, started):
        if found is not None and found.is_sure:
            yield f"{', '.join(engines)}: {found}"


def rejections(requests: RequestLog) -> Iterator[str]:
    """Name, for each reason, the requests that were rejected for it, the first ones if they are many."""
    for reason, count in requests.rejected_reasons().items():
        numbers = requests.rejected_for(reason)
        named = ", ".join(map(str, numbers[:NAMED_REQUESTS].tolist())) + (", …" if count > NAMED_REQUESTS else "")
        yield f"{counted(count, 'request')} rejected (number {named}): {reason}"

"""What probes are told about steps that were played."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from gpusim.core.arrays import IntArray
from gpusim.serving.commit import Advance
from gpusim.serving.roster import Roster


def shown_runs(advance: Advance, before: Roster, held: IntArray) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Return of each run of steps when it began, when it ended, and what it was.

    Args:
        advance: Steps that were played.
        before: The roster from which they were planned.
        held: KV blocks of requests that are not over, in each step.
    """
    outlook, runs, played = advance.outlook, advance.runs, advance.played
    steps = len(played.ends)
    first = [place for place in runs.first.tolist() if place < steps]
    admitted = Counter(step for step, _ in outlook.admitted)
    finished = Counter(step + 1 for step, _ in outlook.finished)
    prefills: defaultdict[int, list[int]] = defaultdict(list)
    for step, request, *_ in outlook.chunks:
        prefills[step].append(request.index)
    running = len(before.running) + len(outlook.swapped_in) - len(outlook.preempted)
    swapped = len(before.swapped) + len(outlook.swapped_out) - len(outlook.swapped_in)
    for run, (place, behind) in enumerate(pairwise([*first, steps])):
        running += admitted[place] - finished[place]
        args = {
            "first_step": outlook.first_step + place,
            "ends": played.ends[place:behind],
            "num_decodes": int(runs.num_decodes[run]),
            "num_prefill_tokens": int(runs.num_prefill_tokens[run]),
            "num_tokens": int(runs.num_tokens[run]),
            "running": running,
            "swapped": swapped,
            "kv_blocks": held[place:behind],
            "prefills": prefills[place],
        }
        yield int(played.starts[run]), int(played.ends[behind - 1]), args

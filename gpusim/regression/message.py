"""What a test that moved from its baseline says: what moved, what is to blame, how to accept it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from gpusim.regression.baseline import Baseline
from gpusim.regression.comparison import Move, resources, settings
from gpusim.regression.facts import Fact
from gpusim.results.quantity import shown

_DIGITS: Final = 4
_MOST: Final = 8
"""Settings that are listed."""
_NAMED: Final = 3
"""Resources that are named at most: the one to blame, and those that moved at least a tenth as much as any."""
_UNMOVED: Final = 1e-3
"""Change of a token's step, as part of it, that explains nothing."""
ABSENT: Final = "–"


def describe(path: str, before: Baseline, now: Baseline, found: Sequence[Move], accept: str) -> str:
    """Write the message of a test that failed.

    Args:
        path: The baseline's, as the user may type it.
        before: The baseline.
        now: The run.
        found: What moved, at least one.
        accept: The command that makes the run the baseline.
    """
    why = [*_queue(before, now, found), *_blame(before, now), *_changes(before, now)]
    lines = [_headline(path, found), "", *_table(found), "", *why]
    return "\n".join([*lines, "", "If that is meant, accept it and review the change of the file:", f"    {accept}"])


def missing(path: str, accept: str) -> str:
    """Write the message of a test that has no baseline yet."""
    return f"there is no baseline {path}; make it, look at it and commit it:\n    {accept}"


def _headline(path: str, found: Sequence[Move]) -> str:
    better = sum(move.is_better is True for move in found)
    if better == len(found):
        return f"{_metrics(better)} better than the baseline {path}"
    also = f", {better} of them better" if better else ""
    return f"{_metrics(len(found))} moved from the baseline {path}{also}"


def _metrics(count: int) -> str:
    return f"{count} metric{'s' if count > 1 else ''}"


def _table(found: Sequence[Move]) -> Iterator[str]:
    rows = [("metric", "baseline", "now", "change", "allowed", ""), *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells, verdict in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=False))
        yield f"{name.ljust(widths[0])}  {numbers}  {verdict}".rstrip()


def _row(move: Move) -> tuple[str, ...]:
    verdict = {True: "better than the baseline", False: "worse", None: "there is a number in one only"}[move.is_better]
    values = (_value(move.before, move.unit), _value(move.now, move.unit))
    return (move.name, *values, _percent(move.ratio), f"±{move.rtol * 100:.3g} %", verdict)


def _percent(ratio: float | None) -> str:
    if ratio is None:
        return ABSENT
    return f"{ratio * 100:+.3g} %" if abs(ratio) < 1 else f"{ratio * 100:+.0f} %"


def _value(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return ABSENT
    if unit == "s":
        return shown(value, _DIGITS)
    return f"{value:.{_DIGITS}g} {unit}" if unit else str(value)


def _queue(before: Baseline, now: Baseline, found: Sequence[Move]) -> Iterator[str]:
    """Say that requests wait longer or shorter, for the resources of a step do not show it."""
    was, is_now = (each.latency_s.get("queue.mean") for each in (before, now))
    if was is not None and is_now is not None and any(move.name == "queue.mean" for move in found):
        yield f"requests wait {_arrow(was, is_now)} for their first step"


def _blame(before: Baseline, now: Baseline) -> Iterator[str]:
    """Name the resource that did most for a token's step to change as it did, and others that moved."""
    moved = resources(before, now)
    total, current = (sum(each.step_of_a_token_s.values()) for each in (before, now))
    largest = abs(moved[0][2] - moved[0][1]) if moved else 0.0
    if largest <= _UNMOVED * max(total, current):
        yield "no resource takes more or less of a token's step"
        return
    is_longer = current > total
    first = (max if is_longer else min)(moved, key=lambda entry: entry[2] - entry[1])
    named = [first, *(entry for entry in moved if entry is not first and abs(entry[2] - entry[1]) >= 0.1 * largest)]
    why = f"{first[0]} to blame" if is_longer else f"mostly {first[0]}"
    yield f"the step of a token takes {_arrow(total, current)}, {why}:"
    width = max(len(name) for name, _, _ in named[:_NAMED])
    yield from (f"    {name.ljust(width)}  {_arrow(was, is_now)}" for name, was, is_now in named[:_NAMED])


def _arrow(was: float, is_now: float) -> str:
    sign = "+" if is_now >= was else "-"
    return f"{shown(was, _DIGITS)} -> {shown(is_now, _DIGITS)} ({sign}{shown(abs(is_now - was), _DIGITS)})"


def _changes(before: Baseline, now: Baseline) -> Iterator[str]:
    """Say what else is not as it was: settings of the scenario, the version of gpusim."""
    changed = settings(before, now)
    if changed:
        yield "changed in the scenario:"
        yield from (f"    {path}: {_fact(was)} -> {_fact(is_now)}" for path, was, is_now in changed[:_MOST])
        if len(changed) > _MOST:
            yield f"    and {len(changed) - _MOST} more"
    elif before.scenario_hash == now.scenario_hash:
        yield "the scenario is the same"
    if before.gpusim != now.gpusim:
        yield f'gpusim {before.gpusim} -> {now.gpusim}: its changelog lists such changes under "Behaviour"'


def _fact(value: Fact | None) -> str:
    return ABSENT if value is None else str(value)

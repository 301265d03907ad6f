"""What a test that moved from its baseline says: what moved, what is to blame, how to accept it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from gpusim.regression.baseline import Baseline
from gpusim.regression.blame import blame
from gpusim.regression.comparison import Move
from gpusim.regression.facts import Fact, changes
from gpusim.results.quantity import shown
from gpusim.spelling import counted

_DIGITS: Final = 4
_MOST: Final = 8
"""Settings that are listed."""
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
    why = [*blame(before, now, found), *_changes(before, now)]
    lines = [_headline(path, found), "", *_table(found), "", *why]
    return "\n".join([*lines, "", "If that is meant, accept it and review the change of the file:", f"    {accept}"])


def missing(path: str, accept: str) -> str:
    """Write the message of a test that has no baseline yet."""
    return f"there is no baseline {path}; make it, look at it and commit it:\n    {accept}"


def _headline(path: str, found: Sequence[Move]) -> str:
    better = sum(move.is_better is True for move in found)
    if better == len(found):
        return f"{counted(better, 'metric')} better than the baseline {path}"
    also = f", {better} of them better" if better else ""
    return f"{counted(len(found), 'metric')} moved from the baseline {path}{also}"


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


def _changes(before: Baseline, now: Baseline) -> Iterator[str]:
    """Say what else is not as it was: settings of the scenario, the version of gpusim."""
    changed = changes(before.scenario, now.scenario)
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

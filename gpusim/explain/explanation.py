"""The whole explanation of a run: its time by part, its bound, what would change it, and the short of it in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gpusim.errors import SpecError
from gpusim.explain.groups import latencies
from gpusim.explain.runs import Outcome, simulate_all
from gpusim.explain.sentences import FIGURE_NAMES, sentences
from gpusim.explain.variants import STATED, Variant, better, unanswered, without
from gpusim.results.result import Result
from gpusim.results.summary import plain
from gpusim.results.time_spent import spread_in_runs
from gpusim.spec.what_if import RATES

FACTOR: Final = 1.1
_UNEVEN: Final = 0.05
"""From where on a note says that steps of a run differ in length."""


def explain(
    result: Result,
    *,
    factor: float = FACTOR,
    sensitivity: bool = True,
    processes: int = 1,
    out: Path | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Explain a run.

    Args:
        result: The run.
        factor: How many times as good memory, processors, links, launches and the host are, one at a time.
        sensitivity: Simulate the scenario with each of these, and without each of what can be left out.
        processes: Runs simulated at once.
        out: Gets a directory for each of them.
        on_done: Called with the number of runs that are done and of all.

    Returns:
        Plain data: what `Result.explain` says, `bound`, `latencies` by group, `factor`, `sensitivities`, `without`, `complete`,
        `notes` and `sentences`; docs/explain.md describes all keys.

    A keyboard interrupt leaves out what had not been simulated.

    Raises:
        SpecError: If *factor* is not above 1.
        GpusimError: If a changed scenario cannot run, or its run not be written.
    """
    if not 1 < factor < float("inf"):
        raise SpecError(
            f"factor = {factor:g}: write how many times as good everything gets, one at a time, above 1, e.g. 1.1"
        )
    scenario = result.record.scenario
    told = {**result.explain(), "bound": _bound(result), "latencies": latencies(result), "factor": factor}
    told |= {"sensitivities": [], "without": [], "complete": True, "notes": _notes(result)}
    if sensitivity:
        improved, reduced = better(scenario, factor), without(scenario)
        variants = [Variant(STATED, dict(scenario)), *improved, *reduced]
        done = None if on_done is None else lambda number: on_done(number, len(variants))
        stated, *found = simulate_all(variants, processes=processes, out=out, on_done=done)
        told["complete"] = None not in found
        if stated is not None and stated.latencies != told["latencies"]:
            told["notes"].append(
                "the run was stopped early or simulated by another gpusim; changes are from a run made now"
            )
        told["sensitivities"] = [
            {"what": variant.name, "times": _times(variant.name, factor), **_changed(new)}
            for variant, new in zip(improved, found, strict=False)
            if new is not None
        ]
        told["without"] = [
            {"what": variant.name, **_changed(new)}
            for variant, new in zip(reduced, found[len(improved) :], strict=True)
            if new is not None
        ]
        told["notes"] += [*unanswered(scenario), *_unsure([new for new in found if new is not None])]
    told["sentences"] = sentences(told)
    data: dict[str, Any] = plain(told)
    return data


def _times(name: str, factor: float) -> float:
    return factor if name in RATES else 1 / factor


def _bound(result: Result) -> dict[str, float | None]:
    """Say what all steps take at least, and how many times that they took."""
    step_time_s = result.explain()["step_time_s"]
    bounds = [bound.get("step") for bound in result.record.bounds.values()]
    known = [bound for bound in bounds if bound is not None]
    bound_s = sum(known) if known and len(known) == len(bounds) else None
    return {"step_time_s": step_time_s, "bound_s": bound_s, "ratio": step_time_s / bound_s if bound_s else None}


def _changed(outcome: Outcome) -> dict[str, Any]:
    return {"latencies": outcome.latencies, "change": outcome.change, "interval": outcome.interval}


def _unsure(outcomes: Sequence[Outcome]) -> list[str]:
    """Say of which figures some change has no interval."""
    known = [intervals for outcome in outcomes for intervals in outcome.interval.values()]
    unsure = [name for figure, name in FIGURE_NAMES.items() if any(intervals[figure] is None for intervals in known)]
    return [f"too few requests to say how sure changes of {', '.join(unsure)} are"] if unsure else []


def _notes(result: Result) -> list[str]:
    notes = [] if result.record.complete else ["this run was stopped early; long requests are missing"]
    spread = max((spread_in_runs(log) for log in result.record.steps.values()), default=0.0)
    if spread > _UNEVEN:
        notes.append(
            f"steps of one batch differ by up to {100 * spread:.0f} % in length: parts of the median and the slowest gaps are "
            "known on average over such steps only"
        )
    return notes

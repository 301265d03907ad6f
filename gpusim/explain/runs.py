"""Simulating variants, several at once in processes of their own, and keeping their runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpusim.core.processes import worker_pool
from gpusim.explain.groups import ALL, FIGURES, Latencies, groups_of, latencies
from gpusim.explain.intervals import Intervals, intervals
from gpusim.explain.variants import Variant
from gpusim.files import distinct_names, plain_name
from gpusim.plan import plan_document
from gpusim.results.result import Result
from gpusim.results.store import check_directory
from gpusim.simulation import Simulation
from gpusim.spec.document import Document


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a variant comes to, by group."""

    latencies: dict[str, Latencies]
    change: dict[str, dict[str, float | None]]
    """Of `FIGURES` against the stated run, as parts of it; of the groups of which both have the same requests."""
    interval: dict[str, Intervals]


def simulate_all(
    variants: Sequence[Variant],
    *,
    processes: int = 1,
    out: Path | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[Outcome | None]:
    """Simulate each variant and hold it against the first of them, which is the stated scenario.

    Args:
        variants: What to simulate.
        processes: How many at once.
        out: Gets a directory for the run of each.
        on_done: Called with the number of those that are done.

    Returns:
        Of each what it comes to; None of those that a keyboard interrupt left out.

    Raises:
        GpusimError: If one cannot run, or not be written.
    """
    folders = _folders(variants, out)
    done = on_done or (lambda _: None)
    found: dict[int, Outcome] = {}
    with suppress(KeyboardInterrupt), closing(_outcomes(variants, folders, processes)) as outcomes:
        for place, outcome in outcomes:
            found[place] = outcome
            done(len(found))
    return [found.get(place) for place in range(len(variants))]


def _folders(variants: Sequence[Variant], out: Path | None) -> list[Path | None]:
    """Return where the run of each variant goes, after its name, and no two the same; None without *out*."""
    if out is None:
        return [None] * len(variants)
    folders = [out / name for name in distinct_names(plain_name(variant.name) for variant in variants)]
    for folder in folders:
        check_directory(folder)
    return [*folders]


def _outcomes(
    variants: Sequence[Variant], folders: Sequence[Path | None], processes: int
) -> Generator[tuple[int, Outcome], None, None]:
    """Return place and outcome of each variant, as they are done; the first of them first."""
    stated = _simulate(variants[0], folders[0])
    yield 0, Outcome(latencies(stated), {}, {})
    one = partial(_outcome, stated)
    changed = list(enumerate(zip(variants, folders, strict=True)))[1:]
    if processes == 1:
        for place, variant_and_folder in changed:
            yield place, one(*variant_and_folder)
        return
    with worker_pool(min(processes, len(variants))) as pool:
        places = {pool.submit(one, *variant_and_folder): place for place, variant_and_folder in changed}
        for future in as_completed(places):
            yield places[future], future.result()


def _simulate(variant: Variant, folder: Path | None) -> Result:
    result = Simulation(plan_document(Document(variant.name, variant.scenario))).run()
    if not result.record.complete:
        raise KeyboardInterrupt
    if folder is not None:
        result.save(folder)
    return result


def _outcome(stated: Result, variant: Variant, folder: Path | None) -> Outcome:
    result = _simulate(variant, folder)
    old, new = latencies(stated), latencies(result)
    # Where some are left out, all that are left are their own groups; all of them would be other requests.
    groups = [name for name in old if name in new and (name != ALL or old.keys() == new.keys())]
    if ALL in groups:  # an engine that has them all would say it twice
        sizes = {name: int(mask.sum()) for name, mask in groups_of(stated).items()}
        groups = [name for name in groups if name == ALL or sizes[name] < sizes[ALL]]
    change = {name: {figure: _relative(old[name][figure], new[name][figure]) for figure in FIGURES} for name in groups}
    shown = [ALL] if ALL in groups and variant.is_improvement else groups
    return Outcome({name: new[name] for name in groups}, change, intervals(stated, result, shown))


def _relative(stated: float | None, new: float | None) -> float | None:
    return None if stated is None or new is None or not stated else new / stated - 1

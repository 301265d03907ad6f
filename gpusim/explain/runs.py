"""Simulating variants, several at once in processes of their own, and keeping their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from gpusim.explain.groups import Latencies, latencies
from gpusim.explain.variants import Variant
from gpusim.plan import plan_document
from gpusim.results.store import check_directory
from gpusim.simulation import Simulation
from gpusim.spec.document import Document


def simulate_all(
    variants: Sequence[Variant],
    *,
    processes: int = 1,
    out: Path | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[dict[str, Latencies]]:
    """Return the latencies of every group of each variant, in their order.

    Args:
        variants: What to simulate.
        processes: How many at once.
        out: Gets a directory for the run of each.
        on_done: Called with the number of those that are done.

    Raises:
        GpusimError: If one cannot run, or not be written.
    """
    if out is not None:
        for variant in variants:
            check_directory(out / variant.folder)
    one = partial(_simulate, out=out)
    done = on_done or (lambda _: None)
    if processes == 1:
        found = []
        for number, variant in enumerate(variants, 1):
            found.append(one(variant))
            done(number)
        return found
    # Threads of the table library must not be forked.
    with ProcessPoolExecutor(min(processes, len(variants)), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(one, variant) for variant in variants]
        for number, _ in enumerate(as_completed(futures), 1):
            done(number)
        return [future.result() for future in futures]


def _simulate(variant: Variant, *, out: Path | None) -> dict[str, Latencies]:
    result = Simulation(plan_document(Document(variant.name, variant.scenario))).run()
    if not result.record.complete:
        raise KeyboardInterrupt
    if out is not None:
        result.save(out / variant.folder)
    return latencies(result)

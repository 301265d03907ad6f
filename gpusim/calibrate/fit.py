"""Fitting: the parameters of each law on the rows it explains, and the physics of the device on all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import polars as pl

from gpusim.calibrate.parameters import Parameter, own_parameters, physics_parameters
from gpusim.calibrate.search import search
from gpusim.core.arrays import FloatArray
from gpusim.model.work import ExpertKernels
from gpusim.runtime.laws.gpu import law_for
from gpusim.runtime.laws.moe import moe_law
from gpusim.silicon.bench import Bench
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.split import held_out, thinned
from gpusim.silicon.tables import MEASURED, ROW
from gpusim.spec.base import WeightDtype
from gpusim.spec.device import DeviceSpec
from gpusim.spec.laws import DeviceLawsSpec, EngineLawsSpec
from gpusim.units import us

MOST_ROWS: Final = 3000
"""Read for one law: more would only take longer."""
ROUNDS: Final = 2
"""Of fitting the laws with the physics as it is, and then the physics with the laws as they are."""

LAUNCHES: Final = ("t0", "t_split")
"""Parameters that are hidden behind the CPU's launches."""

Law = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Calls of one law with what was measured, (rows,) each."""

    calls: Calls
    measured_s: FloatArray
    ids: tuple[str, ...]
    table: str
    """The file."""
    is_held_out: bool


def samples(family: Family, table: pl.DataFrame, device: DeviceSpec) -> Iterator[Sample]:
    """Yield the core rows of one GPU as samples: for every law those to fit, and those kept out."""
    core = table.filter(family.core(table, device), pl.col(MEASURED) > 0)
    if not len(core):
        return
    kept_out = held_out(core, family.shape)
    for is_held_out, rows in ((False, core.filter(~kept_out)), (True, core.filter(kept_out))):
        for calls in family.calls(rows, device) if len(rows) else ():
            chosen = thinned(rows.filter(pl.col(ROW).is_in(calls.rows)), family.columns, MOST_ROWS)
            measured = dict(zip(chosen[ROW], chosen.select(MEASURED, "id").iter_rows(), strict=True))
            for fewer in family.calls(chosen, device):
                found = [measured[row] for row in fewer.rows.tolist()]
                seconds = np.array([latency for latency, _ in found]) * us
                yield Sample(fewer, seconds, tuple(name for _, name in found), family.file, is_held_out)


def errors(bench: Bench, laws: DeviceLawsSpec, some: Iterable[Sample]) -> FloatArray:
    """Return the logarithm of predicted over measured time of all calls."""
    bench = bench.with_laws(laws)
    parts = [np.log(bench.seconds(sample.calls) / sample.measured_s) for sample in some]
    return np.concatenate(parts)


def fit(device: DeviceSpec, laws: DeviceLawsSpec, some: Sequence[Sample]) -> DeviceLawsSpec:
    """Return *laws* with the parameters that leave the least mean absolute logarithmic error on *some* samples.

    Args:
        device: The GPU.
        laws: Where the search begins.
        some: Those kept out are not looked at.
    """
    bench, fitted = Bench(device), [sample for sample in some if not sample.is_held_out]
    by_law: dict[Law, list[Sample]] = {}
    for sample in fitted:
        by_law.setdefault(sample.calls.law, []).append(sample)
    for law in sorted(by_law):
        laws = with_law(laws, law)
    for _ in range(ROUNDS):
        for law, its in sorted(by_law.items()):
            laws = _fitted(bench, laws, its, [(law, parameter) for parameter in free_parameters(laws, its)])
        shared = {parameter for law in by_law for parameter in physics_parameters(law)}
        if not shared:
            break
        telling = [s for law in sorted(by_law) if physics_parameters(law) for s in by_law[law]]
        free = [(("physics",), p) for p in sorted(shared, key=lambda parameter: parameter.name)]
        laws = _fitted(bench, laws, telling, free)
    return laws


def free_parameters(laws: DeviceLawsSpec, its: Sequence[Sample]) -> tuple[Parameter, ...]:
    """Return the parameters of the law of samples that are searched: those of parts that its kernels have.

    Where the CPU launched every call by itself, nothing tells of the GPU's own launches.
    """
    law = its[0].calls.law
    values, hidden = value_at(laws, law), LAUNCHES if all(sample.calls.eager for sample in its) else ()
    return tuple(p for p in own_parameters(law) if getattr(values, p.name, None) and p.name not in hidden)


def _fitted(
    bench: Bench, laws: DeviceLawsSpec, its: Sequence[Sample], free: Sequence[tuple[Law, Parameter]]
) -> DeviceLawsSpec:
    """Return *laws* with the *free* parameters fitted on samples."""
    if not free:
        return laws

    def laws_with(values: FloatArray) -> DeviceLawsSpec:
        found = laws
        for (law, parameter), value in zip(free, values.tolist(), strict=True):
            found = with_value(found, (*law, *parameter.name.split(".")), value)
        return found

    start = np.array([value_at(laws, (*law, *parameter.name.split("."))) for law, parameter in free])

    def error(values: FloatArray) -> float:
        return float(np.mean(np.abs(errors(bench, laws_with(values), its))))

    return laws_with(search(error, start, tuple(parameter for _, parameter in free)))


def with_law(laws: DeviceLawsSpec, law: Law) -> DeviceLawsSpec:
    """Return *laws* with something at *law*: where nothing is, what that engine would borrow."""
    if law[0] != "engines":
        return laws
    _, engine, family, *key = law
    own = laws.engines.get(engine, EngineLawsSpec())
    known = getattr(own, family)
    lent = getattr(laws.of(engine), "engine_all_reduce" if family == "all_reduce" else family)
    found = known or lent
    if family == "moe":
        stored, library = key
        like = moe_law(ExpertKernels(cast("WeightDtype", stored), library), lent)
        found = {**known, stored: {**known.get(stored, {}), library: like}}
    elif key and key[0] not in known:
        found = {**known, key[0]: law_for(key[0], lent)}
    engines = {**laws.engines, engine: own.model_copy(update={family: found})}
    return laws.model_copy(update={"engines": engines})


def value_at(laws: Any, path: Sequence[str]) -> Any:
    """Return the value at *path* of keys."""
    for key in path:
        laws = laws[key] if isinstance(laws, dict) else getattr(laws, key)
    return laws


def with_value(laws: Any, path: Sequence[str], value: Any) -> Any:
    """Return *laws* with the value at *path* replaced."""
    if not path:
        return value
    key, *rest = path
    if isinstance(laws, dict):
        return {**laws, key: with_value(laws[key], rest, value)}
    return laws.model_copy(update={key: with_value(getattr(laws, key), rest, value)})

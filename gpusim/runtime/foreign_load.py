"""Constant-rate foreign traffic: copies whose rates nothing that engines do changes, and what they leave of a machine.

Between two starts or ends of such copies everything has a constant rate, so their whole course is known ahead, and steps
that pass meanwhile can be folded: kernels take what their law says with memory slower by what the copies take of it,
collectives with their links.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Final

from gpusim.hardware.cluster import Cluster
from gpusim.hardware.flow import Ask, Loads
from gpusim.runtime.collective import CollectiveGroup
from gpusim.runtime.laws.collectives import Pattern
from gpusim.spec.background import CopySpec

PATTERNS: Final[tuple[Pattern, ...]] = ("ring", "all_pairs")
MOST_COPIES: Final = 5
"""More entries of `background:` have too many combinations to look at ahead."""
_SAME: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Load:
    """What foreign traffic of constant rate does to an engine."""

    memory_share: float = 0.0
    """Part of the memory's time that it takes, on the rank where that is most."""
    stretch: tuple[float, ...] = (1.0,) * len(PATTERNS)
    """Factor of the time that collectives of each of `PATTERNS` have their links for."""

    def of(self, pattern: Pattern) -> float:
        """Return the factor for *pattern*."""
        return self.stretch[PATTERNS.index(pattern)]


IDLE: Final = Load()


@dataclass(frozen=True, slots=True)
class EngineTraffic:
    """What an engine puts on memories and links, as far as foreign copies may feel it."""

    gpus: Sequence[str]
    group: CollectiveGroup | None


class ForeignCopies:
    """The copies of `background:`, as one piece of traffic.

    Args:
        cluster: That carries them.
        specs: The copies.
    """

    def __init__(self, cluster: Cluster, specs: Sequence[CopySpec]) -> None:
        self.cluster = cluster
        self.specs = tuple(specs)
        self.loads = [self._loads(spec) for spec in specs]
        self.asks = [Ask(loads, loads.peak_bytes, 1.0 / self._ideal_s(*pair)) for pair, loads in self._pairs()]

    def resources(self) -> frozenset[int]:
        """Return every link and memory they load."""
        return frozenset(resource for loads in self.loads for resource in loads.resources)

    def are_constant(self, engines: Iterable[EngineTraffic]) -> bool:
        """Say whether each copy has a rate that depends on the other copies alone, whatever *engines* do."""
        if len(self.specs) > MOST_COPIES or not self._have_turns():
            return False
        engines = tuple(engines)
        banks = [self.cluster.fabric.memory_resource(gpu) for engine in engines for gpu in engine.gpus]
        numbers = range(len(self.specs))
        subsets = chain.from_iterable(combinations(numbers, size) for size in range(1, len(self.specs) + 1))
        return all(self._is_constant(subset, banks, engines) for subset in subsets)

    def speeds(self, moving: Sequence[int]) -> list[float]:
        """Return the speeds of the copies *moving* now, in passes a second."""
        return self.cluster.fabric.speeds([self.asks[number] for number in moving])

    def load(self, moving: Sequence[int], engine: EngineTraffic) -> Load:
        """Return what the copies *moving* now leave an engine."""
        rates = list(zip(moving, self.speeds(moving), strict=True)) if moving else []
        shares = [self._share(gpu, rates) for gpu in engine.gpus]
        stretch = tuple(1.0 if engine.group is None else self._stretch(moving, engine.group, p) for p in PATTERNS)
        return Load(max(shares), stretch)

    def _loads(self, spec: CopySpec) -> Loads:
        size = 1.0 if spec.rate is not None else spec.size
        assert size is not None, "the spec says a size where it says no rate"
        return self.cluster.fabric.loads([(spec.source, spec.target, size)], memory=True)

    def _pairs(self) -> Iterable[tuple[tuple[CopySpec, Loads], Loads]]:
        return (((spec, loads), loads) for spec, loads in zip(self.specs, self.loads, strict=True))

    @staticmethod
    def _ideal_s(spec: CopySpec, loads: Loads) -> float:
        return loads.ideal_s if spec.rate is None else max(loads.ideal_s, loads.size_bytes / spec.rate)

    def _have_turns(self) -> bool:
        """Say whether no copy ever waits for a copy engine."""
        for name, gpu in self.cluster.gpus.items():
            holders = [spec for spec in self.specs if spec.rate is None and self._holder(spec) == name]
            if len(holders) > gpu.copy_engines.capacity:
                return False
        return True

    def _holder(self, spec: CopySpec) -> str:
        return spec.source if spec.source in self.cluster.gpus else spec.target

    def _is_constant(self, moving: Sequence[int], banks: Sequence[int], engines: Sequence[EngineTraffic]) -> bool:
        asks = [self.asks[number] for number in moving]
        alone = self.cluster.fabric.speeds(asks)
        touched = {bank for ask in asks for bank in ask.loads.banks}
        beside = [self.cluster.fabric.speeds(asks, tuple((bank, 1) for bank in banks if bank in touched))]
        groups = [engine.group for engine in engines if engine.group is not None]
        for pattern in PATTERNS:
            collectives = [_whole(group.unit_loads[pattern]) for group in groups]
            beside.append(self.cluster.fabric.speeds([*asks, *collectives])[: len(asks)])
        return all(
            abs(speed - own) <= _SAME * own for speeds in beside for speed, own in zip(speeds, alone, strict=True)
        )

    def _share(self, gpu: str, rates: Sequence[tuple[int, float]]) -> float:
        bank = self.cluster.fabric.memory_resource(gpu)
        moved = sum(self.loads[number].banks.get(bank, 0.0) * speed for number, speed in rates)
        return moved / self.cluster.banks[gpu].bandwidth

    def _stretch(self, moving: Sequence[int], group: CollectiveGroup, pattern: Pattern) -> float:
        if not moving:
            return 1.0
        own = _whole(group.unit_loads[pattern])
        speed = self.cluster.fabric.speeds([*(self.asks[number] for number in moving), own])[-1]
        return own.ideal_speed / speed


def _whole(loads: Loads) -> Ask:
    """What a collective asks for: all that its links can carry."""
    return Ask(loads, loads.peak_bytes, 1.0 / loads.ideal_s)

"""What the engines of a plan share of one machine, and so at which detail each can be played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpusim.hardware.cluster import Cluster
from gpusim.placement import EnginePlan
from gpusim.runtime.background import Background
from gpusim.runtime.collective import CollectiveGroup
from gpusim.runtime.foreign import (
    Resources,
    do_ranks_meet,
    is_alone,
    used_by_engine,
    used_by_stores,
    used_by_swaps,
)
from gpusim.runtime.foreign_load import EngineTraffic, ForeignCopies
from gpusim.runtime.foreign_timeline import ForeignTimeline
from gpusim.runtime.kernel_timer import RemoteKv
from gpusim.spec.background import CopySpec
from gpusim.spec.scenario import Detail, Ranks


class Sharing:
    """Says what can come between an engine and its laws: other engines, background traffic, its own ranks.

    Args:
        cluster: The machine.
        engines: All of the plan.
        background: Traffic that no request asked for.
        groups: Of each engine, its ranks as a group; None for a single one.
        remotes: Of each engine, where its KV lies, if not beside the weights.
        experts: All ranks over which experts are dealt; None where no engines share theirs.
        detail: Of all engines; one that shares channels or links with others is played at kernel detail in any case.
        ranks: Of all engines, at kernel detail; of one that shares all ranks are played in any case.
    """

    def __init__(
        self,
        cluster: Cluster,
        engines: Sequence[EnginePlan],
        background: Sequence[Background],
        *,
        groups: Mapping[str, CollectiveGroup | None],
        remotes: Mapping[str, RemoteKv | None],
        experts: CollectiveGroup | None,
        detail: Detail,
        ranks: Ranks,
    ) -> None:
        self._cluster = cluster
        self._plans = tuple(engines)
        self._background = tuple(background)
        self._remotes = remotes
        self._experts = experts
        self._detail: Detail = detail
        self._ranks: Ranks = ranks
        self._used = {
            plan.name: used_by_engine(cluster, plan.gpus, groups[plan.name], remotes[plan.name]) for plan in engines
        }
        self._swapped = {plan.name: used_by_swaps(cluster, plan.hosts) for plan in engines}
        self._traffic = {plan.name: EngineTraffic(plan.gpus, groups[plan.name]) for plan in engines}
        copies = [entry.spec for entry in background if isinstance(entry.spec, CopySpec)]
        self._copies = ForeignCopies(cluster, copies)
        self._has_constant_copies = self._copies.are_constant(self._traffic.values()) and is_alone(
            self._copies.resources(), [*self._collective_resources(), *self._swapped.values()]
        )

    def detail(self, plan: EnginePlan) -> Detail:
        """Return the detail at which an engine is played: folded where all that shares with it is of constant rate."""
        if self._experts is not None:
            return self._detail if self._is_undisturbed(plan) else "kernel"
        meet = do_ranks_meet(self._cluster.fabric, self._remotes[plan.name])
        if meet or not is_alone(self._used[plan.name], self._others(plan)):
            return "kernel"
        can_fold = not self._feels_copies(plan) or (self._has_constant_copies and not plan.pool)
        return self._detail if can_fold else "kernel"

    def ranks(self, plan: EnginePlan) -> Ranks:
        """Return whether one rank of an engine stands for all; step detail knows no other."""
        if self.detail(plan) == "step":
            return "folded"
        return "folded" if self.plays_one_rank(plan) else "all"

    def plays_one_rank(self, plan: EnginePlan) -> bool:
        """Say whether one rank of an engine stands for all at kernel detail."""
        return self._ranks == "folded" and len(plan.gpus) > 1 and self._is_undisturbed(plan)

    def foreign(self, plan: EnginePlan) -> ForeignTimeline | None:
        """Return the copies that an engine feels while it is folded; None without any."""
        return ForeignTimeline(self._copies, self._traffic[plan.name]) if self._feels_copies(plan) else None

    def _is_undisturbed(self, plan: EnginePlan) -> bool:
        """Say whether nothing can come between the ranks of an engine and their laws, themselves included.

        Of engines that share experts, all or none.
        """
        if self._experts is not None:
            foreign = [self._copies.resources(), *self._collective_resources()]
            return is_alone(self._experts.resources(), foreign) and all(map(self._is_by_itself, self._plans))
        return self._is_by_itself(plan)

    def _is_by_itself(self, plan: EnginePlan) -> bool:
        meet = do_ranks_meet(self._cluster.fabric, self._remotes[plan.name])
        return not meet and not self._feels_copies(plan) and is_alone(self._used[plan.name], self._others(plan))

    def _others(self, plan: EnginePlan) -> list[Resources]:
        """Return what other engines, their KV on its way, its own beside its steps, and background collectives load."""
        engines = [used | self._swapped[name] for name, used in self._used.items() if name != plan.name]
        own = [used_by_stores(self._cluster, plan.hosts)] if plan.serving.kv_offload is not None else []
        return [*engines, *own, *self._collective_resources()]

    def _collective_resources(self) -> list[Resources]:
        return [entry.group.resources() for entry in self._background if entry.group is not None]

    def _feels_copies(self, plan: EnginePlan) -> bool:
        return not self._used[plan.name].isdisjoint(self._copies.resources())

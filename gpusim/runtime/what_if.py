"""Laws under `what_if:`: terms of kernels scaled one by one, parameters of collectives by what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeVar

from gpusim.model.work import HostWork
from gpusim.runtime.laws.kernels import Computed, KernelLaws
from gpusim.runtime.laws.nccl import LL128_HOP
from gpusim.runtime.laws.timing import KernelTime
from gpusim.spec.base import Spec
from gpusim.spec.collective_law import EngineAllReduceLawSpec, NcclLawSpec
from gpusim.spec.laws import LawsSpec
from gpusim.spec.what_if import WhatIfSpec

_RING_LAUNCH: Final = ("t0", "t_spread", "t_simple", "t_ll128")
_RING_STEPS: Final = ("t_hop", "t_hop_simple", "t_hop_ll128", "t_loop")
_OWN_LAUNCH: Final = ("t0", "t_spread")
_OWN_STEPS: Final = ("t_peer", "t_barrier")
"""Signals that ranks send each other, and wait for."""

AnySpec = TypeVar("AnySpec", bound=Spec)


class ScaledLaws:
    """Laws of kernels with each term scaled.

    Args:
        laws: Of the GPU as stated.
        what_if: The factors. Which tile or split is taken stays as the stated rates decide.
    """

    def __init__(self, laws: KernelLaws, what_if: WhatIfSpec) -> None:
        self.laws = laws
        self.what_if = what_if

    def time(self, work: Computed) -> KernelTime:
        """See `KernelLaws.time`."""
        terms, what_if = self.laws.time(work), self.what_if
        return replace(
            terms,
            fixed_s=terms.fixed_s * (1.0 if isinstance(work, HostWork) else what_if.launch),
            other_s=terms.other_s / what_if.flops,
            l2_s=terms.l2_s / what_if.flops,
            memory_rate=terms.memory_rate * what_if.hbm_bandwidth,
        )


def collective_laws(laws: LawsSpec, what_if: WhatIfSpec) -> LawsSpec:
    """Return *laws* with what those of collectives say changed; links and memories are the machine's."""
    if what_if.is_neutral:
        return laws
    own = laws.engine_all_reduce
    return laws.model_copy(
        update={
            "nccl": _nccl(laws.nccl, what_if),
            "engine_all_reduce": None if own is None else _own(own, what_if),
        }
    )


def _nccl(law: NcclLawSpec, what_if: WhatIfSpec) -> NcclLawSpec:
    pairs = _scaled(law.pairs, ("t0", "t_peer"), what_if.launch)
    ring = law.ring if law.ring.t_hop_ll128 is not None else law.ring.model_copy(update={"t_hop_ll128": LL128_HOP})
    return law.model_copy(
        update={
            "ring": _scaled(_scaled(ring, _RING_LAUNCH, what_if.launch), _RING_STEPS, what_if.link_latency),
            "pairs": _scaled(pairs, ("channel_bandwidth",), what_if.link_bandwidth),
            "t_network": law.t_network * what_if.link_latency,
        }
    )


def _own(law: EngineAllReduceLawSpec, what_if: WhatIfSpec) -> EngineAllReduceLawSpec:
    law = _scaled(_scaled(law, _OWN_LAUNCH, what_if.launch), _OWN_STEPS, what_if.link_latency)
    if law.symmetric is None:
        return law
    return law.model_copy(update={"symmetric": _scaled(law.symmetric, ("t0", "t_two_shot"), what_if.launch)})


def _scaled(law: AnySpec, names: Sequence[str], factor: float) -> AnySpec:
    return law.model_copy(update={name: getattr(law, name) * factor for name in names})

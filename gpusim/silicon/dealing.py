"""How the benchmark of expert layers deals its tokens to experts, played again.

``balanced``: evenly, in turn. ``power_law_A``: loads drawn with a density of x^-A between 1 and 0.8 of the tokens (0.01 and
2 where there are fewer choices than experts), scaled to all choices and rounded; what is over or missing is evened out,
rank by rank. The rank with the most is measured, in the mean of five draws; their experts follow each other in one graph.

Its first form (vLLM before 0.17) gave what was missing to the emptiest experts one after the other, whatever their rank, so
that at few tokens one rank had most of them; and it drew ten times.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from gpusim.core.arrays import IntArray

DRAWS: Final = 5
EARLY_DRAWS: Final = 10
EVEN: Final = "balanced"
POWER_LAW: Final = "power_law_"


@dataclass(frozen=True, slots=True)
class Dealt:
    """What the measured rank and the others have to do, in the mean of the draws."""

    experts: float
    rows: float
    other_experts: float
    other_rows: float
    touched: float
    """Distinct experts of the rank over all draws, which follow each other."""


@dataclass(frozen=True, slots=True)
class Deal:
    """What is dealt, and how."""

    tokens: int
    num_experts: int
    chosen: int
    """Experts by each token."""
    ranks: int
    distribution: str
    is_early: bool
    """As the benchmark's first form."""


@lru_cache(maxsize=200_000)
def dealt(deal: Deal) -> Dealt:
    """Return the load that the tokens make."""
    draws = 1 if deal.distribution == EVEN else EARLY_DRAWS if deal.is_early else DRAWS
    loads = np.array([_loads(deal, draw) for draw in range(draws)])
    own, others = loads[:, 0], loads[:, 1:]
    return Dealt(
        experts=float(np.count_nonzero(own)) / draws,
        rows=float(own.sum()) / draws,
        other_experts=float(np.count_nonzero(others)) / draws,
        other_rows=float(others.sum()) / draws,
        touched=float(np.count_nonzero(own.max(axis=0))),
    )


def _loads(deal: Deal, draw: int) -> IntArray:
    """(ranks, experts of a rank) Tokens of each expert, the fullest rank first."""
    if deal.distribution == EVEN:
        return _evenly(deal).reshape(deal.ranks, -1)
    wanted = _drawn(deal, draw)
    loads = np.minimum(wanted, deal.tokens)
    missing = deal.tokens * deal.chosen - int(loads.sum())
    if deal.is_early:
        _fill_up(loads, int(wanted.sum() - loads.sum()), missing, deal.tokens)
    by_rank = loads.reshape(deal.ranks, -1)
    if not deal.is_early:
        _even_out(by_rank, missing, deal.tokens)
    fullest = int(by_rank.sum(axis=1).argmax())
    by_rank[[0, fullest]] = by_rank[[fullest, 0]]
    return by_rank


def _evenly(deal: Deal) -> IntArray:
    stride = -(-deal.num_experts // deal.chosen)
    rounds, rest = divmod(deal.tokens, deal.num_experts)
    token = np.arange(rest)
    first = token if deal.tokens >= stride else token * stride // deal.tokens
    picked = (first[:, None] + np.arange(deal.chosen) * stride) % deal.num_experts
    return rounds * deal.chosen + np.bincount(picked.ravel(), minlength=deal.num_experts)


def _drawn(deal: Deal, draw: int) -> IntArray:
    """Return loads whose sum is about that of all choices."""
    choices, power = deal.tokens * deal.chosen, 1 - float(deal.distribution.removeprefix(POWER_LAW))
    low, high = (1.0, max(1.0001, 0.8 * deal.tokens)) if choices > deal.num_experts else (0.01, 2.0)
    uniform = np.random.default_rng(draw).random(deal.num_experts)
    loads = ((high**power - low**power) * uniform + low**power) ** (1 / power)
    whole: IntArray = np.rint(loads / loads.sum() * choices).astype(np.int64)
    return whole


def _even_out(loads: IntArray, missing: int, most: int) -> None:
    """Add to the emptiest, or take from the fullest, expert of each rank in turn until nothing is missing."""
    rank = 0
    while missing:
        own = loads[rank % len(loads)]
        if missing > 0 and own.min() < most:
            own[own.argmin()] += 1
            missing -= 1
        elif missing < 0 and own.max() > 0:
            own[own.argmax()] -= 1
            missing += 1
        rank += 1


def _fill_up(loads: IntArray, cut: int, missing: int, most: int) -> None:
    """Give *cut* to the emptiest that has room, the rest to all in order from the emptiest; or take it there."""
    order = np.argsort(-loads, kind="stable")[::-1]
    for _ in range(cut):
        loads[next(expert for expert in order if loads[expert] < most)] += 1
    missing -= cut
    order, place = np.argsort(-loads, kind="stable")[::-1], 0
    while missing:
        expert = order[place % len(order)]
        place += 1
        if missing > 0 and loads[expert] < most:
            loads[expert] += 1
            missing -= 1
        elif missing < 0:
            loads[expert if loads[expert] > 0 else loads.argmax()] -= 1
            missing += 1

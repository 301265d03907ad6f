"""Which experts a batch touches, in expectation: the weights a mixture of experts reads depend on it.

Each token draws k of E experts without replacement, independently of other tokens; the r-th most popular has weight
``w = r^-skew``. If a token chooses an expert with probability p, T tokens touch ``sum of 1 - (1 - p)^T`` experts. Equal
weights give ``p = k / E``. Else let every expert have a clock that rings after an exponential time of rate w: the first k
to ring are such a draw, so an expert is chosen if fewer than k others ring before it,

    p = integral of w exp(-w t) P(fewer than k of the others have rung by t) dt
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.model.arrays import Count, Size

_CHUNK: Final = 64
"""Numbers of tokens by which the table of loads grows."""
_POINTS: Final = 128
"""Of the quadrature; its error is below 1e-12 up to a skew of 2, 2e-4 at 4."""


@dataclass(frozen=True, slots=True)
class ExpertLoad:
    """What T tokens ask of the experts of one rank, in expectation; numbers, or arrays like T."""

    experts: Size
    """Distinct ones that are chosen at least once."""
    rows: Size
    """Pairs of a token and an expert it chose."""
    other_experts: Size = 0.0
    """Distinct ones that are chosen among those of other ranks."""
    other_rows: Size = 0.0
    """Choices of those."""


def expert_load(
    tokens: Count, num_experts: int, experts_per_token: int, *, skew: float = 0.0, ranks: int = 1
) -> ExpertLoad:
    """Return the load of the rank with the most.

    Args:
        tokens: Of a batch.
        num_experts: Of the layer.
        experts_per_token: Chosen by each token.
        skew: Zipf exponent of their popularity.
        ranks: Over which the experts are dealt, most popular first, like cards; the first rank has the most.
    """
    whole = np.atleast_1d(np.asarray(tokens, dtype=np.int64))
    found = np.empty((4, len(whole)))
    for chunk in np.unique(whole // _CHUNK).tolist():
        here = whole // _CHUNK == chunk
        found[:, here] = _table(num_experts, experts_per_token, skew, ranks, chunk)[:, whole[here] % _CHUNK]
    return ExpertLoad(*found) if isinstance(tokens, np.ndarray) else ExpertLoad(*found[:, 0].tolist())


@lru_cache(maxsize=16_384)
def _table(num_experts: int, experts_per_token: int, skew: float, ranks: int, chunk: int) -> FloatArray:
    """(4, _CHUNK) Experts and rows of the rank, and of the others, for consecutive numbers of tokens.

    Both levels of detail look them up here: computed in arrays of other shapes they may differ in the last bit.
    """
    tokens = np.arange(chunk * _CHUNK, (chunk + 1) * _CHUNK, dtype=np.float64)
    if skew == 0.0 or experts_per_token == num_experts:
        chosen = experts_per_token / num_experts
        share = 1.0 - (1.0 - chosen) ** tokens
        held = num_experts / ranks
        sizes = (held, num_experts - held)
        return np.array([part for size in sizes for part in (size * share, tokens * (size * chosen))])
    probabilities = choice_probabilities(num_experts, experts_per_token, skew)
    is_own = np.arange(num_experts) % ranks == 0
    parts = (probabilities[is_own], probabilities[~is_own])
    return np.array(
        [line for own in parts for line in ((1.0 - (1.0 - own) ** tokens[:, None]).sum(axis=1), tokens * own.sum())]
    )


@lru_cache(maxsize=256)
def choice_probabilities(num_experts: int, experts_per_token: int, skew: float) -> FloatArray:
    """Return the probability that a token chooses each expert, most popular first, (num_experts,); they sum to k."""
    weights = np.arange(1.0, num_experts + 1) ** -skew
    weights /= weights.sum()
    if experts_per_token == 1:
        return weights
    # Half of the points lie before the time at which k clocks have rung if all rates are alike.
    nodes, shares = np.polynomial.legendre.leggauss(_POINTS)
    place = (nodes + 1) / 2
    scale = experts_per_token
    times, spans = scale * place / (1 - place), scale * shares / 2 / (1 - place) ** 2
    silent = np.exp(-weights[:, None] * times)
    few = _fewer_than(experts_per_token, silent)
    probabilities: FloatArray = weights * ((silent * few) @ spans)
    result: FloatArray = np.minimum(probabilities * (experts_per_token / probabilities.sum()), 1.0)
    return result


def _fewer_than(limit: int, silent: FloatArray) -> FloatArray:
    """(experts, times) Probability that fewer than *limit* of the other clocks have rung.

    Args:
        limit: At least 1.
        silent: (experts, times) Probability that a clock has not rung yet.
    """
    before = _counts(limit, silent)
    after = _counts(limit, silent[::-1])[::-1]
    at_most = np.cumsum(after, axis=1)
    result: FloatArray = (before * at_most[:, ::-1]).sum(axis=1)
    return result


def _counts(limit: int, silent: FloatArray) -> FloatArray:
    """(experts, limit, times) Probability that exactly so many of the clocks listed before each have rung."""
    counts = np.zeros((len(silent), limit, silent.shape[1]))
    counts[0, 0] = 1.0
    for expert in range(len(silent) - 1):
        counts[expert + 1] = counts[expert] * silent[expert]
        counts[expert + 1, 1:] += counts[expert, :-1] * (1 - silent[expert])
    return counts

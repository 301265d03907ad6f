"""The solver: hand-worked cases and the properties that define max-min fairness."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.hardware.max_min import Demand, max_min_rates

NUM_RESOURCES = 5


def demand(use: dict[int, float], cap: float = math.inf) -> Demand:
    return Demand(np.array(list(use), dtype=np.int64), np.array(list(use.values()), dtype=float), cap)


def solve(*demands: Demand, capacity: list[float], elastic: list[int] | None = None) -> list[float]:
    num_elastic = None if elastic is None else np.array(elastic)
    return max_min_rates(demands, np.array(capacity), num_elastic).tolist()


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    resources = draw(st.lists(st.integers(0, NUM_RESOURCES - 1), min_size=1, unique=True))
    fractions = [draw(st.floats(0.01, 1.0)) for _ in resources]
    fractions[draw(st.integers(0, len(resources) - 1))] = 1.0
    return demand(dict(zip(resources, fractions, strict=True)), draw(st.floats(0.1, 100.0) | st.just(math.inf)))


problems = st.tuples(
    st.lists(demands(), min_size=1, max_size=7),
    st.lists(st.floats(0.5, 50.0), min_size=NUM_RESOURCES, max_size=NUM_RESOURCES).map(np.array),
    st.lists(st.integers(0, 3), min_size=NUM_RESOURCES, max_size=NUM_RESOURCES).map(np.array),
)


def used(flows: list[Demand], rates: np.ndarray) -> np.ndarray:
    total = np.zeros(NUM_RESOURCES)
    for flow, rate in zip(flows, rates, strict=True):
        total[flow.resources] += flow.fractions * rate
    return total


def test_flows_on_one_link_get_equal_shares():
    """Three flows on a link of 12 get 4 each."""
    assert solve(demand({0: 1}), demand({0: 1}), demand({0: 1}), capacity=[12]) == [4, 4, 4]


def test_what_a_capped_flow_leaves_goes_to_the_others():
    """A flow capped at 2 on a link of 12 leaves 5 to each of two others."""
    assert solve(demand({0: 1}, cap=2), demand({0: 1}), demand({0: 1}), capacity=[12]) == [2, 5, 5]


def test_long_flow_meets_a_short_one_on_each_link():
    """On two links of 10 and 4 the long flow is held to 2 by the second; the short ones take the rest."""
    assert solve(demand({0: 1, 1: 1}), demand({0: 1}), demand({1: 1}), capacity=[10, 4]) == [2, 8, 2]


def test_fraction_counts_for_what_it_takes():
    """A flow with half its bytes on a link of 9 and one with all of them rise together until 1.5 x = 9."""
    assert solve(demand({0: 0.5, 1: 1}), demand({0: 1}), capacity=[9, 100]) == [6, 6]


def test_elastic_users_take_their_fair_share():
    """Two kernels and one flow on a memory of 9 get 3 each; the flow's link is far from full."""
    assert solve(demand({0: 1, 1: 1}), capacity=[9, 100], elastic=[2, 0]) == [3]


def test_elastic_users_do_not_slow_a_flow_below_their_share():
    """A flow held to 1 by its link does not change when kernels join on a memory that could give it 3."""
    assert solve(demand({0: 1, 1: 1}), capacity=[9, 1], elastic=[2, 0]) == solve(demand({1: 1}), capacity=[9, 1])


@settings(max_examples=150, deadline=None)
@given(problems)
def test_every_flow_is_capped_or_has_a_bottleneck(problem):
    """No rate can grow: it is at its cap or largest, elastic users included, on a full resource."""
    flows, capacity, elastic = problem
    rates = max_min_rates(flows, capacity, elastic)
    load = used(flows, rates)
    for flow, rate in zip(flows, rates, strict=True):
        bottleneck = False
        for resource in flow.resources:
            rivals = [r for f, r in zip(flows, rates, strict=True) if resource in f.resources]
            full = load[resource] + elastic[resource] * rate >= capacity[resource] * (1 - 1e-9)
            bottleneck |= full and rate >= max(rivals) * (1 - 1e-9)
        assert rate == flow.cap or bottleneck


@settings(max_examples=100, deadline=None)
@given(problems)
def test_no_resource_gives_more_than_it_has(problem):
    """The rates are feasible and within their caps."""
    flows, capacity, elastic = problem
    rates = max_min_rates(flows, capacity, elastic)
    assert (used(flows, rates) <= capacity * (1 + 1e-12)).all()
    assert all(0 < rate <= flow.cap for flow, rate in zip(flows, rates, strict=True))


@settings(max_examples=100, deadline=None)
@given(problems, st.randoms(use_true_random=False))
def test_order_of_flows_does_not_matter(problem, random):
    """Shuffled flows get the same rates, to the last bit."""
    flows, capacity, elastic = problem
    order = list(range(len(flows)))
    random.shuffle(order)
    shuffled = max_min_rates([flows[i] for i in order], capacity, elastic)
    assert shuffled.tolist() == max_min_rates(flows, capacity, elastic)[order].tolist()


@settings(max_examples=50, deadline=None)
@given(problems, st.floats(0.1, 10.0))
def test_scaling_all_capacities_scales_all_rates(problem, factor):
    """With capacities and caps times k, every rate is times k."""
    flows, capacity, elastic = problem
    scaled = [Demand(flow.resources, flow.fractions, flow.cap * factor) for flow in flows]
    rates = max_min_rates(flows, capacity, elastic) * factor
    assert max_min_rates(scaled, capacity * factor, elastic) == pytest.approx(rates, rel=1e-9)

"""Which experts a batch touches: exact cases, conservation, and drawing experts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.model.routing import choice_probabilities, expert_load

layers = st.tuples(st.integers(2, 64), st.integers(1, 8)).filter(lambda pair: pair[1] <= pair[0])
skews = st.sampled_from([0.0, 0.4, 1.0, 1.7])


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (16, 1), (64, 6), (128, 8)])
def test_as_many_experts_as_by_drawing(experts, chosen, skew):
    """Within 1 % of the distinct experts that batches touch whose tokens draw without replacement, one after the other."""
    draws = 20_000
    weights = np.arange(1.0, experts + 1) ** -skew
    # The first of exponential clocks of these rates: the same as drawing one after the other.
    clocks = np.random.default_rng(3).exponential(size=(draws, experts)) / weights
    drawn = np.argpartition(clocks, chosen - 1, axis=1)[:, :chosen]
    for tokens in (1, 4, 16, 64):
        batches = drawn[: draws // tokens * tokens].reshape(-1, tokens * chosen)
        measured = np.mean([len(set(batch)) for batch in batches.tolist()])
        assert expert_load(tokens, experts, chosen, skew=skew).experts == pytest.approx(measured, rel=0.01)


@given(layer=layers, tokens=st.integers(1, 500))
def test_without_skew_it_is_the_closed_form(layer, tokens):
    """E (1 - (1 - k/E)^T) experts."""
    experts, chosen = layer
    expected = experts * (1 - (1 - chosen / experts) ** tokens)
    assert expert_load(tokens, experts, chosen).experts == pytest.approx(expected, rel=1e-12)


@given(layer=layers, tokens=st.integers(1, 500), skew=skews)
def test_every_token_finds_its_experts(layer, tokens, skew):
    """There are k rows a token, one token touches k experts, no batch more than there are or than it has rows."""
    experts, chosen = layer
    load = expert_load(tokens, experts, chosen, skew=skew)
    assert load.rows == pytest.approx(tokens * chosen, rel=1e-9)
    assert expert_load(1, experts, chosen, skew=skew).experts == pytest.approx(chosen, rel=1e-9)
    assert chosen * (1 - 1e-9) <= load.experts <= min(experts, tokens * chosen) * (1 + 1e-9)


@given(skew=st.floats(0.1, 2.0), tokens=st.integers(1, 200))
def test_skewed_batches_touch_fewer(skew, tokens):
    """A batch concentrates on popular experts."""
    assert expert_load(tokens, 32, 4, skew=skew).experts <= expert_load(tokens, 32, 4).experts * (1 + 1e-9)


@given(skew=skews, tokens=st.integers(1, 300), ranks=st.sampled_from([1, 2, 4, 8]))
def test_the_first_rank_has_the_most(skew, tokens, ranks):
    """Its load is at least an even share of rows and experts, and exactly that without skew."""
    whole, own = (expert_load(tokens, 32, 4, skew=skew, ranks=size) for size in (1, ranks))
    for of in ("rows", "experts"):
        share = getattr(whole, of) / ranks
        assert getattr(own, of) >= share * (1 - 1e-9)
        assert skew or getattr(own, of) == pytest.approx(share, rel=1e-12)


@given(layer=layers, skew=skews, ranks=st.sampled_from([1, 2]))
def test_many_batches_at_once_are_each_by_itself(layer, skew, ranks):
    """An array of token counts gives the very numbers of one after the other: both levels of detail rest on it."""
    experts, chosen = 2 * layer[0], layer[1]
    tokens = np.arange(1, 200)
    many = expert_load(tokens, experts, chosen, skew=skew, ranks=ranks)
    one = [expert_load(int(count), experts, chosen, skew=skew, ranks=ranks) for count in tokens]
    assert many.experts.tolist() == [load.experts for load in one]
    assert many.rows.tolist() == [load.rows for load in one]


@pytest.mark.parametrize("skew", [0.0, 1.0, 4.0])
def test_probabilities_are_those_of_a_choice(skew):
    """They fall with popularity, lie between 0 and 1, and sum to k."""
    chosen = choice_probabilities(128, 8, skew)
    assert (np.diff(chosen) <= 1e-6).all()
    assert 0 < chosen.min() <= chosen.max() <= 1
    assert chosen.sum() == pytest.approx(8, rel=2e-4)

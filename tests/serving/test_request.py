"""Requests."""

import pytest

from builders import build_request


def test_a_request_computes_all_it_has_before_it_gets_the_next_token():
    """Missing is what the cache lacks of prompt and generated tokens; decoding is lacking only the last one."""
    request = build_request(prompt=8, output=4)
    assert (request.missing, request.is_decoding) == (8, False)
    request.computed = 8
    request.got_tokens(0, 1)
    assert (request.missing, request.is_decoding) == (1, True)


def test_a_prompt_of_one_token_is_prefilled():
    """A request that has no token yet does not decode, though only one token is missing."""
    assert not build_request(prompt=1).is_decoding


def test_the_last_token_is_never_cached():
    """A request of 8 + 4 tokens ends with 11 in the cache."""
    assert build_request(prompt=8, output=4).most_cached_tokens == 11


@pytest.mark.parametrize(
    ("runs", "segments"),
    [([(0, 1), (1, 3)], [(0, 3)]), ([(0, 2), (5, 1)], [(0, 1), (5, 5)]), ([(7, 1)], [(7, 7)])],
)
def test_segments_join_where_no_step_was_missed(runs, segments):
    """Tokens of successive steps are one segment, whatever runs they came in; a gap begins another."""
    request = build_request(output=10)
    for first, steps in runs:
        request.got_tokens(first, steps)
    assert request.segments == segments
    assert request.generated == sum(steps for _, steps in runs)

"""Words of messages."""

import pytest

from gpusim.spelling import counted, unknown_name


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("step",), "0 steps"),
        (1, ("step",), "1 step"),
        (2, ("step",), "2 steps"),
        (1, ("entry", "entries"), "1 entry"),
        (3, ("entry", "entries"), "3 entries"),
    ],
)
def test_one_is_not_many(number, words, text):
    """Numbers agree with their noun."""
    assert counted(number, *words) == text


def test_large_numbers_may_have_separators():
    """Where thousands are parted, their noun agrees all the same."""
    numbers = (1, 999, 1000, 1_234_567)
    assert [counted(n, "token", thousands=",") for n in numbers] == [
        "1 token",
        "999 tokens",
        "1,000 tokens",
        "1,234,567 tokens",
    ]


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (["alpha", "beta"], 'unknown key; did you mean "beta"?'),
        (["x"], "unknown key; known: x"),
        ([], "unknown key"),
        ([f"{n}" for n in range(100)], "unknown key"),
    ],
)
def test_an_unknown_name_comes_with_a_known_one(known, text):
    """The nearest, else all where they are few; nothing is listed where there is nothing."""
    assert unknown_name("betta", known, "key") == text

"""Short names of runs."""

from hypothesis import given
from hypothesis import strategies as st

from gpusim.report.labels import short


def test_short_names_stay():
    """What fits everywhere is not touched."""
    assert short(["chat", "rate=5 /s"]) == {"chat": "chat", "rate=5 /s": "rate=5 /s"}


def test_long_names_keep_what_tells_them_apart():
    """What all begin with goes, up to a whole word; of one alone, and of others that are long, the middle."""
    names = ["llama-3.1-8b-chat-on-a100-tokens-2048", "llama-3.1-8b-chat-on-a100-tokens-2512"]
    assert list(short(names).values()) == ["…2048", "…2512"]
    assert list(short(["base", "llama-3.1-8b-chat-on-a100"]).values()) == [
        "base",
        "llama-3.1-…t-on-a100"[:0] + "llama-3.1-…at-on-a100",
    ]


@given(st.lists(st.text("ab-", min_size=1, max_size=60), min_size=1, max_size=6, unique=True))
def test_labels_differ(names):
    """No two runs have one label."""
    labels = short(names)
    assert list(labels) == names
    assert len(set(labels.values())) == len(names)

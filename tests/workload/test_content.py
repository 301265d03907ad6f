"""What requests begin with: keys that never meet, and spans held against the tokens they stand for."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from gpusim.workload.content import (
    HASH_BLOCK,
    MOST_STREAMS,
    Kind,
    begins_with,
    hashed_blocks,
    hashed_tokens,
    key,
    renamed,
    shared_tokens,
)

NAMES = st.integers(0, 2**70) | st.text(max_size=12) | st.sampled_from(["1", "01", " 1", "-1", "1" * 30])
KINDS = st.sampled_from(Kind)


def text_of(content, length, own):
    """Write out the first *length* tokens: (key, position in its sequence), and what is nobody else's behind them."""
    tokens = [(name, position) for name, size in content for position in range(size)][:length]
    return tokens + [(own, position) for position in range(length - len(tokens))]


def common(one, other):
    """Count the equal tokens at the beginning of two texts."""
    pairs = zip(one, other, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@given(st.lists(st.tuples(KINDS, NAMES), min_size=2, max_size=8))
def test_keys_differ_where_kinds_or_names_do(named):
    """A prefix, a prompt and a session of the same name are different texts; a number is the same written or not."""
    keys = [key(kind, name) for kind, name in named]
    apart = {(kind, str(name)) for kind, name in named}
    assert len(set(keys)) == len(apart)
    assert all(0 <= each < 2**60 // MOST_STREAMS for each in keys)
    assert all(each % 8 == kind for each, (kind, _) in zip(keys, named, strict=True))


def test_keys_are_the_same_in_every_process():
    """They do not come from Python's own hashes, which are salted."""
    code = "from gpusim.workload.content import Kind, key; print(key(Kind.SESSION, 'abc'), key(Kind.PREFIX, '7'))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert printed == {f"{key(Kind.SESSION, 'abc')} {key(Kind.PREFIX, '7')}\n"}


CONTENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=4).map(tuple)


@given(CONTENTS, CONTENTS)
def test_what_two_contents_share_is_what_their_tokens_do(one, other):
    """Spans agree as far as the token sequences they stand for, written out, are equal."""
    sizes = [sum(size for _, size in content) for content in (one, other)]
    assert shared_tokens(one, other) == common(text_of(one, sizes[0], "a"), text_of(other, sizes[1], "b"))


@given(st.lists(st.integers(0, 3), max_size=80), st.lists(st.integers(0, 3), max_size=80))
def test_known_tokens_are_shared_in_whole_blocks(one, other):
    """Two texts share the blocks that are equal with all before them, and a last part only if it is equal as well."""
    same = common(one, other)
    shared = shared_tokens(hashed_tokens(one), hashed_tokens(other))
    if one == other:
        assert shared == len(one)
    else:
        assert shared == same // 16 * 16


def test_hashed_blocks_are_mooncakes():
    """6755 tokens are 13 blocks of 512 and one of 99; a shorter last block agrees with a longer one as far as it goes."""
    content = hashed_blocks(range(14), 6755)
    assert [size for _, size in content] == [HASH_BLOCK] * 13 + [99]
    assert shared_tokens(content, hashed_blocks(range(14), 6700)) == 6700
    assert shared_tokens(content, hashed_blocks([0, 1, 77], 1100)) == 2 * HASH_BLOCK
    assert hashed_blocks([], 5) == ()


def test_a_prefix_takes_its_tokens_from_what_follows():
    """The total stays; a prefix that is all of the prompt leaves nothing."""
    assert begins_with(((1, 10),), ((2, 30),)) == ((1, 10), (2, 20))
    assert begins_with(((1, 10),), ((2, 10),)) == ((1, 10),)
    assert begins_with((), ((2, 10),)) == ((2, 10),)
    assert begins_with(((1, 10),), ()) == ((1, 10),)


@given(CONTENTS, CONTENTS, st.integers(1, 5))
def test_streams_that_are_merged_have_no_text_in_common(one, other, of):
    """Renamed keys agree within a stream as before, and never between two."""
    alike = shared_tokens(renamed(one, of - 1, of), renamed(other, of - 1, of))
    assert alike == shared_tokens(one, other)
    if of > 1:
        assert shared_tokens(renamed(one, 0, of), renamed(other, 1, of)) == 0

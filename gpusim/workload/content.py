"""What requests begin with: spans of tokens named by keys, which are whole numbers that mean the same in every process."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Final, TypeAlias

Content: TypeAlias = tuple[tuple[int, int], ...]
"""Spans (key, tokens) that a request begins with. A key, from 0 to 2^60, stands for one endless sequence of tokens, so two
requests begin with the same tokens as far as their spans agree in key; after a span that is shorter than the other's they
differ. The spans may go on into the generated tokens, which the next turn of a conversation repeats; what follows them is
nobody else's."""

HASH_BLOCK: Final = 512
"""Tokens of a block that Mooncake's traces hash."""
_BITS: Final = 50
"""Names that are whole numbers of so many bits are themselves, others their hash of so many."""
MOST_STREAMS: Final = 64
"""Streams that can be merged: with the bits of names, kinds and of how names are meant, keys stay below 2^60."""
_NUM_KINDS: Final = 8


class Kind(IntEnum):
    """What a key names; keys of different kinds never meet."""

    PREFIX = 0
    PROMPT = 1
    SESSION = 2
    HASH = 3
    TOKENS = 4


def key(kind: Kind, name: int | str) -> int:
    """Return the key of *name*: below 2^54, and the same in every process.

    Two texts of a kind have the same key with a probability of 9e-16; any two among a million of them, of 4e-4.
    """
    if isinstance(name, str) and name.isascii() and name.isdecimal() and str(int(name[:18])) == name:
        name = int(name)
    if isinstance(name, int) and 0 <= name < 1 << _BITS:
        return (name << 1) * _NUM_KINDS + kind
    return (_hashed(blake2b(str(name).encode(), digest_size=7).digest()) << 1 | 1) * _NUM_KINDS + kind


def _hashed(digest: bytes) -> int:
    return int.from_bytes(digest) >> 8 * len(digest) - _BITS


def hashed_blocks(ids: Sequence[int], prompt_tokens: int) -> Content:
    """Return the content of a prompt whose blocks of `HASH_BLOCK` tokens have *ids*; the last may be shorter."""
    rest = prompt_tokens - HASH_BLOCK * (len(ids) - 1)
    spans = [(key(Kind.HASH, name), HASH_BLOCK) for name in ids]
    if spans:
        spans[-1] = (spans[-1][0], min(HASH_BLOCK, rest))
    return tuple(spans)


def hashed_tokens(tokens: Sequence[int], block: int = 16) -> Content:
    """Return the content of a text of which all *tokens* are known: each *block* of them is named by all up to its end.

    Texts agree as far as their whole blocks do; a last block that is not full agrees with its like only.
    """
    spans, state = [], blake2b(digest_size=7)
    for first in range(0, len(tokens), block):
        part = tokens[first : first + block]
        state.update(",".join(map(str, part)).encode() + b";")
        spans.append((key(Kind.TOKENS, _hashed(state.digest())), len(part)))
    return tuple(spans)


def begins_with(prefix: Content, rest: Content) -> Content:
    """Return *rest* with the spans of *prefix* before it, and as many tokens less in its one span."""
    if not prefix or not rest:
        return prefix or rest
    ((name, tokens),) = rest
    left = tokens - sum(size for _, size in prefix)
    return (*prefix, (name, left)) if left > 0 else prefix


def renamed(content: Content, number: int, of: int) -> Content:
    """Return *content* with keys that no other of *of* streams has, for the stream of that *number*."""
    return tuple((name * of + number, tokens) for name, tokens in content)


def shared_tokens(one: Content, other: Content) -> int:
    """Return how many tokens two contents have in common at their beginning."""
    shared = 0
    for (name, tokens), (other_name, other_tokens) in zip(one, other, strict=False):
        if name != other_name:
            break
        shared += min(tokens, other_tokens)
        if tokens != other_tokens:
            break
    return shared

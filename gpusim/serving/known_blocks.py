"""Full KV blocks whose content is known, by what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from gpusim.serving.request import Request

NOWHERE: Final = -1


class CachedBlock:
    """A full block whose content is known."""

    __slots__ = ("block", "key", "later", "position", "since", "users")

    def __init__(self, key: int, since: int) -> None:
        self.key = key
        self.since = since
        """When it became known: ascending with the step that filled it, and in a step with the order of admission."""
        self.later: CachedBlock | None = None
        """The next one that holds the same."""
        self.users = 1
        """Running requests that have it."""
        self.position = NOWHERE
        """In the queue of free blocks, while it has no users."""
        self.block = NOWHERE
        """Its number, as soon as it is known."""


class Filled(NamedTuple):
    """Blocks of a request that became known."""

    step: int
    request: Request
    first: int
    """Place of the first in the request's table."""
    blocks: list[CachedBlock]


class Shared(NamedTuple):
    """Known blocks that a request begins with."""

    step: int
    request: Request
    blocks: list[CachedBlock]
    num_pulled: int
    """Those of them that were free."""


class Released(NamedTuple):
    """The blocks of a request that is over or preempted."""

    step: int
    request: Request
    kept: list[int]
    """Places in its table of blocks that others still use."""
    num_freed: int


Event: TypeAlias = Filled | Shared | Released


class KnownBlocks:
    """Blocks by their keys; of those that hold the same, the one known longest is the first."""

    def __init__(self) -> None:
        self._first: dict[int, CachedBlock] = {}

    def __len__(self) -> int:
        """Count the different keys."""
        return len(self._first)

    def find(self, keys: Iterable[int], head: int) -> list[CachedBlock]:
        """Return a block for each of the first of *keys*, up to one that has none that is in use or free.

        Args:
            keys: Of blocks that follow each other.
            head: Of the queue of free blocks; those that stood before it are gone.
        """
        found: list[CachedBlock] = []
        for key in keys:
            block = self._first.get(key)
            while block is not None and not block.users and block.position < head:
                block = block.later
            if block is None:
                break
            found.append(block)
        return found

    def add(self, blocks: Iterable[CachedBlock]) -> None:
        """Make *blocks* known."""
        first = self._first
        for block in blocks:
            earliest = first.setdefault(block.key, block)
            if earliest is not block:
                self._line_up(block, earliest)

    def _line_up(self, block: CachedBlock, earliest: CachedBlock) -> None:
        """Put a block among those that hold the same, by the time since when they are known."""
        if block.since < earliest.since:
            self._first[block.key] = block
            block.later = earliest
            return
        before = earliest
        while before.later is not None and before.later.since <= block.since:
            before = before.later
        block.later, before.later = before.later, block

    def forget(self, block: CachedBlock) -> None:
        """Know *block* no more."""
        before = self._first[block.key]
        if before is block:
            if block.later is None:
                del self._first[block.key]
            else:
                self._first[block.key] = block.later
            return
        while before.later is not block:
            assert before.later is not None, "every known block stands in the row of its key"
            before = before.later
        before.later = block.later

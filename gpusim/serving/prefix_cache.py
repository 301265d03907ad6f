"""Which full KV blocks are known by what they hold, so that requests that begin alike share them; as in vLLM.

A block becomes known when the step that fills it is scheduled. Free blocks stay known in the queue of free blocks, in which
those of a request stand last block first, until they come to its front and are taken for something else; a request that
begins with what they hold takes them out of the middle (`KnownFree`).

Steps are planned ahead and may be taken back: every change is written down with what undoes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gpusim.serving.known_blocks import NOWHERE, CachedBlock, Event, Filled, KnownBlocks, Released, Shared
from gpusim.serving.known_free import KnownFree
from gpusim.serving.prefix_keys import block_keys, own_keys
from gpusim.serving.request import Request

_ORDERS: Final = 40
"""Bits for the number of a request's admission, beside a step."""


class Mark(NamedTuple):
    """A state to come back to."""

    num_changes: int
    num_events: int
    tail: int
    num_pulled: int


class PrefixCache:
    """The known blocks of one engine.

    Args:
        num_blocks: Of the pool.
        block_size: Tokens in a block.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.events: list[Event] = []
        """What happened since `settle`, in order."""
        self._known = KnownBlocks()
        self._free = KnownFree(num_blocks)
        self._held: dict[Request, list[CachedBlock]] = {}
        self._growing: dict[int, dict[Request, None]] = {}
        self._undo: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    @property
    def holes(self) -> list[int]:
        """Ascending positions in the queue of free blocks from which blocks were pulled; those far behind are left out."""
        return self._free.holes

    def mark(self) -> Mark:
        """Return the state as it is now; good until `settle`."""
        return Mark(len(self._undo), len(self.events), self._free.tail, self._free.num_pulled)

    def rewind(self, mark: Mark) -> None:
        """Come back to an earlier state."""
        while len(self._undo) > mark.num_changes:
            undo, arguments = self._undo.pop()
            undo(*arguments)
        del self.events[mark.num_events :]
        self._free.tail, self._free.num_pulled = mark.tail, mark.num_pulled

    def settle(self, free_blocks: int) -> None:
        """Forget how to come back, and the blocks that are gone for good."""
        self._undo.clear()
        self.events.clear()
        for block in self._free.pass_by(free_blocks):
            self._known.forget(block)

    def close_holes(self) -> None:
        """Move the free blocks behind holes up, so that there are none; right after `settle`."""
        self._free.close_holes()

    def find(self, request: Request, free_blocks: int) -> list[CachedBlock]:
        """Return the longest row of known blocks with which what *request* must compute begins, but for its last token.

        Args:
            request: That waits.
            free_blocks: Free now, those left out that the step has taken already.
        """
        keys = self._keys(request)
        most = (request.target - 1) // self.block_size
        return self._known.find(keys[:most], self._free.head(free_blocks))

    def growing_like(self, request: Request) -> list[Request]:
        """Return the running requests whose generated tokens *request* may begin with, in order of admission."""
        if not request.content or request.content[0][0] not in self._growing:
            return []
        return sorted(self._growing[request.content[0][0]], key=lambda other: other.order)

    def share(self, request: Request, blocks: list[CachedBlock], step: int) -> int:
        """Let *request*, which is admitted, begin with *blocks*; return how many of them were free."""
        pulled = [block for block in blocks if not block.users]
        for block in blocks:
            block.users += 1
        positions = self._free.pull(pulled)
        self._undo.append((self._unshare, (blocks, pulled, positions)))
        if blocks or request.content:
            self._held[request] = list(blocks)
            self._undo.append((self._held.pop, (request,)))
            self._grow(request)
        if blocks:
            self.events.append(Shared(step, request, blocks, len(pulled)))
        return len(pulled)

    def note(self, request: Request, num_tokens: int, step: int) -> None:
        """Make known the blocks with stated content that the first *num_tokens* tokens of a running request fill."""
        if request.content:
            self._fill(request, self._keys(request), num_tokens, step)

    def release(self, request: Request, num_tokens: int, step: int, *, resumes: bool) -> int:
        """Take a request's blocks; return how many of them are free now.

        Args:
            request: That is over or preempted.
            num_tokens: It had in the cache.
            step: The last it took part in.
            resumes: Whether it will come back, and look for what it had.
        """
        if resumes:
            self._keep_own(request, num_tokens, step)
        else:
            self.note(request, num_tokens, step)
        num_blocks = -(-num_tokens // self.block_size)
        held = self._held.pop(request, None)
        if held is None:
            self._free.tail += num_blocks
            return num_blocks
        self._undo.append((self._held.__setitem__, (request, held)))
        self._shrink(request)
        num_unknown = num_blocks - len(held)
        kept, num_freed = self._give_up(held, self._free.tail + num_unknown)
        freed_blocks = num_unknown + num_freed
        self._free.tail += freed_blocks
        if not resumes:
            self._undo.append((setattr, (request, "block_keys", request.block_keys)))
            request.block_keys = None
        self.events.append(Released(step, request, kept, freed_blocks))
        return freed_blocks

    def _give_up(self, held: list[CachedBlock], first: int) -> tuple[list[int], int]:
        """Take a user from each block, the last first; return the places of those still in use, and how many are free.

        Args:
            held: The blocks.
            first: Position in the queue of the first that is free.
        """
        kept: list[int] = []
        freed: list[CachedBlock] = []
        for place in range(len(held) - 1, -1, -1):
            block = held[place]
            block.users -= 1
            if block.users:
                kept.append(place)
            else:
                block.position = first + len(freed)
                freed.append(block)
        self._undo.append((_take_back, (held,)))
        if freed:
            self._free.released.append((first, freed))
            self._undo.append((self._free.released.pop, ()))
        return kept, len(freed)

    def _keep_own(self, request: Request, num_tokens: int, step: int) -> None:
        """Make known all full blocks of a request that will look for them."""
        keys = self._keys(request)
        full = num_tokens // self.block_size
        if len(keys) < full:
            # A list of its own: keys may still be those of the content alone, if this is undone.
            keys = request.block_keys = keys + own_keys(request, len(keys), full)
        if full and request not in self._held:
            self._held[request] = []
            self._undo.append((self._held.pop, (request,)))
        self._fill(request, keys, num_tokens, step)

    def _fill(self, request: Request, keys: list[int], num_tokens: int, step: int) -> None:
        held = self._held.get(request)
        full = min(num_tokens // self.block_size, len(keys))
        if held is None or full <= len(held):
            return
        first = len(held)
        blocks = self._blocks(request, keys, range(first, full), step)
        self._known.add(blocks)
        held += blocks
        self._undo.append((self._unfill, (held, blocks)))
        self.events.append(Filled(step, request, first, blocks))

    def _blocks(self, request: Request, keys: list[int], places: range, step: int) -> list[CachedBlock]:
        """Return new blocks; a request fills those of a prompt chunk in *step*, others one by one before it."""
        order = request.order
        if request.first_decode < 0 or places.stop * self.block_size <= request.target:
            since = (step << _ORDERS) + order
            return [CachedBlock(key, since) for key in keys[places.start : places.stop]]
        filled = [self._filled_in(request, place, step) for place in places]
        return [CachedBlock(keys[place], (at << _ORDERS) + order) for place, at in zip(places, filled, strict=True)]

    def _filled_in(self, request: Request, place: int, step: int) -> int:
        """Return the step that fills a block: *step*, or one before it in which the request decoded."""
        last_token = (place + 1) * self.block_size - 1
        if request.first_decode < 0 or last_token < request.target:
            return step
        return request.first_decode + last_token - request.target

    def _keys(self, request: Request) -> list[int]:
        if request.block_keys is None:
            request.block_keys = block_keys(request, self.block_size)
        return request.block_keys

    def _grow(self, request: Request) -> None:
        """Note a request whose generated tokens others may begin with."""
        if sum(tokens for _, tokens in request.content) > request.prompt_tokens:
            self._grow_by(request)
            self._undo.append((self._shrink_by, (request,)))

    def _shrink(self, request: Request) -> None:
        if request.content and request in self._growing.get(request.content[0][0], ()):
            self._shrink_by(request)
            self._undo.append((self._grow_by, (request,)))

    def _grow_by(self, request: Request) -> None:
        self._growing.setdefault(request.content[0][0], {})[request] = None

    def _shrink_by(self, request: Request) -> None:
        alike = self._growing[request.content[0][0]]
        del alike[request]
        if not alike:
            del self._growing[request.content[0][0]]

    def _unfill(self, held: list[CachedBlock], blocks: list[CachedBlock]) -> None:
        del held[len(held) - len(blocks) :]
        for block in blocks:
            self._known.forget(block)

    def _unshare(self, blocks: list[CachedBlock], pulled: list[CachedBlock], positions: list[int]) -> None:
        for block in blocks:
            block.users -= 1
        self._free.put_back(pulled, positions)


def _take_back(held: list[CachedBlock]) -> None:
    for block in held:
        block.users += 1
        block.position = NOWHERE

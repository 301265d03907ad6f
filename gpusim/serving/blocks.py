"""What steps do to KV blocks before and after they pass: taken, moved to host memory and back, kept there."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import simpy

from gpusim.core.arrays import IntArray
from gpusim.core.clock import Clock
from gpusim.core.component import Process
from gpusim.serving.commit import Commit
from gpusim.serving.host_blocks import Mover
from gpusim.serving.kv_cache import KvCache, Tenures
from gpusim.serving.kv_channels import KvChannels
from gpusim.serving.offload import HostStore
from gpusim.serving.outlook import Outlook
from gpusim.serving.request import Request


class Blocks:
    """Gives the steps of an outlook their KV blocks.

    Args:
        clock: Of the simulation.
        kv: The blocks.
        channels: Where they lie; None if memory has no channels.
        commit: Takes blocks from whom an outlook preempts.
        mover: Moves blocks to host memory and back; None: none ever move.
        store: KV of finished requests in host memory; None: none is kept.
    """

    def __init__(
        self,
        clock: Clock,
        kv: KvCache,
        channels: KvChannels | None,
        commit: Commit,
        *,
        mover: Mover | None = None,
        store: HostStore | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._kv = kv
        self._channels = channels
        self._commit = commit
        self._mover = mover
        self._sending: simpy.Event | None = None
        """Copy to host memory that was begun last."""

    def place(self, outlook: Outlook) -> Sequence[IntArray] | None:
        """Take the blocks of all steps; return the bytes each reads on each channel, (steps, channels) by kind of KV."""
        self._commit.preempt(outlook, self._clock.now)
        self._keep([entry for entry in outlook.preempted if entry not in outlook.swapped_out], self._clock.now)
        tenures = Tenures.of(outlook)
        self._kv.take(outlook, tenures)
        return None if self._channels is None else self._channels.look_ahead(outlook, tenures)

    def move(self, outlook: Outlook) -> Generator[simpy.Event, Any, int]:
        """Move the blocks that *outlook* swaps; return the ticks that its first step waits for them."""
        start = self._clock.now
        out, back = (
            sum(self._kv.blocks_for(cached) for _, cached in swapped)
            for swapped in (outlook.swapped_out, outlook.swapped_in)
        )
        yield from self._move(out, to_host=True)
        yield from self._move(back + sum(count for *_, count in outlook.restored), to_host=False)
        return self._clock.now - start

    def keep(self, outlook: Outlook, ends: IntArray) -> None:
        """Have host memory keep what requests leave that are over in steps with these *ends*, as each is over."""
        if self._store is None:
            return
        for entry in outlook.restored:
            self._store.bring_back(*entry)
        for step, request in outlook.finished:
            if step < len(ends):
                self._keep([(request, request.most_cached_tokens)], int(ends[step]))

    def _keep(self, left: Sequence[tuple[Request, int]], tick: int) -> None:
        """Have the blocks of requests with the tokens in them set out for host memory at *tick*; nobody waits for them."""
        if self._store is None or not left:
            return
        for request, cached in left:
            self._store.keep(request, cached)
        num_blocks = self._store.take_pending()
        if num_blocks:
            self._clock.call_in(tick - self._clock.now, lambda _: self._send(num_blocks))

    def _send(self, num_blocks: int) -> None:
        assert self._mover is not None, "only who can move blocks stores them"
        self._sending = self._clock.env.process(self._mover.store(num_blocks, behind=self._sending))

    def _move(self, num_blocks: int, *, to_host: bool) -> Process:
        if num_blocks:
            assert self._mover is not None, "only who can move blocks swaps them"
            yield from self._mover.move(num_blocks, to_host=to_host)

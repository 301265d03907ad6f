"""Who waits, computes a prompt and decodes: all that deciding about the next steps needs to know.

A roster is small, so steps are planned ahead on a copy of it. Those who decode are a few sums (`Decodes`), and count in
*rounds*: the steps without those in which they paused.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from gpusim.serving.batch import Batch
from gpusim.serving.decodes import Decodes
from gpusim.serving.known_blocks import CachedBlock
from gpusim.serving.offload import HostStore
from gpusim.serving.policy import Key
from gpusim.serving.prefix_cache import Mark, PrefixCache
from gpusim.serving.request import Request
from gpusim.serving.reserve import NOTHING, Reserve


@dataclass(slots=True)
class Roster:
    """The requests of an engine before its next step."""

    decodes: Decodes
    free_blocks: int
    reserve: Reserve = NOTHING
    """What requests get at their admission."""
    key: Key | None = None
    """Orders those who wait; None: as they came."""
    step: int = 0
    """Number of the next step."""
    num_admitted: int = 0
    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    """In order of admission."""
    prefilling: dict[Request, int] = field(default_factory=dict)
    """Those of them that compute what they had at admission, with the tokens computed; in order of admission."""
    ready: list[Request] = field(default_factory=list)
    """Those that have computed it and do not decode yet."""
    unread: dict[Request, None] = field(default_factory=dict)
    """Running requests whose KV the last batch did not read."""
    free_slots: list[int] = field(default_factory=list)
    num_slots: int = 0
    num_idle: int = 0
    """Of the last batch; see `Batch.num_idle`."""
    lags: bool = False
    """Whether the batch of the next step is fixed when a step starts, before those are gone who are over in it."""
    fixed: int = 0
    """Tick at which the batch of the next step was fixed, if this lags: start of the last step."""
    leaving: list[Request] = field(default_factory=list)
    """Requests that are over and hold their seats and blocks until the next batch is fixed."""
    gone: list[tuple[int, int, Request]] = field(default_factory=list)
    """Those who left since this was last emptied, with the step that makes it final and the one from which on it holds."""
    swapped: dict[Request, int] = field(default_factory=dict)
    """Preempted requests whose blocks are in host memory, with the tokens in them; first come, first served."""
    free_host_blocks: int = 0
    """Blocks that host memory has room for; 0 where nothing is swapped."""
    watermark_blocks: int = 0
    """Blocks that admission leaves free while anybody runs."""
    store: HostStore | None = None
    """KV of finished requests in host memory."""
    num_released: int = 0
    """Blocks that requests have given back since the start."""
    prefix: PrefixCache | None = None
    """Blocks known by what they hold; shared by all copies of a roster, of which one at a time may go on."""
    mark: Mark | None = None
    """The state of `prefix` as this roster was made."""
    block_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.block_size = self.decodes.block_size
        if self.mark is None and self.prefix is not None:
            self.mark = self.prefix.mark()

    def rewind(self) -> None:
        """Bring back what this roster shares with its copies to what it was when it was made."""
        if self.prefix is not None:
            assert self.mark is not None, "a roster with a prefix cache marks its state"
            self.prefix.rewind(self.mark)

    def settle(self) -> None:
        """Note that there is no way back to an earlier roster."""
        if self.prefix is not None:
            self.prefix.settle(self.free_blocks)
            self.mark = self.prefix.mark()

    def copy(self) -> Roster:
        """Return a roster that can go on instead of this one."""
        return Roster(
            self.decodes.copy(),
            self.free_blocks,
            self.reserve,
            self.key,
            self.step,
            self.num_admitted,
            self.waiting.copy(),
            self.running.copy(),
            self.prefilling.copy(),
            self.ready.copy(),
            self.unread.copy(),
            self.free_slots.copy(),
            self.num_slots,
            self.num_idle,
            self.lags,
            self.fixed,
            self.leaving.copy(),
            self.gone.copy(),
            self.swapped.copy(),
            self.free_host_blocks,
            self.watermark_blocks,
            self.store,
            self.num_released,
            self.prefix,
        )

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody is there to compute for."""
        return not (self.running or self.waiting or self.swapped)

    @property
    def kept_blocks(self) -> int:
        """Blocks that admission leaves free: those of the watermark, as long as anybody runs who could need them."""
        return self.watermark_blocks if self.running else 0

    @property
    def num_seated(self) -> int:
        """Requests that count against the most that may run."""
        return len(self.running) + len(self.leaving)

    def join(self, request: Request) -> None:
        """Have a request wait that arrives."""
        if self.key is None:
            self.waiting.append(request)
        else:
            insort(self.waiting, request, key=self.key)

    def part(self, is_early: Callable[[Request], bool]) -> int:
        """Take out those who wait and were expected too early, the last to arrive; return how many."""
        number = len(self.waiting)
        if self.key is None:
            while self.waiting and is_early(self.waiting[-1]):
                self.waiting.pop()
        else:
            self.waiting = deque(request for request in self.waiting if not is_early(request))
        return number - len(self.waiting)

    def first_to_go(self) -> Request:
        """Return the running request that gives way when blocks run out."""
        return self.running[-1] if self.key is None else max(self.running, key=self.key)

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that *num_tokens* tokens fill."""
        return -(-num_tokens // self.block_size)

    def blocks_held(self, request: Request, cached: int) -> int:
        """Blocks that an admitted request holds with *cached* tokens in the cache."""
        if self.reserve is not NOTHING:
            cached = max(cached, self.reserve.tokens(request))
        return -(-cached // self.block_size)

    def find(self, request: Request, free_blocks: int) -> list[CachedBlock]:
        """Return the blocks with which a request that waits can begin; see `PrefixCache.find`."""
        if self.prefix is None:
            return []
        for other in self.prefix.growing_like(request):
            self.prefix.note(other, self.cached(other) + (other.first_decode >= 0), self.step)
        return self.prefix.find(request, free_blocks)

    def note_chunk(self, request: Request, end: int) -> None:
        """Note that the next step computes a running request's tokens up to *end*."""
        if self.prefix is not None and request.content:
            self.prefix.note(request, end, self.step)

    def restorable(self, request: Request, first: int) -> int:
        """Count the blocks of a request that waits that can come from host memory, from its *first* on."""
        return 0 if self.store is None else self.store.find(request, first)

    def may_ask_host(self, max_num_seqs: int, free_blocks: int) -> bool:
        """Tell whether the GPU may lack blocks of somebody who comes next, while at least *free_blocks* are free."""
        if self.store is None or self.prefix is None:
            return False
        coming = islice(self.waiting, max(0, max_num_seqs - len(self.running)))
        return any(
            len(self.prefix.find(request, free_blocks)) < (request.target - 1) // self.block_size
            for request in coming
            if request.content or request.num_preemptions
        )

    def admit(self, request: Request, shared: list[CachedBlock] | None = None, restored: int = 0) -> None:
        """Move the first request that waits among those that run; it begins with *shared* blocks, then *restored* ones."""
        assert request is self.waiting[0]
        self.waiting.popleft()
        self._seat(request)
        request.hit_tokens = self.prefilling[request] = self.block_size * (len(shared or ()) + restored)
        self.free_blocks -= restored
        if self.prefix is not None:
            self.free_blocks -= self.prefix.share(request, shared or [], self.step)
        self.free_blocks -= self.blocks_held(request, 0)

    def swap_in(self) -> tuple[Request, int]:
        """Move the first swapped request among those that run; return it with the tokens it has in the cache."""
        request, cached = next(iter(self.swapped.items()))
        del self.swapped[request]
        self._seat(request)
        self.free_blocks -= self.blocks_for(cached)
        self.free_host_blocks += self.blocks_for(cached)
        if cached < request.target:
            self.prefilling[request] = cached
        else:
            self.ready.append(request)
        return request, cached

    def _seat(self, request: Request) -> None:
        """Let a request run, as the one admitted last."""
        self.running.append(request)
        request.order = self.num_admitted
        request.prompt_step = request.decode_step = request.first_decode = -1
        self.num_admitted += 1
        if not self.free_slots:
            self.free_slots.append(self.num_slots)
            self.num_slots += 1
        request.slot = self.free_slots.pop()

    def begin_decoding(self) -> list[Request]:
        """Have all that are ready decode from the next step on; return them."""
        begun, self.ready = self.ready, []
        for request in begun:
            request.decode_step = self.step
            self.decodes.begin(request)
        return begun

    def preempt(self, request: Request) -> int:
        """Take away the blocks of a running request; return how many tokens it had in the cache.

        If host memory has room for them it is swapped; else it waits in its place, or first, and computes them again.
        """
        self.running.remove(request)
        cached = self.cached(request)
        blocks = self.blocks_for(cached)
        is_swapped = 0 < blocks <= self.free_host_blocks
        self._release(request, cached, resumes=not is_swapped)
        if request in self.prefilling:
            del self.prefilling[request]
        elif request in self.ready:
            self.ready.remove(request)
        else:
            self.decodes.drop(request)
        if is_swapped:
            self.free_host_blocks -= blocks
            swapped = [*self.swapped.items(), (request, cached)]
            self.swapped = dict(sorted(swapped, key=lambda entry: (entry[0].arrival, entry[0].index)))
        elif self.key is None:
            self.waiting.appendleft(request)
        else:
            self.join(request)
        return cached

    def cached(self, request: Request) -> int:
        """Tokens of a running request that are in the cache before the next step."""
        if request in self.prefilling:
            return self.prefilling[request]
        if request in self.ready:
            return request.target
        return request.cached_before(self.decodes.round)

    def needs_block(self, request: Request) -> bool:
        """Tell whether a running request decodes and needs a block for the next step."""
        return request.first_decode >= 0 and self.decodes.needs_block(request)

    def pauses(self, batch: Batch) -> bool:
        """Tell whether decodes pause in *batch*."""
        return batch.num_decodes < self.decodes.number

    def advance(self, batch: Batch, steps: int) -> list[Request]:
        """Let *steps* steps of *batch* pass; return the requests that got their last token in the last of them."""
        decodes = self.decodes
        if self.leaving:
            self.gone += [(self.step, self.step + 1, request) for request in self.let_go()]
        if not self.pauses(batch):
            self.free_blocks -= decodes.blocks_needed(steps)
            decodes.advance(steps)
        self.step += steps
        finished = decodes.ended() if decodes.ends and decodes.ends[0][0] < decodes.round else []
        for request, computed, tokens in batch.chunks:
            self._compute(request, computed, tokens, finished)
        if finished:
            for request in finished:
                self.running.remove(request)
            self.leaving += finished
            if not self.lags:
                self.gone += [(self.step - 1, self.step, request) for request in self.let_go()]
        return finished

    def let_go(self) -> list[Request]:
        """Have those leave who are over; return them."""
        gone, self.leaving = self.leaving, []
        for request in gone:
            self._release(request, request.most_cached_tokens)
        return gone

    def _release(self, request: Request, cached: int, *, resumes: bool = False) -> None:
        """Get back the blocks of a request with *cached* tokens."""
        if self.prefix is None:
            released = self.blocks_held(request, cached)
        else:
            released = self.prefix.release(request, cached, self.step, resumes=resumes)
        self.num_released += released
        self.free_blocks += released

    def _compute(self, request: Request, computed: int, tokens: int, finished: list[Request]) -> None:
        done = computed + tokens
        self.free_blocks -= self.blocks_held(request, done) - self.blocks_held(request, computed)
        if done < request.target:
            self.prefilling[request] = done
            return
        del self.prefilling[request]
        request.prompt_step = self.step - 1
        if done == request.most_cached_tokens:
            finished.append(request)
        else:
            self.ready.append(request)

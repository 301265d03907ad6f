"""Small loads on an engine without a machine: requests by the step before which they arrive, few seats and blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from builders import build_request
from gpusim.serving.decodes import Decodes
from gpusim.serving.prefix_cache import PrefixCache
from gpusim.serving.request import Request
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers import Scheduler, make_scheduler
from gpusim.spec.serving import ServingSpec
from gpusim.workload.stream import Content

SCHEDULERS = ("continuous", "vllm-v0", "orca", "sarathi", "static", "static padded")
POLICIES = ("fcfs", "priority", "sjf")
KINDS = tuple(
    f"{scheduler} {policy}"
    for scheduler in SCHEDULERS
    for policy in POLICIES
    if (scheduler, policy) != ("vllm-v0", "priority")
)
"""All that a load may be served by; the policy may be left out."""


@dataclass
class Load:
    """Requests with the step before which each arrives, for an engine of some size."""

    arrivals: list[tuple[int, int, int]]
    """(step, prompt, output), in order of arrival."""
    max_num_seqs: int
    budget: int
    num_blocks: int
    block_size: int
    contents: list[Content] | None = None
    """What each request begins with, if blocks are shared."""
    host_blocks: int = 0
    """For swapped requests."""
    watermark_blocks: int = 0

    def spec(self, kind: str = "continuous") -> ServingSpec:
        """Return the engine's."""
        words = kind.split()
        return ServingSpec(
            scheduler=words[0],
            pad="padded" in words,
            scheduling_policy=words[-1] if words[-1] in POLICIES else "fcfs",
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.budget,
            block_size=self.block_size,
        )

    def scheduler(self, kind: str) -> Scheduler:
        """Return a scheduler of that *kind*."""
        longest = max(prompt + output for _, prompt, output in self.arrivals)
        return make_scheduler(self.spec(kind), self.num_blocks, longest)

    def roster(self, scheduler: Scheduler, prefix: PrefixCache | None = None, *, lags: bool = False) -> Roster:
        """Return the engine's roster before anybody has come."""
        rules = (scheduler.reserve, scheduler.key)
        roster = Roster(
            Decodes.of(self.block_size, scheduler.reserve), self.num_blocks, *rules, lags=lags, prefix=prefix
        )
        # With steps in flight nothing is swapped.
        roster.free_host_blocks, roster.watermark_blocks = 0 if lags else self.host_blocks, self.watermark_blocks
        return roster

    def fit(self, kind: str) -> Load:
        """Return a load whose requests a scheduler of that *kind* can run, with more blocks or tokens if need be."""
        most = max(prompt + output for _, prompt, output in self.arrivals)
        blocks, budget = -(-most // self.block_size), self.budget
        if kind.startswith(("vllm-v0", "sarathi")):
            blocks += 1
        if kind.startswith("vllm-v0"):
            budget = max(budget, most)
        fits = self.num_blocks if kind.startswith(("continuous", "static")) else max(self.num_blocks, blocks)
        swaps = kind in ("continuous", "continuous fcfs")
        return replace(self, num_blocks=fits, budget=budget, host_blocks=self.host_blocks if swaps else 0)

    def requests(self, *, ticks: int = 1) -> list[Request]:
        """Return the requests; a step takes *ticks*."""
        stated = enumerate(self.arrivals)
        requests = [
            build_request(i, prompt=p, output=o, arrival=step * ticks, priority=(7 * i + p) % 3)
            for i, (step, p, o) in stated
        ]
        for request, content in zip(requests, self.contents or (), strict=False):
            request.content = content
        return requests


@st.composite
def loads(draw: Any, *, seats: int = 5, most: int = 9, longest: int = 12, spare: int = 6) -> Load:
    """Loads in which every request fits alone, but seldom all of them together; with more *spare* blocks plans are longer."""
    max_num_seqs, block_size = draw(st.integers(1, seats)), draw(st.integers(1, 6))
    lengths = st.tuples(st.integers(0, 25), st.integers(1, 20), st.integers(1, longest))
    arrivals = sorted(draw(st.lists(lengths, min_size=1, max_size=most)), key=lambda row: row[0])
    largest = max(-(-(prompt + output - 1) // block_size) for _, prompt, output in arrivals)
    return Load(
        arrivals,
        max_num_seqs,
        budget=draw(st.integers(max_num_seqs, 30)),
        num_blocks=largest + draw(st.integers(0, spare)),
        block_size=block_size,
        host_blocks=draw(st.sampled_from([0, 0, 1, 4, 99])),
        watermark_blocks=draw(st.sampled_from([0, 0, 0, 1, 3])),
    )


@st.composite
def shared_loads(draw: Any, **kwargs: Any) -> Load:
    """Loads whose requests begin alike: whole prompts and parts of them, and texts that go on into what is generated."""
    load = draw(loads(**kwargs))
    spans = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=3)
    load.host_blocks = load.watermark_blocks = 0  # what is swapped comes back as blocks that nobody shares
    load.contents = [fitted(draw(spans), prompt + output) for _, prompt, output in load.arrivals]
    return load


def fitted(spans: list[tuple[int, int]], most: int) -> Content:
    """Return *spans* without what goes beyond *most* tokens."""
    content = []
    for key, tokens in spans:
        if (fits := min(tokens, most)) > 0:
            content.append((key, fits))
        most -= fits
    return tuple(content)

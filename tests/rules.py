"""The schedulers written down as rules, step by step and request by request; blocks are mere numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from loads import Load


@dataclass
class Step:
    """What one step computed: tokens by request, who was preempted for it, and tokens that nobody wants."""

    tokens: list[tuple[int, int]]
    preempted: list[int] = field(default_factory=list)
    num_idle: int = 0

    def described(self) -> tuple[list[tuple[int, int]], list[int], int]:
        """Return what matters of it: decodes and chunks in one order."""
        return sorted(self.tokens), self.preempted, self.num_idle


class Rules:
    """The requests of a load under one scheduler and policy."""

    def __init__(self, load: Load, kind: str) -> None:
        self.load, self.words = load, kind.split()
        self.free, self.free_host = load.num_blocks, load.host_blocks
        self.requests = load.requests()
        self.waiting: list[int] = []
        self.running: list[int] = []
        self.have: dict[int, int] = {}
        self.computed: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.target: dict[int, int] = {}
        """Tokens a request has, those of them computed, blocks it holds, tokens it had at its admission; by request."""
        self.swapped: list[int] = []
        self.kept: dict[int, int] = {}
        """Blocks of host memory, by request."""
        self.longest = (0, 0)
        """Prompt and output of a batch that is padded."""

    def play(self) -> list[Step]:
        """Play all steps, each decided anew."""
        rule = getattr(self, self.words[0].replace("-", "_"))
        steps: list[Step] = []
        coming = list(range(len(self.requests)))
        while coming or self.waiting or self.running or self.swapped:
            while coming and self.requests[coming[0]].arrival <= len(steps):
                number = coming.pop(0)
                self.waiting.append(number)
                self.have[number], self.computed[number] = self.requests[number].prompt_tokens, 0
            self.sort()
            step = Step([])
            rule(step)
            steps.append(step)
            for number, tokens in step.tokens:
                self.compute(number, tokens)
        return steps

    def continuous(self, step: Step) -> None:
        """Running first, in order, each what it misses; then who waits, if nobody was preempted.

        Those in host memory come back before that, as in v0: if any is left there, nobody is admitted.
        """
        budget = self.load.budget
        for number in list(self.running):
            tokens = min(self.have[number] - self.computed[number], budget - sum(n for _, n in step.tokens))
            if number not in self.running or tokens == 0:
                continue
            while number in self.running and not self.hold(number, self.computed[number] + tokens):
                self.preempt(step)
            if number in self.running:
                step.tokens.append((number, tokens))
        self.admit(step, self.swapped, splits=True)
        if not self.swapped:
            self.admit(step, self.waiting, splits=True)

    def sarathi(self, step: Step) -> None:
        """Decodes first, each while a block is free; then the chunk under way; then new prompts, whose blocks are taken whole."""
        prefills = [number for number in self.running if self.computed[number] < self.target[number]]
        for number in list(self.running):
            if number not in prefills:
                self.decode(number, step)
        left = self.load.budget - len(step.tokens)
        for number in prefills:
            if number in self.running:
                step.tokens.append((number, min(self.have[number] - self.computed[number], left)))
                left -= step.tokens[-1][1]
        self.admit(step, self.waiting, splits=True, whole=True)

    def vllm_v0(self, step: Step) -> None:
        """Whole prompts if any can be admitted, and nothing else; or all decodes, each while a block is free."""
        self.admit(step, self.waiting)
        if not step.tokens:
            for number in list(self.running):
                self.decode(number, step)

    def orca(self, step: Step) -> None:
        """All who run decode, and whoever has a seat and the blocks of the longest request is computed whole."""
        step.tokens = [(number, 1) for number in self.running]
        most = max(request.prompt_tokens + request.output_tokens for request in self.requests)
        while self.waiting and len(self.running) < self.load.max_num_seqs:
            if self.free - self.blocks(most) < self.watermark or not self.hold(self.waiting[0], most):
                break
            self.running.append(self.waiting.pop(0))
            step.tokens.append((self.running[-1], self.have[self.running[-1]]))

    def static(self, step: Step) -> None:
        """Take a batch when there is none, with all its blocks; compute all prompts, then all outputs."""
        if not self.running:
            self.fill()
        budget = self.load.budget
        for number in self.running:
            tokens = min(max(0, self.prompt(number) - self.computed[number]), budget)
            budget -= tokens
            step.tokens += [(number, tokens)] if tokens else []
        if not step.tokens:
            step.tokens = [(number, 1) for number in self.running]
            step.num_idle = sum(
                self.computed[n] - self.prompt(n) + 1 >= self.requests[n].output_tokens for n in self.running
            )

    def fill(self) -> None:
        """Take as many of those who wait as there are seats and blocks for, padded or not."""
        while self.waiting and len(self.running) < self.load.max_num_seqs:
            batch = [*self.running, self.waiting[0]]
            prompts, outputs = zip(
                *((self.requests[n].prompt_tokens, self.requests[n].output_tokens) for n in batch), strict=True
            )
            tokens = [prompt + output - 1 for prompt, output in zip(prompts, outputs, strict=True)]
            if "padded" in self.words:
                tokens = [max(prompts) + max(outputs) - 1] * len(batch)
            if sum(self.blocks(n) for n in tokens) > self.load.num_blocks:
                break
            self.running.append(self.waiting.pop(0))
            self.held = {number: self.blocks(n) for number, n in zip(batch, tokens, strict=True)}
            self.longest = max(prompts), max(outputs)
        self.free = self.load.num_blocks - sum(self.held.values())

    def prompt(self, number: int) -> int:
        return self.longest[0] if "padded" in self.words else self.requests[number].prompt_tokens

    def last(self, number: int) -> int:
        """Return how many tokens are computed for a request in all."""
        request = self.requests[number]
        output = self.longest[1] if "padded" in self.words else request.output_tokens
        return self.prompt(number) + output - 1

    @property
    def watermark(self) -> int:
        """Blocks that admissions leave free."""
        return self.load.watermark_blocks if self.running else 0

    def admit(self, step: Step, queue: list[int], *, splits: bool = False, whole: bool = False) -> None:
        """Admit those in *queue*, in order, to what is left of the step's budget."""
        while not step.preempted and queue and len(self.running) < self.load.max_num_seqs:
            number = queue[0]
            left = self.load.budget - sum(tokens for _, tokens in step.tokens)
            missing = self.have[number] - self.computed[number]
            tokens = min(missing, left) if splits else missing
            held = self.have[number] if whole else self.computed[number] + tokens
            if not tokens or tokens > left or self.free - self.blocks(held) < self.watermark:
                break
            assert self.hold(number, held)
            self.free_host += self.kept.pop(number, 0)
            self.running.append(queue.pop(0))
            self.target[number] = self.have[number]
            step.tokens.append((number, tokens))

    def decode(self, number: int, step: Step) -> None:
        """Have a request decode, if it still runs, and keeps running until a block is free."""
        while number in self.running and self.free < 1:
            self.preempt(step)
        if number in self.running:
            assert self.hold(number, self.computed[number] + 1)
            step.tokens.append((number, 1))

    def blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.load.block_size)

    def hold(self, number: int, num_tokens: int) -> bool:
        """Give a request the blocks for so many tokens, if there are."""
        needed = max(0, self.blocks(num_tokens) - self.held.get(number, 0))
        if needed > self.free:
            return False
        self.free -= needed
        self.held[number] = self.held.get(number, 0) + needed
        return True

    def key(self, number: int) -> tuple[int, int, int]:
        request = self.requests[number]
        first = request.priority if "priority" in self.words else request.prompt_tokens + request.output_tokens
        return first, request.arrival, number

    def sort(self) -> None:
        if self.words[-1] in ("priority", "sjf"):
            self.waiting.sort(key=self.key)

    def preempt(self, step: Step) -> None:
        """Take everything from the running request that goes last by the policy, also what this step gave it."""
        victim = max(self.running, key=self.key) if self.words[-1] in ("priority", "sjf") else self.running[-1]
        self.running.remove(victim)
        blocks = self.held.pop(victim)
        self.free += blocks
        step.tokens = [entry for entry in step.tokens if entry[0] != victim]
        step.preempted.append(victim)
        if blocks <= self.free_host:
            self.free_host -= blocks
            self.kept[victim] = blocks
            self.swapped = sorted([*self.swapped, victim])
        else:
            self.computed[victim] = 0
            self.waiting.insert(0, victim)
        self.sort()

    def compute(self, number: int, tokens: int) -> None:
        """Let a request compute tokens; one that has all of them is over."""
        self.computed[number] += tokens
        if self.computed[number] == self.have[number]:
            self.have[number] += 1
        if self.computed[number] == self.last(number):
            self.running.remove(number)
            self.free += self.held.pop(number)

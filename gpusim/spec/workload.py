"""WorkloadSpec: when requests arrive and how long they are."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from gpusim.spec.base import SchemaNumber, Spec, not_yet
from gpusim.units import PerS, Seconds

MOST_TOKENS: Final = 10**9
"""A prompt or output beyond this many tokens is a slip of the pen; it also keeps every draw finite."""

Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class ConstantArrivals(Spec):
    """One request every 1 / rate seconds, the first at 0."""

    kind: Literal["constant"]
    rate: PerS = Field(gt=0)


class PoissonArrivals(Spec):
    """Independent arrivals: exponential gaps."""

    kind: Literal["poisson"]
    rate: PerS = Field(gt=0)


class GammaArrivals(Spec):
    """Gamma-distributed gaps, as vLLM's benchmark: burstiness below 1 bunches requests, 1 is Poisson."""

    kind: Literal["gamma"]
    rate: PerS = Field(gt=0)
    burstiness: float = Field(default=1.0, gt=0)
    """Shape of the gamma distribution; the coefficient of variation of the gaps is 1 / sqrt(burstiness)."""


class ClosedArrivals(Spec):
    """A fixed number of clients; each sends its next request when its last one finished."""

    kind: Literal["closed"]
    concurrency: int = Field(ge=1)


class AtOnceArrivals(Spec):
    """All requests at time 0."""

    kind: Literal["at_once"]


ArrivalsSpec = Annotated[
    ConstantArrivals | PoissonArrivals | GammaArrivals | ClosedArrivals | AtOnceArrivals, Field(discriminator="kind")
]


class FixedLength(Spec):
    """Every request has this length."""

    kind: Literal["fixed"]
    value: Tokens

    @property
    def shortest(self) -> int:
        """Fewest tokens it can be."""
        return self.value


class UniformLength(Spec):
    """Whole tokens from low to high, both included, equally likely."""

    kind: Literal["uniform"]
    low: Tokens
    high: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> UniformLength:
        if self.high < self.low:
            raise ValueError(f"high = {self.high} is below low = {self.low}")
        return self

    @property
    def shortest(self) -> int:
        """Fewest tokens it can be."""
        return self.low


class LognormalLength(Spec):
    """Log-normal, stated by its median and 99th percentile."""

    kind: Literal["lognormal"]
    median: float = Field(ge=1, le=MOST_TOKENS)
    p99: float = Field(ge=1, le=MOST_TOKENS)
    max: Tokens | None = None
    """Longer draws are cut to this length."""

    @model_validator(mode="after")
    def _ordered(self) -> LognormalLength:
        if self.p99 < self.median:
            raise ValueError(f"p99 = {self.p99:g} is below median = {self.median:g}")
        return self

    @property
    def shortest(self) -> int:
        """Fewest tokens it can be."""
        return 1


class QuantileLength(Spec):
    """Piecewise linear between the stated quantiles."""

    kind: Literal["quantiles"]
    quantiles: dict[float, float]
    """Probability to tokens, from 0 (the shortest) to 1 (the longest)."""

    @model_validator(mode="after")
    def _is_a_distribution(self) -> QuantileLength:
        levels = sorted(self.quantiles)
        values = [self.quantiles[level] for level in levels]
        if len(levels) < 2 or levels[0] != 0 or levels[-1] != 1:
            raise ValueError("quantiles must reach from 0 (the shortest length) to 1 (the longest)")
        if values[0] < 1 or values[-1] > MOST_TOKENS:
            raise ValueError(f"lengths are from 1 to {MOST_TOKENS} tokens, not {values[0]:g} to {values[-1]:g}")
        for level, shorter, longer in zip(levels[1:], values, values[1:], strict=False):
            if longer < shorter:
                raise ValueError(f"quantiles must not decrease: {longer:g} tokens at {level:g} follow {shorter:g}")
        return self

    @property
    def shortest(self) -> int:
        """Fewest tokens it can be."""
        return int(self.quantiles[0.0])


LengthSpec = Annotated[FixedLength | UniformLength | LognormalLength | QuantileLength, Field(discriminator="kind")]


class WorkloadSpec(Spec):
    """A stream of requests: drawn (arrivals and lengths) or read from a trace."""

    schema_number: SchemaNumber = Field(default=1, alias="schema")
    name: str = ""
    source: str = ""
    arrivals: ArrivalsSpec | None = None
    prompt_tokens: LengthSpec | None = None
    output_tokens: LengthSpec | None = None
    trace: str | None = None
    """Path of a CSV file: arrival_s, prompt_tokens, output_tokens, or the columns of the Azure LLM trace."""
    num_requests: int | None = Field(default=None, ge=1)
    """Stop after this many; of a trace, its first ones."""
    duration: Seconds | None = Field(default=None, gt=0)
    """Or stop with the last arrival before this time."""
    seed: int | None = Field(default=None, ge=0)
    """Default: the scenario's seed."""

    @model_validator(mode="after")
    def _is_complete(self) -> WorkloadSpec:
        drawn = (self.arrivals, self.prompt_tokens, self.output_tokens)
        if self.trace is not None:
            if any(part is not None for part in drawn):
                raise ValueError(
                    "a trace states arrivals and lengths; leave out arrivals, prompt_tokens, output_tokens"
                )
            return self
        names = ("arrivals", "prompt_tokens", "output_tokens")
        missing = [name for name, part in zip(names, drawn, strict=True) if part is None]
        if missing:
            raise ValueError(f"{' and '.join(missing)} must be stated (or a trace)")
        if self.num_requests is None and self.duration is None:
            raise ValueError("say when to stop: num_requests or duration")
        if self.num_requests is None and isinstance(self.arrivals, AtOnceArrivals | ClosedArrivals):
            raise ValueError(f"{self.arrivals.kind} arrivals need num_requests")
        if self.duration is not None and isinstance(self.arrivals, ClosedArrivals):
            raise not_yet("duration with closed arrivals; use num_requests alone")
        return self

    @property
    def shortest_request(self) -> int:
        """Fewest tokens, prompt and output, that a request can have; 0 where only the trace knows."""
        if self.prompt_tokens is None or self.output_tokens is None:
            return 0
        return self.prompt_tokens.shortest + self.output_tokens.shortest

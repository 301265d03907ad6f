"""Distributions that a workload states: of lengths in tokens, and of the time a client thinks."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from gpusim.spec.base import Spec
from gpusim.units import Seconds

MOST_TOKENS: Final = 10**9
"""A prompt or output beyond this many tokens is a slip of the pen; it also keeps every draw finite."""

Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class FixedLength(Spec):
    """Every request has this length."""

    kind: Literal["fixed"]
    value: Tokens
    """Tokens."""

    @property
    def shortest(self) -> int:
        """Fewest tokens it can be."""
        return self.value


class UniformLength(Spec):
    """Whole tokens from low to high, both included, equally likely."""

    kind: Literal["uniform"]
    low: Tokens
    """Fewest tokens."""
    high: Tokens
    """Most tokens."""

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
    """Tokens, before longer draws are cut."""
    p99: float = Field(ge=1, le=MOST_TOKENS)
    """Likewise, of the 99th percentile."""
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


class FixedTime(Spec):
    """Always the same."""

    kind: Literal["fixed"]
    value: Seconds = Field(ge=0)
    """The time."""


class ExponentialTime(Spec):
    """Exponential, stated by its mean."""

    kind: Literal["exponential"]
    mean: Seconds = Field(gt=0)
    """Mean time."""


class LognormalTime(Spec):
    """Log-normal, stated by its median and 99th percentile."""

    kind: Literal["lognormal"]
    median: Seconds = Field(gt=0)
    """Median time."""
    p99: Seconds = Field(gt=0)
    """99th percentile."""

    @model_validator(mode="after")
    def _ordered(self) -> LognormalTime:
        if self.p99 < self.median:
            raise ValueError(f"p99 = {self.p99:g} s is below median = {self.median:g} s")
        return self


TimeSpec = Annotated[FixedTime | ExponentialTime | LognormalTime, Field(discriminator="kind")]

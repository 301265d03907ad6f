"""ArrivalsSpec: when requests, or sessions of them, come."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gpusim.spec.base import Spec
from gpusim.spec.lengths import TimeSpec
from gpusim.units import PerS, Seconds


class ConstantArrivals(Spec):
    """One request every 1 / rate seconds, the first at 0."""

    kind: Literal["constant"]
    rate: PerS = Field(gt=0)
    """Requests, or sessions, in a time."""


class PoissonArrivals(Spec):
    """Independent arrivals: exponential gaps."""

    kind: Literal["poisson"]
    rate: PerS = Field(gt=0)
    """Mean number of requests, or sessions, in a time."""


class GammaArrivals(Spec):
    """Gamma-distributed gaps, as vLLM's benchmark: burstiness below 1 bunches requests, 1 is Poisson."""

    kind: Literal["gamma"]
    rate: PerS = Field(gt=0)
    """Mean number of requests, or sessions, in a time."""
    burstiness: float = Field(default=1.0, gt=0)
    """Shape of the gamma distribution; the coefficient of variation of the gaps is 1 / sqrt(burstiness)."""


class ClosedArrivals(Spec):
    """A fixed number of clients; each sends its next request, or begins its next session, when its last one is over."""

    kind: Literal["closed"]
    concurrency: int = Field(ge=1)
    """Clients."""
    think_time: TimeSpec | None = None
    """How long a client waits before that; default: not at all. Its first request comes at 0."""


class AtOnceArrivals(Spec):
    """All requests at time 0."""

    kind: Literal["at_once"]


class Stage(Spec):
    """A part of the load with a rate of its own, which begins when the one before it has lasted its time."""

    rate: PerS = Field(ge=0)
    """0: a pause."""
    to: PerS | None = Field(default=None, ge=0)
    """The rate changes evenly from `rate` to this one; default: it stays."""
    duration: Seconds = Field(gt=0)
    """How long it lasts."""
    kind: Literal["constant", "poisson", "gamma"] = "poisson"
    """How its requests are spaced."""
    burstiness: float = Field(default=1.0, gt=0)
    """Of gamma stages; see `GammaArrivals`."""

    @model_validator(mode="after")
    def _uses_its_keys(self) -> Stage:
        if self.kind != "gamma" and self.burstiness != 1:
            raise ValueError(f"a {self.kind} stage has no burstiness; write kind: gamma")
        return self


class StagedArrivals(Spec):
    """One stage after another; the stream ends with the last."""

    kind: Literal["stages"]
    stages: list[Stage] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_requests(self) -> StagedArrivals:
        if not any(stage.rate or stage.to for stage in self.stages):
            raise ValueError("every stage has rate 0; state a rate")
        return self


ArrivalsSpec = Annotated[
    ConstantArrivals | PoissonArrivals | GammaArrivals | ClosedArrivals | AtOnceArrivals | StagedArrivals,
    Field(discriminator="kind"),
]

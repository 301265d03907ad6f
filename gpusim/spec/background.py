"""Background traffic: copies and collectives that no request asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gpusim.spec.base import Spec
from gpusim.units import Bytes, BytesPerS, Seconds


class _Repeated(Spec):
    name: str = ""
    """Its row in results."""
    size: Bytes | None = Field(default=None, gt=0)
    """Bytes of one transfer."""
    period: Seconds | None = Field(default=None, gt=0)
    """Start to start; one that is late starts when its predecessor has finished. Absent: once."""
    start: Seconds = Field(default=0.0, ge=0)
    """When the first one starts."""
    count: int | None = Field(default=None, ge=1)
    """How many; absent: until the last request is finished."""


class CopySpec(_Repeated):
    """Copies between two memories: GPUs, hosts, pools; or inside one of them."""

    kind: Literal["copy"]
    source: str = Field(alias="from")
    """GPU, host or memory pool that is read."""
    target: str = Field(alias="to")
    """One that is written; may be the same."""
    rate: BytesPerS | None = Field(default=None, gt=0)
    """Instead of size and period: a stream without end at up to this rate."""

    @model_validator(mode="after")
    def _size_or_rate(self) -> CopySpec:
        if (self.size is None) == (self.rate is None):
            raise ValueError("say either size (and period), or rate")
        if self.rate is not None and (self.period is not None or self.count is not None):
            raise ValueError("a stream with a rate has no period and no count")
        return self


class CollectiveSpec(_Repeated):
    """All-reduces among GPUs, with the time and the traffic an engine's own would have."""

    kind: Literal["all_reduce"]
    gpus: list[str] = Field(min_length=2)
    """Names of the ranks."""

    @model_validator(mode="after")
    def _has_size(self) -> CollectiveSpec:
        if self.size is None:
            raise ValueError("say its size: the full buffer on each rank")
        return self


BackgroundSpec = Annotated[CopySpec | CollectiveSpec, Field(discriminator="kind")]

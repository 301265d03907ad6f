"""EngineProfile: what an inference engine adds to the time of its kernels."""

from __future__ import annotations

from typing import Final

from pydantic import Field, field_validator, model_validator

from gpusim.spec.base import SchemaNumber, Spec
from gpusim.spec.laws import DEFAULT_ENGINE
from gpusim.units import Seconds


class EngineProfile(Spec):
    """Host, API and graphs of one engine; all times are 0 unless stated."""

    schema_number: SchemaNumber = Field(default=1, alias="schema")
    """Version of the file format: 1."""
    name: str
    """What reports call it."""
    source: str = ""
    """Where the values come from."""
    kernels: str = DEFAULT_ENGINE
    """Whose kernels it runs: the engine of that name in the laws of devices."""
    step: Seconds = Field(default=0.0, ge=0)
    """In every step, for which the GPU waits: what scheduling, preparing inputs and launching cannot hide."""
    sequence: Seconds = Field(default=0.0, ge=0)
    """Likewise, for each sequence that gets a token."""
    candidates: Seconds = Field(default=0.0, ge=0)
    """Likewise, in every step that sorts logits (top-p, top-k), and once more in one that penalises repeated tokens: launches
    of the many small kernels that do it."""
    overlapped_step: Seconds = Field(default=0.0, ge=0)
    """In every step, while the GPU computes, which waits for what is left of it; without steps in flight for all of it."""
    overlapped_sequence: Seconds = Field(default=0.0, ge=0)
    """Likewise, for each sequence that gets a token."""
    request: Seconds = Field(default=0.0, ge=0)
    """From the client to the engine: HTTP, tokenisation, hand-over."""
    token: Seconds = Field(default=0.0, ge=0)
    """From the engine to the client: detokenisation, HTTP."""
    jitter: Seconds = Field(default=0.0, ge=0)
    """Mean of the part of `token` that varies from step to step, exponentially; it does with `serving.jitter` only."""
    graph_sizes: tuple[int, ...] = ()
    """Tokens of the steps for which there are CUDA graphs; a step is padded to the next of them. Larger steps are not."""

    @field_validator("graph_sizes")
    @classmethod
    def _ascend(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in sizes) or list(sizes) != sorted(set(sizes)):
            raise ValueError("write whole numbers from 1 on, each larger than the one before")
        return sizes

    @model_validator(mode="after")
    def _jitter_is_part_of_token(self) -> EngineProfile:
        if self.jitter > self.token:
            raise ValueError(
                f"jitter = {self.jitter:g} s is the mean of a part of token = {self.token:g} s: raise the one or lower the other"
            )
        return self

    def in_turn(self) -> EngineProfile:
        """Return the profile of the same engine without steps in flight: its GPU waits for all that the host does."""
        host = {"step": self.step + self.overlapped_step, "sequence": self.sequence + self.overlapped_sequence}
        return self.model_copy(update={**host, "overlapped_step": 0.0, "overlapped_sequence": 0.0})

    def sizes_up_to(self, max_num_seqs: int) -> tuple[int, ...]:
        """Return the graphs there are where a batch holds *max_num_seqs*: none for more than two tokens a sequence."""
        return tuple(size for size in self.graph_sizes if size <= 2 * max_num_seqs)


NO_PROFILE: Final = EngineProfile(name="none")
"""The GPU's time only."""

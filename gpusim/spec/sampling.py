"""SamplingSpec: how the next token is drawn."""

from __future__ import annotations

from pydantic import Field

from gpusim.spec.base import Spec


class SamplingSpec(Spec):
    """Names and meaning as in vLLM; what is left out changes nothing: all tokens are candidates, as they are."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Probability that the candidates hold together; 1: all tokens are candidates."""
    top_k: int = Field(default=0, ge=-1)
    """Number of candidates; 0 or -1: all tokens."""
    temperature: float = Field(default=1.0, ge=0)
    """Logits are divided by it; 0: the likeliest token is taken, and `top_p` and `top_k` mean nothing."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Logits of tokens seen before are divided by it, or multiplied where negative; 1: they are not."""

    @property
    def sorts(self) -> bool:
        """Whether the candidates have to be found, by sorting all logits."""
        return self.temperature > 0 and (self.top_p < 1 or self.top_k > 0)

    @property
    def penalises(self) -> bool:
        """Whether the tokens seen before have to be counted."""
        return self.repetition_penalty != 1

    @property
    def logit_passes(self) -> int:
        """How many of the two there are; each takes many small kernels over all logits."""
        return int(self.sorts) + int(self.penalises)

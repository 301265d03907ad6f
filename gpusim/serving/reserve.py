"""How many KV blocks a request gets when it is admitted; the others come with the steps that fill them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gpusim.serving.request import Request


@dataclass(frozen=True, slots=True)
class Reserve:
    """What is reserved for a request at its admission."""

    kind: Literal["none", "prompt", "all", "longest"] = "none"
    """none: blocks come with the steps that fill them; prompt: those of all it must compute; all: those of its whole
    output too; longest: those of the longest request there may be."""
    longest: int = 0
    """Tokens of the longest request."""

    @property
    def is_complete(self) -> bool:
        """Tell whether no request ever needs a block after its admission."""
        return self.kind in ("all", "longest")

    def tokens(self, request: Request) -> int:
        """Return the tokens whose blocks *request* gets at its admission."""
        if self.kind == "none":
            return 0
        if self.kind == "prompt":
            return request.target
        return max(self.longest, request.most_cached_tokens)


NOTHING: Final = Reserve()

"""Reader: typed values out of a ``config.json``, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from gpusim.spec.document import Document
from gpusim.spec.problems import Location, Problem

ABSENT_FEATURES: Final = {
    "num_local_experts": "mixture of experts; use a model with a dense MLP",
    "num_experts": "mixture of experts; use a model with a dense MLP",
    "n_routed_experts": "mixture of experts; use a model with a dense MLP",
    "kv_lora_rank": "multi-head latent attention; use a model with MHA, GQA or MQA",
    "quantization_config": "quantised checkpoints; take the unquantised one and state dtype.weights in the scenario",
}
"""Keys whose presence means something that only the families which take them model."""


@dataclass
class Reader:
    """Takes typed values out of a configuration and collects what is wrong with them."""

    document: Document
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the model's `source` says beside where it was read."""
    where: Location = ()
    """The mapping in the file whose keys it takes."""

    def over(self, defaults: dict[str, Any]) -> Reader:
        """Return a reader of the same keys to which *defaults* belong too, where the file does not have them."""
        return replace(self, document=replace(self.document, data=defaults | self.document.data))

    def part(self, key: str) -> Reader:
        """Return a reader of the mapping at *key*; of an empty one, and a problem, where there is none."""
        data = self.get(key)
        if not isinstance(data, dict):
            self.problem(key, "this key is required, with a mapping")
            data = {}
        return replace(self, document=replace(self.document, data=data), where=(*self.where, key))

    def get(self, key: str) -> Any:
        """Return the value of *key* as it is, None where it is absent."""
        return self.document.data.get(key)

    def first(self, *keys: str) -> str:
        """Return the first of *keys* that the file has, else the first of all: names by which a value goes."""
        return next((key for key in keys if self.get(key) is not None), keys[0])

    def size(self, key: str, default: int | None = None) -> int:
        """Return a whole number of at least 1; after a problem, 1."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            self.problem(key, "this key is required")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.problem(key, f"must be a whole number of at least 1, not {value!r}")
        else:
            return value
        return 1

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return a truth value; after a problem, *default*."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.problem(key, f"must be true or false, not {value!r}")
        return value if isinstance(value, bool) else default

    def problem(self, key: str, message: str) -> None:
        """Note what is wrong with the value of *key*; the same thing once."""
        problem = Problem((*self.where, key), message)
        if problem not in self.problems:
            self.problems.append(problem)

    def is_sound(self, *keys: str) -> bool:
        """Say whether nothing was found wrong with *keys* so far."""
        return not any(problem.where[-1] in keys for problem in self.problems)

    def refuse_absent_features(self, taken: Iterable[str] = ()) -> None:
        """Note every key of `ABSENT_FEATURES` that the file has and its family does not take."""
        for key, what in ABSENT_FEATURES.items():
            if key not in taken and self.get(key):
                self.problem(key, f"not yet: {what}")


Fields: TypeAlias = dict[str, Any]
"""What ModelSpec takes, but for name and source."""
Build: TypeAlias = Callable[[], Fields]
"""Makes the fields once it is known that the numbers in them are sound."""


@dataclass(frozen=True, slots=True)
class Family:
    """How the configurations of one `model_type` are read."""

    read: Callable[[Reader], Build]
    takes: frozenset[str] = frozenset()
    """Keys of `ABSENT_FEATURES` that it models."""

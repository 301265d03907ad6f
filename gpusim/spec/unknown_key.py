"""What to say of a key that is not known: where it belongs, what stands for it here, or which one was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from gpusim.spelling import unknown_name

_DEEPEST: Final = 3
"""Mappings within one another in which a key is looked for."""
OF_ENGINES: Final[Mapping[str, str]] = {
    "pipeline_parallel_size": "pipeline parallelism is not simulated; leave it out, or raise tensor_parallel_size",
    "decode_context_parallel_size": "context parallelism is not simulated; leave it out",
    "prefill_context_parallel_size": "context parallelism is not simulated; leave it out",
    "speculative_config": "speculative decoding is not simulated; leave it out",
    "num_speculative_tokens": "speculative decoding is not simulated; leave it out",
    "enable_lora": "LoRA adapters are not simulated; leave it out",
    "cpu_offload_gb": "weights in host memory are not simulated; leave it out",
    "quantization": "the scenario says how weights are stored: dtype: {weights: fp8}",
    "kv_cache_dtype": "the scenario says how KV is stored: dtype: {kv: fp8}",
    "enable_chunked_prefill": "scheduler: continuous prefills in chunks, vllm-v0 and orca whole prompts; leave it out",
    "tpot": "slo.itl is the target of TPOT, each request's mean gap between tokens",
    "enforce_eager": "the engine profile says what CUDA graphs save; see gpusim list engines",
}
"""Options of engines that are no key here, and what to do instead."""


def unknown_key(name: str, classes: Iterable[type[BaseModel]]) -> str:
    """Say that *name* is no key of a mapping that may be any of *classes*, and what to write instead."""
    classes = list(classes)
    if name in OF_ENGINES:
        return f"unknown key; {OF_ENGINES[name]}"
    below = _below(name, classes)
    if below:
        return f'unknown key; did you mean "{below}"?'
    return unknown_name(name, sorted(set().union(*map(keys_of, classes))), "key")


def keys_of(cls: type[BaseModel]) -> set[str]:
    """Return the keys of *cls* as they are written in files."""
    return {info.alias or name for name, info in cls.model_fields.items()}


def _below(name: str, classes: list[type[BaseModel]]) -> str:
    """Return the shortest dotted path from a mapping to a key called *name* in one of its mappings; empty without one."""
    level: dict[str, list[type[BaseModel]]] = {"": classes}
    for _ in range(_DEEPEST):
        inner = {
            f"{above}{info.alias or key}.": list(_mappings(info.annotation))
            for above, specs in level.items()
            for spec in specs
            for key, info in spec.model_fields.items()
        }
        found = next((above for above, specs in inner.items() if any(name in keys_of(spec) for spec in specs)), None)
        if found is not None:
            return f"{found}{name}"
        level = inner
    return ""


def _mappings(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the specs that a value may be, those in lists left out."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _mappings(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for part in get_args(annotation):
            yield from _mappings(part)

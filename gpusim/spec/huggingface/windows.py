"""Sliding windows in a configuration: which layers have one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gpusim.spec.huggingface.reader import Fields, Reader
from gpusim.spec.model import LayersSpec

LOCAL: Final = "sliding_attention"
FULL: Final = "full_attention"


def sliding_window(reader: Reader, default: int | None = None, *, used: bool = True) -> int | None:
    """Return the window of the layers that have one; None where it holds the longest request, or is not in use.

    Args:
        reader: Of the file.
        default: Of `sliding_window`; None: no window.
        used: Default of `use_sliding_window`.
    """
    if reader.get("sliding_window") is None and default is None:
        return None
    if not reader.flag("use_sliding_window", default=used):
        return None
    return reader.size("sliding_window", default)


def layer_types(reader: Reader, count: int, otherwise: Callable[[int], bool]) -> list[bool]:
    """Return which of *count* layers have a window: by `layer_types`, else *otherwise* says it of each, from 0 on."""
    stated = reader.get("layer_types")
    if stated is None:
        return [otherwise(layer) for layer in range(count)]
    if not isinstance(stated, list) or not all(entry in (LOCAL, FULL) for entry in stated):
        reader.problem("layer_types", f"must be a list of {LOCAL} and {FULL}; gpusim models no other layers yet")
    elif len(stated) != count:
        reader.problem("layer_types", f"has {len(stated)} entries, num_hidden_layers = {count}; write one for each")
    else:
        return [entry == LOCAL for entry in stated]
    return [False] * count


def with_window(layers: LayersSpec, window: int, is_local: Sequence[bool]) -> Fields:
    """Divide *layers* into those with a *window* and those without, in the order in which they come."""
    local = layers.model_copy(update={"attention": layers.attention.model_copy(update={"window": window})})
    one = {"count": 1}
    return in_order([(local if kind else layers).model_copy(update=one) for kind in is_local])


def in_order(layers: Sequence[LayersSpec]) -> Fields:
    """Group *layers*, one after the other and each with a count of 1, by kind."""
    kinds = [kind for place, kind in enumerate(layers) if kind not in layers[:place]]
    order = [kinds.index(layer) for layer in layers]
    groups = [kind.model_copy(update={"count": order.count(index)}) for index, kind in enumerate(kinds)]
    fields: Fields = {"layers": groups}
    return fields if order == sorted(order) else fields | {"pattern": _period(order)}


def _period(order: list[int]) -> list[int]:
    """Return the shortest beginning of *order* whose repetition is all of it."""
    return next(
        order[:length]
        for length in range(1, len(order) + 1)
        if all(entry == order[place % length] for place, entry in enumerate(order))
    )

"""What differs between two machines of different names: their GPUs, and the links between nodes of like names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from gpusim.hardware.graph import Link, build_graph, links_of
from gpusim.results.quantity import shown
from gpusim.spec.topology import TopologySpec

Key: TypeAlias = "tuple[str, ...]"
Found: TypeAlias = "Iterator[tuple[Key, str | None, str | None]]"
"""Keys with what either machine has there, in words; None: nothing."""

_NUMBERS: Final = re.compile(r"\d+")
_RATES: Final = ("bf16", "fp16")
"""Peaks that a device is known by: the first it has."""


def device_differences(key: Key, a: Mapping[str, Any], b: Mapping[str, Any]) -> Found:
    """Yield what differs in memory and processors of two devices of a resolved scenario."""
    for part, described in (("memory", _memory), ("compute", _compute)):
        old, new = (described(device.get(part, {})) for device in (a, b))
        if old != new:
            yield (*key, part), old, new


def machine_differences(key: Key, a: Mapping[str, Any], b: Mapping[str, Any]) -> Found:
    """Yield what differs in GPUs and links of two topologies of a resolved scenario; links of GPUs first."""
    old, new = (_devices(topology) for topology in (a, b))
    if _counted(old) != _counted(new):
        yield (*key, "gpus"), _counted(old), _counted(new)
    if len(old) == len(new) == 1:
        yield from device_differences((*key, "gpus"), old[0][0], new[0][0])
    there, here = (_links(topology) for topology in (a, b))
    for ends in sorted(there | here, key=lambda ends: ends[0] != "gpu"):
        if there.get(ends) != here.get(ends):
            yield (*key, "links", f"{ends[0]}-{ends[1]}:{ends[2]}"), there.get(ends), here.get(ends)


def _memory(memory: Mapping[str, Any]) -> str:
    return ", ".join(str(memory[part]) for part in ("standard", "capacity", "bandwidth") if part in memory)


def _compute(compute: Mapping[str, Any]) -> str:
    peak = compute.get("peak", {})
    rates = [f"{dtype} {peak[dtype]}" for dtype in _RATES if dtype in peak][:1]
    return ", ".join([f"{compute['sm_count']} SMs", *rates]) if "sm_count" in compute else ""


def _devices(topology: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], int]]:
    """Return the kinds of GPU there are, each with its number."""
    numbers: Counter[str] = Counter()
    devices: dict[str, Mapping[str, Any]] = {}
    for node in topology["nodes"]:
        if node["kind"] == "gpu":
            devices.setdefault(node["device"]["name"], node["device"])
            numbers[node["device"]["name"]] += node.get("count") or 1
    return [(device, numbers[name]) for name, device in devices.items()]


def _counted(devices: Sequence[tuple[Mapping[str, Any], int]]) -> str:
    return ", ".join(f"{number} × {device['name']}" for device, number in devices)


def _links(topology: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Return what links there are in one direction, by their ends, names without numbers, and kind."""
    groups: dict[tuple[str, ...], list[Link]] = {}
    graph = build_graph(TopologySpec.model_validate(topology))
    gpus = {name for name in graph if graph.nodes[name]["kind"] == "gpu"}
    seen: set[tuple[str, str, str]] = set()
    for link in links_of(graph):
        if link.source in gpus:
            target = "gpu" if link.target in gpus else _unnumbered(link.target)
            groups.setdefault(("gpu", target, link.kind), []).append(link)
        elif link.target not in gpus and (link.target, link.source, link.kind) not in seen:
            ends = sorted((_unnumbered(link.source), _unnumbered(link.target)))
            groups.setdefault((*ends, link.kind), []).append(link)
        seen.add((link.source, link.target, link.kind))
    return {ends: _described(links, of_gpu=ends[0] == "gpu") for ends, links in groups.items()}


def _unnumbered(name: str) -> str:
    return _NUMBERS.sub("", name)


def _described(links: Sequence[Link], *, of_gpu: bool) -> str:
    """Say how fast *links* of one kind are: all those of a GPU together, or each."""
    if of_gpu:
        each: dict[str, float] = {}
        for link in links:
            each[link.source] = each.get(link.source, 0.0) + link.bandwidth
        rate = f"{_range(each.values(), 1e9)} GB/s a GPU"
    else:
        number = f"{len(links)} × " if len(links) > 1 else ""
        rate = f"{number}{_range([link.bandwidth for link in links], 1e9)} GB/s"
    usable = _range([link.efficiency for link in links], 0.01)
    slowest = shown(max(link.latency_s for link in links), 3)
    return ", ".join([rate, *([] if usable == "100" else [f"{usable} % usable"]), slowest])


def _range(values: Collection[float], scale: float) -> str:
    low, high = (f"{value / scale:.3g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"

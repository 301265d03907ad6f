"""Machines in a few words, and what differs between two: their GPUs, and the links between nodes of like names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from gpusim.hardware.graph import Link, build_graph, links_of
from gpusim.results.quantity import shown
from gpusim.spec.topology import TopologySpec
from gpusim.spelling import NUMBERS

Key: TypeAlias = "tuple[str, ...]"
Found: TypeAlias = "Iterator[tuple[Key, str | None, str | None]]"
"""Keys with what either machine has there, in words; None: nothing."""

_RATES: Final = ("bf16", "fp16")
"""Peaks that a device is known by: the first it has."""


def device_differences(key: Key, a: Mapping[str, Any], b: Mapping[str, Any]) -> Found:
    """Yield what differs in memory and processors of two devices of a resolved scenario."""
    yield from _differing(key, _device_facts(a), _device_facts(b))


def machine_differences(key: Key, a: Mapping[str, Any], b: Mapping[str, Any]) -> Found:
    """Yield what differs in GPUs and links of two topologies of a resolved scenario."""
    yield from _differing(key, machine_facts(a), machine_facts(b))


def gpu_counts(topology: Mapping[str, Any]) -> Counter[str]:
    """Return how many GPUs of each device a topology of a resolved scenario has, by name."""
    numbers: Counter[str] = Counter()
    for node in topology["nodes"]:
        if node["kind"] == "gpu":
            numbers[node["device"]["name"]] += node.get("count") or 1
    return numbers


def machine_facts(topology: Mapping[str, Any]) -> dict[str, str]:
    """Return in words which GPUs a topology of a resolved scenario has, and which links, those of GPUs first."""
    devices = _devices(topology)
    facts = {"gpus": ", ".join(f"{number} × {device['name']}" for device, number in devices)}
    if len(devices) == 1:
        facts |= {f"gpus.{part}": text for part, text in _device_facts(devices[0][0]).items()}
    links = sorted(_links(topology).items(), key=lambda entry: entry[0][0] != "gpu")
    return facts | {f"links.{one}-{other}:{kind}": text for (one, other, kind), text in links}


def _differing(key: Key, a: Mapping[str, str], b: Mapping[str, str]) -> Found:
    for name in [*a, *(name for name in b if name not in a)]:
        if a.get(name) != b.get(name):
            yield (*key, name), a.get(name), b.get(name)


def _device_facts(device: Mapping[str, Any]) -> dict[str, str]:
    facts = {"memory": _memory(device.get("memory", {})), "compute": _compute(device.get("compute", {}))}
    return {part: text for part, text in facts.items() if text}


def _memory(memory: Mapping[str, Any]) -> str:
    return ", ".join(str(memory[part]) for part in ("standard", "capacity", "bandwidth") if part in memory)


def _compute(compute: Mapping[str, Any]) -> str:
    peak = compute.get("peak", {})
    rates = [f"{dtype} {peak[dtype]}" for dtype in _RATES if dtype in peak][:1]
    return ", ".join([f"{compute['sm_count']} SMs", *rates]) if "sm_count" in compute else ""


def _devices(topology: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], int]]:
    """Return the kinds of GPU there are, each with its number."""
    devices = {node["device"]["name"]: node["device"] for node in topology["nodes"] if node["kind"] == "gpu"}
    return [(devices[name], number) for name, number in gpu_counts(topology).items()]


def _links(topology: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
    """Return what links there are in one direction, by their ends, names without numbers, and kind."""
    groups: dict[tuple[str, str, str], list[Link]] = {}
    graph = build_graph(TopologySpec.model_validate(topology))
    gpus = {name for name in graph if graph.nodes[name]["kind"] == "gpu"}
    seen: set[tuple[str, str, str]] = set()
    for link in links_of(graph):
        if link.source in gpus:
            target = "gpu" if link.target in gpus else _unnumbered(link.target)
            groups.setdefault(("gpu", target, link.kind), []).append(link)
        elif link.target not in gpus and (link.target, link.source, link.kind) not in seen:
            one, other = sorted((_unnumbered(link.source), _unnumbered(link.target)))
            groups.setdefault((one, other, link.kind), []).append(link)
        seen.add((link.source, link.target, link.kind))
    return {ends: _described(links, of_gpu=ends[0] == "gpu") for ends, links in groups.items()}


def _unnumbered(name: str) -> str:
    return NUMBERS.sub("", name)


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

"""The tables of `gpusim list`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpusim.report.numbers import digits
from gpusim.report.terminal import TableColumn, sweep_table
from gpusim.units import GB, GiB

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN: dict[str, tuple[str, float]] = {
    "memory_bytes": ("memory GiB", GiB),
    "memory_bandwidth_bytes_per_s": ("memory GB/s peak", GB),
    "peak_flops": ("16-bit TFLOP/s dense", 1e12),
    "link_bandwidth_bytes_per_s": ("links GB/s per direction", GB),
    "parameters": ("parameters 10⁹", 1e9),
    "kv_bytes_per_token": ("KV kB/token 16-bit", 1e3),
    "rate_per_s": ("requests /s", 1.0),
    "step_s": ("step µs", 1e-6),
    "sequence_s": ("sequence µs", 1e-6),
    "overlapped_step_s": ("beside a step µs", 1e-6),
    "overlapped_sequence_s": ("sequence beside it µs", 1e-6),
    "request_s": ("request µs", 1e-6),
    "token_s": ("token µs", 1e-6),
    "links_of_gpu_bytes_per_s": ("GPU's links, GB/s per direction", GB),
}
"""Keys shown in another unit than SI: their title and the factor."""
_HIDDEN = {"active_parameters", "num_hosts", "num_switches", "num_memory_pools", "source"}
_HIDDEN |= {"attention", "hidden_size", "head_dim", "vocab_size", "sampling"}
_HIDDEN |= {"vendor", "family", "memory_standard", "visible_bytes", "memory_efficiency", "channels", "l2_bytes"}
_HIDDEN |= {"sm_count", "boost_clock_hz", "host_link", "laws_from"}
"""Only in the JSON."""


def print_listing(title: str, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what `describe` found, one line each."""
    keys = [key for key in (rows[0] if rows else ()) if key not in _HIDDEN]
    columns = [TableColumn(key, _SHOWN.get(key, (_title(key), 1.0))[0]) for key in keys]
    sweep_table([{key: _shown(key, row[key]) for key in keys} for row in rows], columns, console, title=title)


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "peak_flops":
        value = value.get("bf16", value.get("fp16"))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {digits(item / _SHOWN[key][1])}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    return None if value is None else value / _SHOWN[key][1] if key in _SHOWN else value


def _title(key: str) -> str:
    return key.removeprefix("num_").replace("_", " ").replace("gpus", "GPUs").replace("kv", "KV")

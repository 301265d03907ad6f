"""A step by the closed formula that first fitted the serving runs, with a constant beside it for all that it leaves out.

Products by tiles (a minimum over tile sizes and splits of K), attention as ``t0 + bytes / rate``, experts by how many are
chosen, element-wise kernels by their bytes at 1.5 times the memory's bandwidth, a sort of the logits, and 0.82 ms a step.
Engine all-reduces have the same law here as there, and are not computed again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from typing import Final

from gpusim.model.work import Attention, Gemm, GroupedGemm, Kernel, Sort
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.units import us

REMAINDER_S: Final = 0.82e-3
"""What the formula adds to every step: fitted to the runs, without a reason."""
EXPERTS_S: Final = 30 * us
EXPERTS_EFFICIENCY: Final = 0.938
SORT_S: Final = 0.155e-9
"""For each logit of a sampled sequence, on an H100."""
ELEMENTWISE_SPEED: Final = 1.5
"""Of the memory's bandwidth: activations stay in L2."""


@dataclass(frozen=True, slots=True)
class Constants:
    """Of one GPU: a tile's time (s), what an SM streams (bytes/s), parts of the peaks that are reached."""

    gemm_t0: float
    tile_s: float
    sm_rate: float
    memory: float
    compute: float
    split_s: float
    l2_speed: float
    attention_t0: float
    attention_memory: float


CONSTANTS: Final = {
    "h100-sxm": Constants(2.79 * us, 0.02098 * us, 119.2e9, 0.8661, 0.95, 2.093 * us, 4.14, 8.983 * us, 0.936),
    "a100-sxm-80gb": Constants(4.72 * us, 0.02 * us, 63.97e9, 0.749, 0.8833, 1.174 * us, 2.201, 12.41 * us, 0.771),
}


def formula_s(parts: list[tuple[int, Kernel]], figures: GpuFigures) -> dict[str, float]:
    """Return seconds of a step by part, of kernels each with how often a step runs it."""
    found: dict[str, float] = defaultdict(float)
    constants = CONSTANTS[figures.spec.name]
    layers = sum(count for count, kernel in parts if isinstance(kernel, Attention))
    for count, kernel in parts:
        match kernel:
            case Gemm(name="router"):
                pass  # in the constant of the experts
            case Gemm():
                found["products"] += count * _product_s(kernel, figures, constants)
            case Attention():
                size = float(kernel.kv_bytes[0] + kernel.activation_bytes[0])
                rate = constants.attention_memory * figures.peak_bandwidth
                found["attention"] += count * (constants.attention_t0 + size / rate)
            case GroupedGemm():
                found["experts"] += count * _experts_s(kernel, figures)
            case Sort():
                found["sort of logits"] += float(kernel.elements) * SORT_S * 3.35e12 / figures.peak_bandwidth
            case _:
                pass
    found["element-wise, bytes"] = layers * _elementwise_bytes(parts) / (ELEMENTWISE_SPEED * figures.peak_bandwidth)
    found["constant"] = REMAINDER_S
    return dict(found)


def _product_s(kernel: Gemm, figures: GpuFigures, constants: Constants) -> float:
    m, n, k = int(kernel.m), int(kernel.n), int(kernel.k)
    memory_rate = constants.memory * figures.peak_bandwidth
    size = float(kernel.weight_bytes) + float(kernel.activation_bytes) / constants.l2_speed
    found = []
    for tile_m, tile_n, split in product((16, 64, 128), (64, 128, 256), (1, 2, 4, 8, 16)):
        waves = -(-(-(-m // tile_m) * -(-n // tile_n) * split) // figures.sm_count)
        depth = -(-k // split)
        streamed_s = constants.tile_s + depth * 2 * (tile_n + min(m, tile_m)) / constants.sm_rate
        flops_s = 2 * tile_m * tile_n * depth * figures.sm_count / (constants.compute * figures.peak_flops("bf16"))
        tiles_s, memory_s = waves * max(streamed_s, flops_s), size / memory_rate
        reduced_s = constants.split_s + 8 * split * m * n / (constants.l2_speed * memory_rate) if split > 1 else 0.0
        found.append(constants.gemm_t0 + (tiles_s**3 + memory_s**3) ** (1 / 3) + reduced_s)
    return min(found)


def _experts_s(kernel: GroupedGemm, figures: GpuFigures) -> float:
    """One of the two products of the experts; the constant counts once for both."""
    memory_s = float(kernel.weight_bytes) / (EXPERTS_EFFICIENCY * figures.peak_bandwidth)
    return EXPERTS_S / 2 + memory_s + float(kernel.flops) / figures.peak_flops("bf16")


def _elementwise_bytes(parts: list[tuple[int, Kernel]]) -> float:
    """Bytes of the element-wise kernels of a layer: T (16 hidden + 6 (q + kv) + 6 ffn), of one rank."""
    total = 0.0
    for _, kernel in parts:
        match kernel:
            case Gemm(name="qkv"):
                total += float(kernel.m) * (16 * float(kernel.k) + 6 * float(kernel.n))
            case Gemm(name="gate_up"):
                total += 6 * float(kernel.m) * float(kernel.n) / 2
            case GroupedGemm(name="experts_gate_up"):
                total += 6 * float(kernel.rows) * float(kernel.n) / 2
            case _:
                pass
    return total

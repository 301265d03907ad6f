"""Schedulers decide what the next step computes: `docs/scheduling.md` says of each what it does, step by step."""

from __future__ import annotations

from gpusim.serving.schedulers.base import Scheduler
from gpusim.serving.schedulers.continuous import ContinuousScheduler, SarathiScheduler
from gpusim.serving.schedulers.orca import OrcaScheduler
from gpusim.serving.schedulers.static import StaticScheduler
from gpusim.serving.schedulers.vllm_v0 import VllmV0Scheduler
from gpusim.spec.serving import ServingSpec

__all__ = ["Scheduler", "make_scheduler"]


def make_scheduler(spec: ServingSpec, num_blocks: int, max_model_len: int) -> Scheduler:
    """Return the scheduler that *spec* names.

    Args:
        spec: Of the engine.
        num_blocks: KV blocks that there are.
        max_model_len: Tokens of the longest request.
    """
    match spec.scheduler:
        case "static":
            return StaticScheduler(spec)
        case "orca":
            return OrcaScheduler(spec, num_blocks, max_model_len)
        case "vllm-v0":
            return VllmV0Scheduler(spec, num_blocks)
        case "sarathi":
            return SarathiScheduler(spec, num_blocks)
        case "continuous" | "vllm-v1":
            return ContinuousScheduler(spec, num_blocks)

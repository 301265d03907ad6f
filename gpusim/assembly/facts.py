"""What the summary says of an engine beside its latencies."""

from __future__ import annotations

from typing import Any

from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.model.layout import Layout
from gpusim.placement import EnginePlan
from gpusim.runtime.default_laws import laws_of
from gpusim.serving.engine import Engine
from gpusim.serving.host_blocks import HostBlocks
from gpusim.serving.lockstep import LockstepEngine
from gpusim.serving.offload import HostStore
from gpusim.spec.scenario import Detail, Ranks


def engine_facts(
    plan: EnginePlan, engine: Engine, *, detail: Detail, ranks: Ranks, is_ideal: bool, kv_bandwidth: float
) -> dict[str, Any]:
    """Return what the summary says of *engine* beside its latencies.

    Args:
        plan: What it was built from.
        engine: After its run.
        detail: At which it was played.
        ranks: Whether one of them stood for all.
        is_ideal: Whether nothing of the machine falls short of its peak.
        kv_bandwidth: Peak rate at which a rank reads KV, bytes/s.
    """
    kv = engine.kv
    layout = Layout.of(plan.serving)
    return {
        "detail": detail,
        "ranks": ranks,
        "steps_at_kernel_detail": engine.steps_by_kernel,
        "share_at_kernel_detail": engine.steps_by_kernel / max(1, engine.roster.step),
        "gpus": list(plan.gpus),
        "device": plan.device.name,
        "model": plan.model.name,
        "max_model_len": engine.max_model_len,
        "laws": "ideal" if is_ideal else laws_of(plan.device, plan.profile.kernels).fitted_on,
        "weight_bytes_per_gpu": weight_bytes(plan.model, plan.dtype.weights, layout),
        "kv_bandwidth_bytes_per_s": kv_bandwidth,
        "kv_bytes_per_token": kv_bytes_per_token(plan.model, plan.dtype.kv),
        "kv_blocks": kv.num_blocks,
        "kv_blocks_peak": kv.peak_used,
        "kv_blocks_used": kv.used,
        "prefix_cache": _prefix_facts(engine),
        "kv_pool": list(plan.pool),
        "shared_experts": _sharing_facts(plan, engine),
        **_swap_facts(engine.host),
        **_offload_facts(engine.store),
    }


def _sharing_facts(plan: EnginePlan, engine: Engine) -> dict[str, Any] | None:
    if not isinstance(engine, LockstepEngine):
        return None
    replica = engine.replica
    return {
        "replicas": plan.serving.data_parallel_size,
        "expert_parallel_size": Layout.of(plan.serving).expert_parallel_size,
        "steps": replica.group.num_steps,
        "dummy_steps": replica.num_dummies,
    }


def _prefix_facts(engine: Engine) -> dict[str, Any] | None:
    if engine.kv.prefix is None:
        return None
    queried, hit = engine.prefix_hits
    return {"queried_tokens": queried, "hit_tokens": hit, "hit_rate": hit / max(1, queried)}


def _offload_facts(store: HostStore | None) -> dict[str, int]:
    if store is None:
        return {}
    return {
        "offloaded_kv_blocks": store.num_blocks,
        "offloaded_kv_blocks_used": store.used,
        "kv_blocks_offloaded": store.blocks_out,
        "kv_blocks_restored": store.blocks_in,
    }


def _swap_facts(host: HostBlocks | None) -> dict[str, int]:
    if host is None:
        return {}
    return {
        "swaps": host.num_swaps,
        "host_kv_blocks": host.num_blocks,
        "host_kv_blocks_peak": host.peak_used,
        "host_kv_blocks_used": host.used,
        "kv_blocks_swapped_out": host.blocks_out,
        "kv_blocks_swapped_in": host.blocks_in,
    }

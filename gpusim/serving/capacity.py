"""How many KV blocks fit beside the weights."""

from __future__ import annotations

from dataclasses import dataclass

from gpusim.errors import CapacityError
from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.model.layout import Layout
from gpusim.model.workspace import peak_activation_bytes, position_table_bytes
from gpusim.spec.base import Dtype
from gpusim.spec.model import ModelSpec
from gpusim.spec.serving import ServingSpec
from gpusim.units import GB, GiB

LIBRARY_BYTES = 0.72 * GB
"""What libraries allocate on one rank during vLLM's dummy step: kernels, workspaces of matrix products, buffers of
collectives. Fitted on the block counts that vLLM reports (`docs/capacity.md`)."""

MOST_WORKSPACE = 0.1
"""Of what the engine may use: a study whose token budget holds all its prompts is not refused for the activations that
no engine would make at once."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What lies in a rank's memory, and in the pool if the KV is there."""

    weight_bytes: float
    workspace_bytes: float
    block_bytes: float
    """One KV block of all layers: on a rank, or whole where it is pooled."""
    num_blocks: int
    num_host_blocks: int = 0
    """Blocks of swapped KV that host memory holds, a shard of each for each rank."""
    num_stored_blocks: int = 0
    """The same of KV that is offloaded."""

    @property
    def host_bytes(self) -> float:
        """Host memory that each GPU takes."""
        return (self.num_host_blocks + self.num_stored_blocks) * self.block_bytes


def workspace_bytes(model: ModelSpec, weights: Dtype, serving: ServingSpec) -> float:
    """Return what one rank needs beside weights and KV: libraries, activations, the table of positions."""
    activations = peak_activation_bytes(
        model,
        weights,
        Layout.of(serving),
        tokens=serving.max_num_batched_tokens,
        sequences=serving.max_num_seqs,
    )
    return LIBRARY_BYTES + activations + position_table_bytes(model, weights)


def plan_memory(
    model: ModelSpec,
    weights: Dtype,
    kv: Dtype,
    serving: ServingSpec,
    *,
    capacity_bytes: float,
    pool_bytes: float | None = None,
) -> MemoryPlan:
    """Divide the memory of a rank.

    Args:
        model: As served.
        weights: Their stored type.
        kv: Stored type of the cache.
        serving: Of the engine.
        capacity_bytes: Of one GPU, as its driver shows it.
        pool_bytes: Of the memories that hold pooled KV, together; None: KV lies beside the weights.

    Raises:
        CapacityError: If the weights do not fit, less than one block is left beside them, or swap space holds none.
    """
    layout = Layout.of(serving)
    own = weight_bytes(model, weights, layout)
    usable = serving.gpu_memory_utilization * capacity_bytes
    workspace = min(workspace_bytes(model, weights, serving), MOST_WORKSPACE * usable)
    if own + workspace > usable:
        raise CapacityError(
            f"weights need {own / GiB:.4g} GiB and workspace {workspace / GiB:.3g} GiB on each GPU, gpu_memory_utilization"
            f" = {serving.gpu_memory_utilization:g} of {capacity_bytes / GiB:.4g} GiB leaves {usable / GiB:.4g} GiB; use "
            "a larger tensor_parallel_size, a smaller dtype.weights, or GPUs with more memory (gpusim list devices)"
        )
    if pool_bytes is None:
        room, where = usable - own - workspace, "beside the weights"
        block = serving.block_size * kv_bytes_per_token(model, kv, layout)
    else:
        room, where = serving.gpu_memory_utilization * pool_bytes, "in the pool"
        block = serving.block_size * kv_bytes_per_token(model, kv)
    num_blocks = int(room // block)
    wanted = serving.num_gpu_blocks_override
    if wanted is not None and wanted > num_blocks:
        raise CapacityError(
            f"num_gpu_blocks_override = {wanted} blocks need {wanted * block / GiB:.4g} GiB, {room / GiB:.4g} GiB are left "
            f"{where}, room for {num_blocks}; lower it or leave it out"
        )
    if num_blocks < 1:
        raise CapacityError(
            f"a KV block needs {block / GiB:.4g} GiB, {room / GiB:.4g} GiB are left {where}; use a larger "
            "tensor_parallel_size, a smaller block_size or dtype.kv, or GPUs with more memory (gpusim list devices)"
        )
    num_blocks = num_blocks if wanted is None else wanted
    if serving.scheduler == "orca":
        _check_longest(serving.max_model_len or model.max_model_len, serving.block_size, num_blocks)
    return MemoryPlan(own, workspace, block, num_blocks, *_host_blocks(serving, block))


def _check_longest(max_model_len: int, block_size: int, num_blocks: int) -> None:
    """Raise an error if there is no room for a request of any length, which orca reserves for each."""
    needed = -(-max_model_len // block_size)
    if needed > num_blocks:
        raise CapacityError(
            f"scheduler: orca reserves max_model_len = {max_model_len} tokens for every request, {needed} KV blocks of the "
            f"{num_blocks} there are; lower max_model_len"
        )


def _host_blocks(serving: ServingSpec, block_bytes: float) -> tuple[int, int]:
    """Return how many blocks host memory holds of swapped KV, and of KV that is offloaded."""
    swap = _blocks_in("swap_space", serving.swap_space, block_bytes) if serving.swaps else 0
    offload = serving.kv_offload
    return swap, 0 if offload is None else _blocks_in("kv_offload.size", offload.size, block_bytes)


def _blocks_in(key: str, size_bytes: float, block_bytes: float) -> int:
    if size_bytes < block_bytes:
        raise CapacityError(
            f"{key} = {size_bytes / GiB:.4g} GiB holds no KV block, which has {block_bytes / GiB:.4g} GiB on each GPU; "
            "raise it or leave it out"
        )
    return int(size_bytes // block_bytes)

"""How many KV blocks fit."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_model
from gpusim.errors import CapacityError
from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.model.layout import Layout
from gpusim.serving.capacity import LIBRARY_BYTES, plan_memory, workspace_bytes
from gpusim.spec.serving import ServingSpec
from gpusim.units import GiB


def plan(*, capacity_bytes=80 * GiB, pool_bytes=None, model=None, **serving):
    return plan_memory(
        model or build_model(),
        "bf16",
        "bf16",
        ServingSpec(**serving),
        capacity_bytes=capacity_bytes,
        pool_bytes=pool_bytes,
    )


def gibs(error):
    """Return the sizes that a message states."""
    return [float(size) for size in re.findall(r"([\d.e+-]+) GiB", str(error.value))]


@given(
    capacity_gib=st.floats(1, 200),
    utilisation=st.floats(0.5, 1.0),
    block_size=st.integers(1, 64),
    tp=st.sampled_from([1, 2, 4, 8]),
)
def test_blocks_fill_what_weights_and_workspace_leave(capacity_gib, utilisation, block_size, tp):
    """One more block would not fit, and all of them do."""
    memory = plan(
        capacity_bytes=capacity_gib * GiB,
        gpu_memory_utilization=utilisation,
        block_size=block_size,
        tensor_parallel_size=tp,
    )
    layout, usable = Layout(tp), utilisation * capacity_gib * GiB
    assert memory.weight_bytes == weight_bytes(build_model(), "bf16", layout)
    expected = workspace_bytes(build_model(), "bf16", ServingSpec(tensor_parallel_size=tp))
    assert memory.workspace_bytes == min(expected, 0.1 * usable)
    assert memory.block_bytes == block_size * kv_bytes_per_token(build_model(), "bf16", layout)
    room = usable - memory.weight_bytes - memory.workspace_bytes
    assert memory.num_blocks * memory.block_bytes <= room * (1 + 1e-12)
    assert (memory.num_blocks + 1) * memory.block_bytes > room * (1 - 1e-12)


def test_blocks_by_hand():
    """Two layers of 8 heads of 64 keep 4096 B a token, a block of 16 thus 64 KiB; a GiB of pool at 0.9 holds 14745."""
    memory = plan(pool_bytes=1 * GiB, capacity_bytes=80 * GiB)
    assert (memory.block_bytes, memory.num_blocks) == (64 * 1024, int(0.9 * 16384))


def test_workspace_by_hand():
    """Libraries, 2,048 tokens of 2 × 512 hidden states and as many in a layer with its MLP of 3 × 1,024, 4,096 positions."""
    expected = LIBRARY_BYTES + 2048 * 2 * (2 * 512 + 2 * 512 + 3 * 1024) + 4096 * 64 * 2
    assert plan().workspace_bytes == expected


def test_pooled_blocks_are_whole():
    """In a pool a block holds the KV of all ranks, beside the weights only a rank's share."""
    assert plan(tensor_parallel_size=4, pool_bytes=GiB).block_bytes == 4 * plan(tensor_parallel_size=4).block_bytes


def test_a_stated_number_of_blocks_is_taken():
    """An override below what fits is used as it is."""
    assert plan(num_gpu_blocks_override=7).num_blocks == 7


def test_weights_that_do_not_fit_are_refused_with_both_numbers():
    """The error says what weights need and what the share of the GPU is."""
    model = build_model(layers=40)
    with pytest.raises(CapacityError, match="larger tensor_parallel_size") as error:
        plan(model=model, capacity_bytes=0.1 * GiB)
    needed, _workspace, capacity, usable = gibs(error)
    assert needed == pytest.approx(weight_bytes(model, "bf16") / GiB, rel=1e-3)
    assert (capacity, usable) == (0.1, 0.09)


def test_a_block_that_does_not_fit_is_refused_with_both_numbers():
    """If not even one block is left room for, the error says how large it is and how large the room."""
    with pytest.raises(CapacityError, match="smaller block_size") as error:
        plan(pool_bytes=0.01 * GiB, block_size=4096)
    assert gibs(error) == [pytest.approx(4096 * 4096 / GiB, rel=1e-3), pytest.approx(0.009, rel=1e-3)]


def test_more_blocks_than_fit_are_refused_with_both_numbers():
    """An override beyond memory says how much it needs, how much there is, and how many blocks that holds."""
    with pytest.raises(CapacityError, match=r"room for 14745\b.*lower it") as error:
        plan(pool_bytes=1 * GiB, num_gpu_blocks_override=20_000)
    assert gibs(error) == [pytest.approx(20_000 / 16384, rel=1e-3), 0.9]

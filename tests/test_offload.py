"""KV of former requests in host memory: what goes there, what comes back instead of being computed, and what that costs."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_plan, build_simulation, token_ticks
from gpusim import simulation as simulation_module
from gpusim.core.clock import ticks
from gpusim.core.probe import RecordingProbe
from gpusim.errors import SpecError
from gpusim.runtime.attribution import TRANSFER
from gpusim.serving.offload import HostStore
from gpusim.workload.stream import RequestShape

PCIE, LATENCY_S = 31.51e9 * 0.914, 800e-9
"""Bytes/s that PCIe 4 x16 achieves, and its latency, on `single-gpu`."""
BLOCK_BYTES = 4 * 1024
"""Of a block of 4 tokens of the tiny model."""
ENGINE = {
    "serving__block_size": 4,
    "serving__num_gpu_blocks_override": 12,
    "serving__enable_prefix_caching": True,
    "serving__kv_offload": {"size": "1 GiB"},
}
TURNS = (
    RequestShape(0, 0.0, 20, 12, ((7, 32),)),
    RequestShape(1, 1.0, 40, 5, ()),
    RequestShape(2, 2.0, 33, 3, ((7, 32), (8, 3))),
)
"""A first turn of 20 + 12 tokens; one of somebody else that takes 11 of the 12 blocks; a second turn that repeats the first."""


def played(monkeypatch, shapes=TURNS, probes=(), **changes):
    """Run requests with stated content; return the simulation."""
    monkeypatch.setattr(simulation_module, "requests", lambda *_args, **_options: iter(shapes))
    simulation = build_simulation(probes=probes, **ENGINE | changes)
    simulation.run()
    return simulation


@pytest.mark.parametrize("in_flight", [False, True])
@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_a_second_turn_gets_its_blocks_from_the_host(monkeypatch, detail, in_flight):
    """Of 31 tokens of the first turn 7 blocks are full; those that the GPU has lost come back, and 5 tokens are computed."""
    simulation = played(monkeypatch, detail=detail, serving__async_scheduling=in_flight)
    engine, log = simulation.engines["engine"], simulation.logs["engine"]
    assert engine.store.blocks_out == 7 + 11 + 1
    restored = engine.store.blocks_in
    assert 0 < restored <= 7
    (stall,) = [spent for spent in log.runs["attribution_ps"][:, TRANSFER] if spent]
    assert stall == ticks(LATENCY_S) + ticks(restored * BLOCK_BYTES / PCIE)
    assert log.total("num_prefill_tokens") == 20 + 40 + 33 - 7 * 4
    # The last one sets out when all is over.
    moved = simulation.cluster.fabric.moved_bytes()
    assert moved["gpu0->cpu0:pcie"] == pytest.approx((7 + 11) * BLOCK_BYTES)
    assert moved["cpu0->gpu0:pcie"] == pytest.approx(restored * BLOCK_BYTES)


def test_without_offload_the_second_turn_computes_again(monkeypatch):
    """The GPU's own cache has lost all but a block or none of the first turn."""
    engine = ENGINE | {"serving__kv_offload": None}
    monkeypatch.setattr(simulation_module, "requests", lambda *_args, **_options: iter(TURNS))
    simulation = build_simulation(**engine)
    simulation.run()
    assert simulation.logs["engine"].total("num_prefill_tokens") > 20 + 40 + 33 - 7 * 4
    assert not any(simulation.cluster.fabric.moved_bytes().values())


@pytest.mark.parametrize("in_flight", [False, True])
@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_what_finishes_under_load_is_stored_beside_the_next_steps(monkeypatch, detail, in_flight):
    """A copy begins with the last token of a request, takes what PCIe takes, and nobody waits for it."""
    shapes = (RequestShape(0, 0.0, 20, 4, ((7, 24),)), RequestShape(1, 0.0, 12, 8, ()))
    changes = {"detail": detail, "serving__async_scheduling": in_flight}
    probe = RecordingProbe()
    simulation = played(monkeypatch, shapes, probes=[probe], **changes)
    ((start_s, end_s),) = [(start_s, end_s) for _, what, start_s, end_s, _ in probe.spans if what == "copy"]
    assert ticks(start_s) == token_ticks(simulation)["engine", 0][-1]
    assert end_s - start_s == pytest.approx(LATENCY_S + 5 * BLOCK_BYTES / PCIE, rel=1e-6)
    assert not simulation.logs["engine"].runs["attribution_ps"][:, TRANSFER].any()
    without = played(monkeypatch, shapes, serving__kv_offload=None, **changes)
    assert token_ticks(simulation) == token_ticks(without)


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_who_is_preempted_comes_back_from_the_host(monkeypatch, detail):
    """Two requests that fill the blocks: the one that gives way computes only what no full block holds."""
    shapes = (RequestShape(0, 0.0, 16, 20, ()), RequestShape(1, 0.0, 16, 20, ()))
    changes = {"detail": detail, "serving__async_scheduling": True}
    computed = {}
    for size in (None, {"size": "1 GiB"}):
        simulation = played(monkeypatch, shapes, serving__kv_offload=size, **changes)
        assert simulation.requests.rows["num_preemptions"].sum() > 0
        computed[size is None] = simulation.logs["engine"].total("num_prefill_tokens")
    assert simulation.engines["engine"].store.blocks_in > 0
    assert computed[False] < computed[True]


MODES = {
    "recompute": {},
    "in flight": {"serving__async_scheduling": True},
    "swap": {"serving__preemption_mode": "swap"},
}

shapes_of = st.lists(
    st.tuples(
        st.sampled_from([0, 500, 9000]), st.integers(8, 30), st.integers(1, 8), st.integers(0, 1), st.integers(8, 38)
    ),
    min_size=5,
    max_size=9,
)


def compare(rows, size, mode, seen):
    """Play requests at both details and compare tokens, blocks and bytes; note what happened."""
    shapes, now_us = [], 0
    for index, (gap_us, prompt, output, key, shared) in enumerate(rows):
        now_us += gap_us
        span = min(shared, prompt + output)
        shapes.append(RequestShape(index, now_us * 1e-6, prompt, output, ((key, span),) if span else ()))
    found = []
    for detail in ("kernel", "step"):
        with pytest.MonkeyPatch.context() as patch:
            offload = {"size": f"{size * BLOCK_BYTES} B"}
            simulation = played(patch, shapes, serving__kv_offload=offload, detail=detail, **MODES[mode])
        engine = simulation.engines["engine"]
        assert engine.kv.used == 0
        assert engine.roster.free_blocks == 12
        assert engine.store.used <= size
        host = engine.host
        counts = (engine.store.blocks_out, engine.store.blocks_in, 0 if host is None else host.blocks_out)
        moved = simulation.cluster.fabric.moved_bytes()
        back = engine.store.blocks_in + counts[2]
        assert moved["cpu0->gpu0:pcie"] == pytest.approx(back * BLOCK_BYTES)
        # What is on its way when all is over is not there yet.
        assert moved["gpu0->cpu0:pcie"] <= (engine.store.blocks_out + counts[2]) * BLOCK_BYTES * (1 + 1e-9)
        log = simulation.logs["engine"]
        found.append((token_ticks(simulation), counts, log.runs.tobytes(), engine.kv.peak_used, moved))
    assert found[0][:4] == found[1][:4]
    assert found[0][4] == pytest.approx(found[1][4])
    seen.update(what for what, number in zip(("stored", "restored", "swapped"), counts, strict=True) if number)
    seen.update([f"restored, {mode}"] if counts[1] else [])


def test_both_details_keep_and_restore_alike():
    """Tokens, blocks and bytes are the same folded and kernel by kernel, whatever begins alike, with little room or much."""
    seen = Counter()

    @settings(max_examples=25)
    @given(rows=shapes_of, size=st.sampled_from([4, 1000]), mode=st.sampled_from(sorted(MODES)))
    def check(rows, size, mode):
        compare(rows, size, mode, seen)

    check()
    assert seen["stored"] >= 15
    assert seen["restored"] >= 5
    assert seen["swapped"] >= 1
    assert seen["restored, in flight"] >= 2


def test_turns_of_sessions_come_back_from_the_host():
    """Conversations that take turns on a GPU too small for all of them: with offload every later turn finds its history."""
    changes = ENGINE | {
        "serving__num_gpu_blocks_override": 40,
        "workload": {
            "sessions": {
                "turns": {"kind": "fixed", "value": 4},
                "think_time": {"kind": "fixed", "value": "20 ms"},
            },
            "arrivals": {"kind": "constant", "rate": "1000 /s"},
            "prompt_tokens": {"kind": "fixed", "value": 16},
            "output_tokens": {"kind": "fixed", "value": 12},
            "num_requests": 24,
        },
    }
    runs = []
    for offload in (None, {"size": "1 GiB"}):
        simulation = build_simulation(**changes | {"serving__kv_offload": offload, "detail": "step"})
        summary = simulation.run().summary()
        assert summary["requests"]["finished"] == 24
        runs.append(summary["engines"]["engine"])
    kernel = build_simulation(**changes | {"detail": "kernel"})
    kernel.run()
    assert token_ticks(kernel) == token_ticks(simulation)
    without, with_host = runs
    assert with_host["kv_blocks_restored"] > 0
    # Turn t repeats t times 28 tokens, of which the last was not computed and the last full block is short of.
    history = 6 * sum((28 * turn - 1) // 4 * 4 for turn in range(1, 4))
    assert without["prefix_cache"]["hit_tokens"] < with_host["prefix_cache"]["hit_tokens"] == history


@pytest.mark.parametrize(("topology", "is_folded"), [("pcie-4gpu-2root", False), ("dgx-a100-80gb", True)])
def test_copies_that_meet_the_engines_own_collectives_are_played(topology, is_folded):
    """All-reduces over PCIe share it with copies to the host, those over NVLink do not."""
    changes = ENGINE | {"topology": topology, "serving__tensor_parallel_size": 2, "detail": "step"}
    assert (build_simulation(**changes).engines["engine"].folding is not None) == is_folded
    without = build_simulation(**changes | {"serving__kv_offload": None})
    assert without.engines["engine"].folding is not None


class Request:
    """What a store needs of one."""

    def __init__(self, sequence, tokens):
        self.content, self.target = ((sequence, tokens),), tokens + 1
        self.index, self.block_keys = sequence, None


def test_what_was_used_longest_ago_is_given_up_first():
    """Of three texts of two blocks in a store of four, the one asked for in between stays, and of a text its beginning."""
    store = HostStore(4, 4)
    first, second, third = (Request(sequence, 8) for sequence in range(3))
    for request in (first, second):
        store.keep(request, 8)
    store.bring_back(first, 0, 2)
    store.keep(third, 8)
    assert [store.find(request, 0) for request in (first, second, third)] == [2, 0, 2]
    store.keep(Request(3, 12), 12)
    assert [store.find(request, 0) for request in (first, third, Request(3, 12))] == [0, 1, 3]
    assert store.take_pending() == 4, "nine blocks were new, four can be there"
    assert store.take_pending() == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"serving__enable_prefix_caching": False},
            "kv_offload keeps blocks by what they hold: add enable_prefix_caching",
        ),
        ({"serving__kv_offload": {"size": "1 GiB", "when": "evicted"}}, "not yet: kv_offload of evicted blocks"),
        ({"serving__kv_offload": {"size": "1 KiB"}}, "kv_offload.size = "),
        ({"serving__kv_offload": {"size": "300 GiB"}}, "serving.kv_offload: 300 GiB for the GPUs of cpu0"),
        ({"serving__kv_placement": "pooled"}, "not yet: swapping or offloading pooled KV"),
    ],
)
def test_what_cannot_be_offloaded_is_refused(changes, said):
    """One clear message names the key and the way out."""
    with pytest.raises(SpecError) as caught:
        build_plan(**ENGINE | changes)
    assert said in str(caught.value).replace("\n", " ")

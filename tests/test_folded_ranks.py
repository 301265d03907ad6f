"""`ranks: folded` gives what `ranks: all` gives, bit for bit, and folds only where nothing can tell ranks apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings

from builders import build_simulation, token_ticks
from gpusim.core.probe import RecordingProbe
from gpusim.errors import SimulationError
from gpusim.plan import plan_document
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from scenarios import ARRIVALS, scenarios

FOLDABLE = {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2}


def both(**changes):
    """Run a scenario with all ranks and with folded ones, where they can be."""
    runs = [build_simulation(ranks=ranks, **changes) for ranks in ("all", "folded")]
    return [(run, run.run().summary()) for run in runs]


def played(data, ranks):
    """Run file data; None if none of its requests can run."""
    simulation = Simulation(plan_document(Document("test.yaml", {**data, "ranks": ranks}, folder=Path())))
    try:
        return simulation, simulation.run().summary()
    except SimulationError:
        return None


def ranks_of(simulation):
    """Return what became of the ranks of each engine."""
    return {name: engine.executor.ranks for name, engine in simulation.engines.items()}


def check_same_steps(every, folded):
    """Check tokens, steps, attribution and bounds, to the bit; return the runs with all ranks and with folded ones."""
    (every, of_every), (folded, of_folded) = every, folded
    assert token_ticks(folded) == token_ticks(every)
    for name, log in every.logs.items():
        np.testing.assert_array_equal(folded.logs[name].ends, log.ends)
        for part in ("attribution", "bounds"):
            assert of_folded["engines"][name][part] == of_every["engines"][name][part]
    return every, folded


def check_same_accounts(every, folded):
    """Check the bytes of each channel and link, FLOPs and busy time of every rank, within rounding of sums."""
    every, folded = every.cluster, folded.cluster
    for name, bank in every.banks.items():
        for of in ("channel_bytes_in", "channel_bytes_out", "served_s", "paced_bytes"):
            np.testing.assert_allclose(getattr(folded.banks[name], of), getattr(bank, of), rtol=1e-9)
    for name, gpu in every.gpus.items():
        assert folded.gpus[name].compute.flops == pytest.approx(gpu.compute.flops, rel=1e-9)
        assert folded.gpus[name].compute.busy_ticks == gpu.compute.busy_ticks
    assert folded.fabric.moved_bytes() == pytest.approx(every.fabric.moved_bytes(), rel=1e-9)
    assert folded.utilisation() == pytest.approx(every.utilisation(), rel=1e-9)


@pytest.mark.parametrize("machine", ["split", "engines"])
@pytest.mark.parametrize("kind", ARRIVALS)
def test_folded_ranks_give_the_same_run(kind, machine):
    """Every token, step and account: preemption, chunked prefill, both schedulers, several engines."""

    @settings(max_examples=4)
    @given(data=scenarios(kind, machine).map(lambda data: data | {"detail": "kernel"}))
    def check(data):
        every, folded = played(data, "all"), played(data, "folded")
        if every is None or folded is None:
            assert every is folded
            return
        every, folded = check_same_steps(every, folded)
        check_same_accounts(every, folded)
        assert set(ranks_of(every).values()) == {"all"}
        for plan in folded.plan.engines:
            assert ranks_of(folded)[plan.name] == ("folded" if len(plan.gpus) > 1 else "all")
        event(f"folded: {'folded' in ranks_of(folded).values()}")

    check()


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("efficiency", ["ideal", "calibrated"])
@pytest.mark.parametrize("topology", ["dgx-a100-80gb", "dgx-h100"])
def test_folded_ranks_on_catalog_machines(topology, efficiency, tp):
    """TP 2, 4 and 8, calibrated and ideal."""
    every, folded = check_same_steps(*both(topology=topology, efficiency=efficiency, serving__tensor_parallel_size=tp))
    check_same_accounts(every, folded)
    assert [ranks_of(run)["engine"] for run in (every, folded)] == ["all", "folded"]


FAR = {"kind": "copy", "from": "gpu5", "to": "gpu5", "rate": "10 GB/s"}
IN_MEMORY = {"kind": "copy", "from": "gpu1", "to": "gpu1", "rate": "10 GB/s"}
INTO_A_RANK = {"kind": "copy", "from": "gpu5", "to": "gpu1", "size": "1 MiB", "period": "1 ms"}
REDUCE = {"kind": "all_reduce", "gpus": ["gpu1", "gpu5"], "size": "1 MiB"}


@pytest.mark.parametrize(
    ("entry", "ranks"), [(FAR, "folded"), (IN_MEMORY, "all"), (INTO_A_RANK, "all"), (REDUCE, "all")]
)
def test_what_touches_one_rank_has_all_of_them_played(entry, ranks):
    """Traffic of other GPUs leaves ranks folded; in one rank's memory or on one of its links it does not."""
    every, folded = check_same_steps(*both(**FOLDABLE, background=[entry]))
    assert ranks_of(folded)["engine"] == ranks
    check_same_accounts(every, folded)


def test_engines_that_share_a_link_are_not_folded():
    """Two engines across both roots of a PCIe server meet on its uplinks; one of them alone is folded."""
    engines = [{"name": "left", "gpus": ["gpu0", "gpu2"]}, {"name": "right", "gpus": ["gpu1", "gpu3"]}]
    changes = FOLDABLE | {"topology": "pcie-4gpu-2root", "ranks": "folded"}
    assert ranks_of(build_simulation(engines=engines, **changes)) == {"left": "all", "right": "all"}
    assert ranks_of(build_simulation(engines=engines[:1], **changes)) == {"left": "folded"}


def test_ranks_that_read_one_pool_fold_where_they_do_not_feel_each_other():
    """Behind switches each rank's own link is the limit, and one flow reads for all; to the same token times."""
    every, folded = check_same_steps(*both(**FOLDABLE, serving__kv_placement="pooled"))
    assert ranks_of(folded)["engine"] == "folded"
    check_same_accounts(every, folded)


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_ranks_that_hold_each_other_up_are_all_played(detail):
    """On a cube mesh the ranks share links to the pool: no detail folds them, and all give the same tokens."""
    changes = FOLDABLE | {"topology": "dgx-1v", "serving__kv_placement": "pooled"}
    every, asked = build_simulation(**changes, ranks="all"), build_simulation(**changes, detail=detail, ranks="folded")
    every, asked = ((run, run.run().summary()) for run in (every, asked))
    engine = asked[1]["engines"]["engine"]
    assert (engine["detail"], engine["ranks"]) == ("kernel", "all")
    check_same_steps(every, asked)


def test_probes_see_the_rank_that_is_played():
    """A folded run shows its first rank, as it is shown among all, and the same flows."""
    probes = RecordingProbe(), RecordingProbe()
    for ranks, probe in zip(("all", "folded"), probes, strict=True):
        build_simulation(**FOLDABLE, ranks=ranks, probes=[probe]).run()
    every, folded = ([span for span in probe.spans if not span[0].startswith("gpu1")] for probe in probes)
    assert sorted(map(repr, folded)) == sorted(map(repr, every))
    assert not any(span[0].startswith("gpu1") for span in probes[1].spans)

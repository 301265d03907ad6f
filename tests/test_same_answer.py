"""`detail: step` gives the token times of `detail: kernel`, bit for bit, wherever nothing foreign is on the machine."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings

from builders import build_simulation, token_ticks
from gpusim.errors import SimulationError
from gpusim.plan import plan_document
from gpusim.runtime.executor import KernelExecutor
from gpusim.runtime.step_executor import StepExecutor
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from scenarios import ARRIVALS, MACHINES, scenarios


def played(data, detail):
    """Run a scenario at *detail*; None if none of its requests can run."""
    simulation = Simulation(plan_document(Document("test.yaml", {**data, "detail": detail}, folder=Path())))
    try:
        simulation.run()
    except SimulationError:
        return None
    return simulation


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", ARRIVALS)
def test_step_and_kernel_detail_give_the_same_tokens(kind, machine):
    """Every token of every request in the same tick: preemption, chunked prefill, both schedulers, TP, several engines."""

    @settings(max_examples=4)
    @given(data=scenarios(kind, machine))
    def check(data):
        kernel, step = played(data, "kernel"), played(data, "step")
        if kernel is None or step is None:
            assert kernel is step
            return
        assert token_ticks(step) == token_ticks(kernel)
        for name, log in kernel.logs.items():
            np.testing.assert_array_equal(step.logs[name].ends, log.ends)
            np.testing.assert_array_equal(step.logs[name].attribution_ps, log.attribution_ps)
        event(f"preemptions: {kernel.requests.rows['num_preemptions'].sum() > 0}")

    check()


def test_accounts_agree():
    """Bytes by channel and link, FLOPs and busy fractions of a folded run are those of the events it stands for."""
    runs = [
        build_simulation(topology="dgx-a100-80gb", serving__tensor_parallel_size=2, detail=detail)
        for detail in ("kernel", "step")
    ]
    for run in runs:
        run.run()
    kernel, step = (run.cluster for run in runs)
    for name, bank in kernel.banks.items():
        np.testing.assert_allclose(step.banks[name].channel_bytes_out, bank.channel_bytes_out, rtol=1e-9)
    for name, moved in kernel.fabric.moved_bytes().items():
        assert step.fabric.moved_bytes()[name] == pytest.approx(moved, rel=1e-9)
    for name, busy in kernel.utilisation().items():
        assert step.utilisation()[name] == pytest.approx(busy, rel=1e-9)
    assert step.gpus["gpu1"].compute.flops == pytest.approx(kernel.gpus["gpu1"].compute.flops, rel=1e-12)


def test_what_is_shared_is_played_at_kernel_detail():
    """An engine whose memory or links others use is not folded; one beside it that shares nothing is."""
    engines = [{"name": "busy", "gpus": ["gpu0"]}, {"name": "quiet", "gpus": ["gpu1"]}]
    copy = {"kind": "copy", "from": "gpu0", "to": "gpu0", "size": "1 MiB"}
    simulation = build_simulation(topology="dgx-a100-80gb", engines=engines, background=[copy], detail="step")
    executors = {name: engine.executor for name, engine in simulation.engines.items()}
    assert isinstance(executors["busy"], KernelExecutor)
    assert isinstance(executors["quiet"], StepExecutor)
    engines = simulation.run().summary()["engines"]
    assert [engines[name]["detail"] for name in ("busy", "quiet")] == ["kernel", "step"]


def test_engines_that_share_an_uplink_are_not_folded():
    """Two engines across both roots of a PCIe server meet on its uplinks."""
    engines = [{"name": "left", "gpus": ["gpu0", "gpu2"]}, {"name": "right", "gpus": ["gpu1", "gpu3"]}]
    changes = {"topology": "pcie-4gpu-2root", "serving__tensor_parallel_size": 2, "detail": "step"}
    simulation = build_simulation(engines=engines, **changes)
    assert all(isinstance(engine.executor, KernelExecutor) for engine in simulation.engines.values())

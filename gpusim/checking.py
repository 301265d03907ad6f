"""`gpusim check`: everything that can be known to be wrong before a run."""

from __future__ import annotations

import copy
from pathlib import Path

from gpusim.plan import Plan, plan_document
from gpusim.spec.document import Document
from gpusim.sweeps import check_points
from gpusim.workload.trace import check_trace


def check_document(document: Document) -> tuple[Plan, list[str]]:
    """Check a scenario, its traces to the last line, and every point of its sweep.

    Returns:
        The plan of the scenario, and notes on what was checked.

    Raises:
        SpecError: With what is wrong.
    """
    plan = plan_document(copy.deepcopy(document))
    workloads = filter(None, [plan.workload, *(engine.workload for engine in plan.engines)])
    traces = [Path(trace) for workload in workloads for trace in workload.traces]
    notes = [f"  trace {trace.name}: {check_trace(trace).num_requests} requests" for trace in traces]
    for engine in plan.engines:
        memory = engine.memory
        notes.append(
            f"  {engine.name}: {engine.model.name} on {', '.join(engine.gpus)} ({engine.device.name}), "
            f"{memory.num_blocks} KV blocks of {engine.serving.block_size} tokens"
        )
    if document.data.get("sweep"):
        notes.append(f"  sweep: {check_points(document)} points")
    return plan, notes

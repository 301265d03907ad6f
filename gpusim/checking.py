"""`gpusim check`: everything that can be known to be wrong before a run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from gpusim.caveats import long_contexts, long_requests, unmeasured
from gpusim.model.footprint import num_active_parameters, num_parameters
from gpusim.placement import EnginePlan
from gpusim.plan import Plan, plan_document
from gpusim.spec.document import Document
from gpusim.sweeps import check_points
from gpusim.workload.trace import check_trace


def check_document(document: Document) -> tuple[Plan, dict[str, Any]]:
    """Check a scenario, its traces to the last line, and every point of its sweep.

    Returns:
        The plan of the scenario, and what was checked: traces, engines with the KV blocks they have, points of the sweep;
        and `warnings` of what a run would warn of, as far as that is known before.

    Raises:
        SpecError: With what is wrong.
    """
    plan = plan_document(copy.deepcopy(document))
    workloads = filter(None, [plan.workload, *(engine.workload for engine in plan.engines)])
    traces = [Path(trace) for workload in workloads for trace in workload.traces]
    points = check_points(document) if document.data.get("sweep") else []
    warnings = [text for each in (plan, *points) for text in _warnings(each)]
    return plan, {
        "traces": [{"name": trace.name, "requests": check_trace(trace).num_requests} for trace in traces],
        "engines": [_checked(engine) for engine in plan.engines],
        "sweep_points": len(points) or None,
        "warnings": list(dict.fromkeys(warnings)),
    }


def _warnings(plan: Plan) -> list[str]:
    return [*long_requests(plan), *long_contexts(plan.engines), *unmeasured(plan)]


def _checked(engine: EnginePlan) -> dict[str, Any]:
    return {
        "name": engine.name,
        "model": engine.model.name,
        "parameters": num_parameters(engine.model),
        "active_parameters": num_active_parameters(engine.model),
        "gpus": list(engine.gpus),
        "device": engine.device.name,
        "kv_blocks": engine.memory.num_blocks,
        "block_size": engine.serving.block_size,
    }

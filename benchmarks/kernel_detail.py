"""Speed of kernel detail: python benchmarks/kernel_detail.py [--quick].

Steps per second of process CPU time, the median of three runs, and the same per million of SimPy's bare timeouts a
second, which says how many timeouts' time a step costs on whatever machine this runs on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from measure import cpu_s, median_of, simpy_timeouts_per_s

from gpusim.plan import plan_document
from gpusim.simulation import Simulation
from gpusim.spec.document import Document

BATCH = 16
PROMPT_TOKENS = 512
OUTPUT_TOKENS = 200
QUICK_OUTPUT_TOKENS = 40
RUNS = 3

CASES: dict[str, dict[str, Any]] = {
    "Llama-2-7B, one GPU": {"topology": "dgx-a100-80gb", "model": "llama-2-7b"},
    "Llama-2-70B, TP 8, folded": {"topology": "dgx-h100", "model": "llama-2-70b", "tp": 8},
    "Llama-2-70B, TP 8, all ranks": {"topology": "dgx-h100", "model": "llama-2-70b", "tp": 8, "ranks": "all"},
    "Llama-2-7B beside a copy": {
        "topology": "dgx-a100-80gb",
        "model": "llama-2-7b",
        "background": [
            {"kind": "copy", "from": "gpu0", "to": "gpu0", "size": "256 MiB", "period": "20 ms"},
        ],
    },
    "two TP 2 on one uplink": {
        "topology": "pcie-4gpu-2root",
        "model": "llama-2-7b",
        "tp": 2,
        "engines": [
            {"name": "left", "gpus": ["gpu0", "gpu2"]},
            {"name": "right", "gpus": ["gpu1", "gpu3"]},
        ],
    },
}


def scenario(case: dict[str, Any], output_tokens: int) -> dict[str, Any]:
    """Return file data of a batch that decodes together from the first step to the last."""
    settings = dict(case)
    serving = {"tensor_parallel_size": settings.pop("tp", 1), "max_num_seqs": BATCH}
    return {
        "schema": 1,
        "detail": "kernel",
        "serving": serving,
        "workload": {
            "arrivals": {"kind": "at_once"},
            "prompt_tokens": {"kind": "fixed", "value": PROMPT_TOKENS},
            "output_tokens": {"kind": "fixed", "value": output_tokens},
            "num_requests": BATCH * len(settings.get("engines", [None])),
        },
        **settings,
    }


def steps_per_s(case: dict[str, Any], output_tokens: int) -> float:
    """Return the steps of all engines that a second of CPU time plays."""
    simulation = Simulation(plan_document(Document("benchmark", scenario(case, output_tokens), folder=Path())))
    taken_s = cpu_s(simulation.run)
    return sum(len(log.ends) for log in simulation.logs.values()) / taken_s


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each case")
    quick = parser.parse_args().quick
    runs, output_tokens = (1, QUICK_OUTPUT_TOKENS) if quick else (RUNS, OUTPUT_TOKENS)
    timeouts = median_of(runs, simpy_timeouts_per_s)
    print(f"SimPy alone: {timeouts:,.0f} timeouts/s")
    print(f"{'':30} {'steps/s':>10} {'timeouts/step':>14}")
    for name, case in CASES.items():
        speed = median_of(runs, lambda case=case: steps_per_s(case, output_tokens))
        print(f"{name:30} {speed:10,.1f} {timeouts / speed:14,.0f}")


if __name__ == "__main__":
    main()

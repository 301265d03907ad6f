"""How large a timeline is, and how long it takes: 100 decode steps of Llama-2-70B on 8 GPUs, ranks folded.

python benchmarks/timeline.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from gpusim.plan import plan_document
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from gpusim.trace.record import write_timeline
from gpusim.trace.window import find_window

SCENARIO = {
    "schema": 1,
    "topology": "dgx-h100",
    "model": "llama-2-70b",
    "serving": {"tensor_parallel_size": 8, "max_num_seqs": 64},
    "workload": {
        "arrivals": {"kind": "at_once"},
        "prompt_tokens": {"kind": "fixed", "value": 512},
        "output_tokens": {"kind": "fixed", "value": 120},
        "num_requests": 64,
    },
}


def measure(steps: int) -> dict[str, float]:
    """Write a timeline of the first *steps* steps; return its size, its events and the seconds it took."""
    plan = plan_document(Document("timeline", SCENARIO, folder=Path()))
    logs = Simulation(plan).run().record.steps
    end_s = float(logs["engine"].starts[steps]) / 1e12
    window = find_window(logs, None, end_s)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.json.gz"
        begun = time.perf_counter()
        traced = write_timeline(plan, path, window)
        took_s = time.perf_counter() - begun
        size_bytes = path.stat().st_size
    return {
        "steps": window.num_steps,
        "events": traced.num_events,
        "size_bytes": size_bytes,
        "wall_s": round(took_s, 2),
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    print(json.dumps(measure(parser.parse_args().steps), indent=2))


if __name__ == "__main__":
    main()

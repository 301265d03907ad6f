"""Write docs/step-parts.md: one decode step of some measured runs, taken apart.

    python benchmarks/step_parts.py SERVING_FOLDER [--out docs/step-parts.md]

Each run is simulated; then one step with its mean batch and mean context is timed kernel by kernel, by the simulator's own
lowering and timer, and set beside a closed formula that needs a constant of 0.82 ms a step, and beside what was measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import polars as pl
from accuracy import markdown
from step_formula import REMAINDER_S
from step_timing import Step, step_of

from gpusim.runs.layout import read_folder

RUNS: Final = {
    "h100-llama-3.1-8b-tp1-general-e16": "Llama-3.1-8B",
    "a100-llama-3.1-8b-tp1-general-lite-e38": "the same, A100",
    "h100-llama-2-7b-tp1-general-t231439": "Llama-2-7B",
    "h100-codellama-34b-tp2-general-t150304": "CodeLlama-34B, 2 GPUs",
    "h100-mixtral-8x7b-tp2-general-e9": "Mixtral-8x7B, 2 GPUs",
    "h100-llama-3.1-8b-tp2-general-e26": "Llama-3.1-8B, 2 GPUs",
}
ROWS: Final = (
    "products",
    "experts",
    "attention",
    "element-wise, bytes",
    "element-wise, launches",
    "sampling",
    "sort of logits",
    "host",
    "all-reduces, latency",
    "all-reduces, wire",
    "all-gather of logits, latency",
    "all-gather of logits, wire",
    "constant",
)


HEAD: Final = """# A step taken apart

Written by `make accuracy` (`benchmarks/step_parts.py`) from measured serving runs that are not part of gpusim. Do not edit.

A closed formula of products, attention, experts, bytes of element-wise kernels at 1.5 times the memory's bandwidth, all-reduces and
the sort of the logits comes within 2 % of the measured runs in the mean if 0.82 ms are added to every step, whatever the model: a remainder, fitted, without
a reason. gpusim has no such constant. Below, one decode step with the mean batch and the mean context of a run (means over its
tokens), timed kernel by kernel as the simulation does, on the GPU's own laws; behind the stroke the formula's figure. All-reduces have one law in both.
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/step-parts.md"))
    options = parser.parse_args()
    experiments = {experiment.name: experiment for experiment in read_folder(options.folder)}
    steps = [step_of(experiments[name], title) for name, title in RUNS.items()]
    options.out.write_text("\n".join([HEAD, table(steps), notes(steps)]), encoding="utf-8")
    print(f"wrote {options.out}")


def table(steps: Sequence[Step]) -> str:
    """Return parts of the steps, ours / the formula's, in ms."""
    columns = {"part": "ms, ours / formula"} | {step.title: step.title for step in steps}
    rows = [{"part": "sequences × context"} | {step.title: f"{step.batch} × {step.context}" for step in steps}]
    rows += [
        {"part": part} | {step.title: _pair(step.ours.get(part), step.formula.get(part)) for step in steps}
        for part in ROWS
    ]
    rows += [
        {"part": "**step**"} | {s.title: f"**{1e3 * s.total:.2f}** / {1e3 * s.by_formula:.2f}" for s in steps},
        {"part": "in place of the constant"} | {step.title: f"{1e3 * step.beyond:.2f}" for step in steps},
        {"part": "chunks, uneven batches"} | {s.title: f"{1e3 * (s.simulated - s.total):+.2f}" for s in steps},
        {"part": "simulated in the mean of the run"} | {s.title: f"{1e3 * s.simulated:.2f}" for s in steps},
        {"part": "**measured − simulated**"} | {s.title: f"**{1e3 * s.remainder:+.2f}**" for s in steps},
        {"part": "kernels, collectives"} | {s.title: f"{s.num_kernels}, {s.num_collectives}" for s in steps},
    ]
    return markdown(pl.DataFrame(rows), columns)


def _pair(ours: float | None, formula: float | None) -> str:
    if ours is None and formula is None:
        return "–"
    return " / ".join("–" if value is None else f"{1e3 * value:.2f}" for value in (ours, formula))


def notes(steps: Sequence[Step]) -> str:
    """Say what the constant is made of, and what the rest allows at most."""
    single, split = [s for s in steps if not s.num_collectives], [s for s in steps if s.num_collectives]
    attention = _range(s.ours["attention"] - s.formula["attention"] for s in steps)
    small = _range(s.ours["element-wise, bytes"] - s.formula["element-wise, bytes"] for s in steps)
    gap_us = max(1e6 * s.remainder / s.num_kernels for s in single)
    skew = max(split, key=lambda s: s.remainder / s.num_collectives)
    skew_us = 1e6 * skew.remainder / skew.num_collectives
    return f"""## What the {1e3 * REMAINDER_S:.2f} ms are

Beyond the formula's other parts the kernels take {_range(s.beyond for s in steps)} ms:

- Launches of element-wise kernels (norms, rotary embedding, cache write, activation; their `t0`, five a layer): {_range(s.ours["element-wise, launches"] for s in steps)} ms. The formula has
  none. Their bytes: {small} ms more than the formula's.
- Attention: {attention} ms more than `t0 + bytes / rate`: its work items and splits, which the formula leaves out.
- Sampling (fp32 copy and search of the logits), and the gathering of the logits where there are two GPUs: {_range(_sampling(s) for s in steps)} ms.
- Host time of the profile: {_range(s.ours["host"] for s in steps)} ms.
- Products and experts: {_range(_products(s) for s in steps)} ms beside the formula's, whose constants are older.

## What remains

Measured − simulated is {_range(s.remainder for s in steps)} ms a step. The laws and the profile have none of the following; no remainder below 0 leaves room for any of
them, so each figure is the most that the run with the largest remainder allows, were it the only cause:

- gaps between the kernels of a CUDA graph: {_at_most(gap_us)} a kernel (largest remainder on one GPU). What of them a benchmark sees that replays a graph is in `t0` already.
- ranks that come late to a collective: {_at_most(skew_us)} a collective ({skew.title}).
- host time that asynchronous scheduling does not hide: {_at_most(1e3 * max(s.remainder for s in steps), "ms")} a step.

The runs do not tell the three apart. They are of one size with the errors of the laws: 1 % of a step's products alone is {_range(0.01 * _matrices(s) for s in steps)} ms.
"""


def _sampling(step: Step) -> float:
    return sum(value for name, value in step.ours.items() if name == "sampling" or name.startswith("all-gather"))


def _matrices(step: Step) -> float:
    return step.ours["products"] + step.ours.get("experts", 0.0)


def _products(step: Step) -> float:
    return _matrices(step) - step.formula["products"] - step.formula.get("experts", 0.0)


def _range(values: Iterable[float]) -> str:
    """Return the least and the largest of *values*, of seconds in ms."""
    found = sorted(1e3 * value for value in values)
    return f"{found[0]:.2f} to {found[-1]:.2f}"


def _at_most(value: float, unit: str = "us") -> str:
    return f"at most {value:.1f} {unit}" if value > 0 else "nothing"


if __name__ == "__main__":
    main()

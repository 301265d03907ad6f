"""Write docs/serving-accuracy.md: how well measured serving runs are predicted, and where not.

    python benchmarks/serving_accuracy.py SERVING_FOLDER [--out docs/serving-accuracy.md] [--fit FILE]

All runs are simulated twice: with the laws of their GPUs, and with each GPU taken for one that nobody measured. FILE is what
``gpusim calibrate --engine vllm SERVING_FOLDER --json`` prints; it has the errors with groups of runs left out of the fit of the
engine profile, which takes four more simulations of all runs. The reasons are written by hand (`RUN_GAPS`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import serving_tables as tables
from serving_gaps import NAMED_ABOVE, RUN_GAPS
from serving_requests import FIRST, long_queues, without_first

from gpusim.runs.layout import read_folder
from gpusim.runs.predictions import Prediction, cores, predict_all
from gpusim.runs.scores import reasons

HEAD = """# Accuracy: measured serving runs

Written by `make accuracy` (`benchmarks/serving_accuracy.py`) from runs of vLLM that are not part of gpusim; how they are simulated is
[here](serving-runs.md), kernels by themselves are [there](accuracy.md). Do not edit: prose stands in `benchmarks/serving_accuracy.py` and
`benchmarks/serving_gaps.py`.

An error is predicted / measured − 1, in %; means are of its size, over the scored runs (overloaded ones are not scored). *In sample*: the
engine profile was fitted to these runs. *Each GPU taken for unmeasured*: the laws of kernels come from the data sheet and
the other GPUs ([the rule](default-laws.md)), the engine profile stays.
"""
PEERS = """What others predicted of the same runs, as the runs' files state it, and ours over the runs that each covers. A dash: the peer does not
predict it.
"""
GAPS = """Percentiles over all gaps between tokens of the runs where they are known. p99.8 is no goal: the gaps up there are stalls.
"""
FOLDS = """Each family of models, then each GPU, left out of the fit of the engine profile and predicted with the values that the others give, by the linear
model of `gpusim calibrate --engine`. Laws of kernels stay; of all laws only the sort of the logits was fitted on a serving run.
"""
NO_FOLDS = """Not computed for this page. `gpusim calibrate --engine vllm DIR --json` leaves each family of models and each GPU out of the fit;
`make accuracy FIT=FILE` shows what it printed.
"""

FAILURES = f"""`tests/runs/test_known_gaps.py` asserts that each gap is there, so that closing one is noticed, and that each scored run whose time per output
token is more than {100 * NAMED_ABOVE:.0f} % off lies in one. What a step is made of, and what it misses: [a step taken apart](step-parts.md).
"""
WITHOUT = f"""Signed errors beside those with the first {FIRST} requests left out of what was measured. The simulation keeps them, and their prompts are cold there
too: p99 says something where it stays below 0.
"""
QUEUES = """Requests that got their tokens while the batch was full: measured − simulated time per output token.
"""


def page(in_sample: list[Prediction], left_out: list[Prediction], fit: Path | None) -> str:
    """Return the page."""
    better = tables.better_peers(in_sample)
    text = [
        HEAD,
        "## In the mean\n",
        tables.means(in_sample, left_out),
        "## Beside others\n",
        PEERS,
        tables.peers(in_sample),
        f"Better than ours in the mean: {'; '.join(better) or 'none'}.\n",
        "## Run by run\n",
        "Signed; in brackets: not scored. *Decodes*: sequences that decode in a step, in the mean.\n",
        tables.by_run(in_sample, left_out),
        *(f"- {row['experiment']} has no prediction: {row['reason']}\n" for row in reasons(in_sample)),
        "## Gaps between tokens\n",
        GAPS,
        tables.gaps(in_sample),
        "## Groups left out of the fit\n",
        FOLDS + "\n" + tables.folds(json.loads(fit.read_text(encoding="utf-8"))) if fit else NO_FOLDS,
        "## Where it fails, and why\n",
        FAILURES,
        "\n".join(_gaps(tables.errors(in_sample))) + "\n",
        f"### TTFT without the first {FIRST} requests\n",
        WITHOUT,
        without_first(in_sample),
        "### Full batches beside a queue\n",
        QUEUES,
        long_queues(in_sample),
    ]
    return "\n".join(text)


def _gaps(errors: dict[str, dict[str, float]]) -> list[str]:
    """Return a line for each known gap with the least and the largest error of its runs; none where none is at hand."""
    lines = []
    for gap in RUN_GAPS:
        found = sorted(row[gap.metric] for run, row in errors.items() if gap.covers(run) and gap.metric in row)
        if found:
            sizes = " to ".join(dict.fromkeys(tables.signed(value) for value in (found[0], found[-1])))
            runs = ", ".join(f"`{run}`" for run in gap.runs)
            lines.append(f"- **{gap.name}** ({runs}: {gap.metric} {sizes} %): {gap.why}")
    return lines


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/serving-accuracy.md"))
    parser.add_argument("--fit", type=Path, help="what gpusim calibrate --engine vllm SERVING_FOLDER --json printed")
    options = parser.parse_args()
    experiments = read_folder(options.folder)
    in_sample, left_out = (predict_all(experiments, left_out=left, processes=cores()) for left in (False, True))
    options.out.write_text(page(in_sample, left_out, options.fit), encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()

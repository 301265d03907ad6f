"""The page of `gpusim validate serving --html`: every run beside what was measured and what peers predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gpusim.report.numbers import SCALES, digits, time_unit
from gpusim.report.page import heading, paragraph, table, write_html
from gpusim.report.runs import TITLES, gap_tables, percentages, run_percentages
from gpusim.report.runs_figures import metrics_scatter, percentile_curves
from gpusim.report.theme import style
from gpusim.runs.distributions import measured_quantiles
from gpusim.runs.gaps import gaps
from gpusim.runs.layout import METRICS, Experiment
from gpusim.runs.predictions import Prediction
from gpusim.runs.scores import OURS, beside_peers, errors, mean_errors, reasons, run_rows
from gpusim.spelling import counted
from gpusim.version import __version__

_WORDS: Final = frozenset({"experiment", "who", "reason", "metric", "unit"})
_OVERVIEW: Final = {"mean_decodes": "decodes"} | TITLES
_RUN: Final = {"error": f"{OURS} %"}
_NOT_SCORED: Final = " (not scored)"


def write_page(predictions: Sequence[Prediction], path: Path, name: str) -> None:
    """Write the page of *predictions* of the folder called *name*.

    Raises:
        SpecError: If *path* cannot be written, or a file of requests cannot be read.
    """
    predicted = [prediction for prediction in predictions if prediction.metrics]
    parts = [heading(1, f"Predicted and measured: {name}"), _introduction(len(predicted), len(predictions))]
    parts += _overview(predictions)
    for number, prediction in enumerate(predicted):
        parts += _run(prediction, number)
    without = reasons(predictions)
    if without:
        parts += [heading(2, "Without a prediction"), table(without, {}, _WORDS, stacks=True)]
    write_html(path, name, parts, style())


def _introduction(predicted: int, experiments: int) -> str:
    return paragraph(
        f"gpusim {__version__}: {predicted} of {counted(experiments, 'experiment')} simulated from their inputs. Errors are "
        "predicted / measured - 1. Runs in brackets are not scored, and their dots are hollow. On the line a prediction is right. "
        "itl: mean time per output token; decodes: sequences that decode in a step, in the mean."
    )


def _overview(predictions: Sequence[Prediction]) -> list[str]:
    """Return mean errors beside the peers', a figure of all metrics and the errors of each run."""
    parts = []
    means = mean_errors(predictions)
    if means["runs"]:
        rows = [_columns(percentages(row, ""), "who", "runs") for row in (means, *beside_peers(predictions))]
        parts += [heading(2, "Mean size of the error in %, scored runs"), table(rows, TITLES, _WORDS, stacks=True)]
    points = [point for prediction in predictions for point in _points(prediction)]
    if points:
        rows = [_columns(run_percentages(row), "experiment", "mean_decodes") for row in run_rows(predictions)]
        parts += [
            heading(2, "Signed errors in %"),
            metrics_scatter(points),
            table(rows, _OVERVIEW, _WORDS, stacks=True),
        ]
    for title, rows in gap_tables(predictions).items():
        parts += [heading(2, title), table(rows, {}, _WORDS, stacks=True)]
    return parts


def _columns(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row.get(name) for name in (*names, *METRICS)}


def _points(prediction: Prediction) -> list[dict[str, Any]]:
    experiment = prediction.experiment
    both = errors(prediction.metrics, experiment.measured)
    shared = {"gpu": experiment.system.get("gpu"), "scored": experiment.is_scored} if both else {}
    return [
        {"metric": name, "measured": experiment.measured[name], "predicted": prediction.metrics[name], **shared}
        for name in both
    ]


def _run(prediction: Prediction, number: int) -> list[str]:
    """Return what is known of run *number*: its setup, each metric beside the peers' errors, and percentiles."""
    experiment = prediction.experiment
    parts = [
        heading(2, experiment.name + ("" if experiment.is_scored else _NOT_SCORED)),
        paragraph(_setup(experiment)),
        table(_metrics(prediction), _RUN, _WORDS, stacks=True),
    ]
    measured = measured_quantiles(experiment)
    if measured:
        parts.append(percentile_curves(measured, prediction.quantiles, f"run{number}"))
    return parts


def _setup(experiment: Experiment) -> str:
    system, engine, workload = experiment.system, experiment.engine, experiment.workload
    stated = {
        "model": experiment.model.get("name"),
        "GPU": f"{system.get('num_gpus') or 1} {system.get('gpu')}",
        "tensor parallel": system.get("tensor_parallel"),
        "engine": " ".join(str(engine[key]) for key in ("name", "version") if engine.get(key)),
        "workload": workload.get("kind"),
        "requests": workload.get("num_requests"),
        "regime": experiment.data.get("regime"),
    }
    return "; ".join(f"{key}: {value}" for key, value in stated.items() if value) + "."


def _metrics(prediction: Prediction) -> list[dict[str, Any]]:
    """Return a row for each metric and percentile of gaps between tokens; per cents are signed errors."""
    experiment = prediction.experiment
    ours = errors(prediction.metrics, experiment.measured)
    theirs = {f"{peer} %": errors(metrics, experiment.measured) for peer, metrics in experiment.peers.items()}
    rows = []
    for name, predicted in prediction.metrics.items():
        row = _figures(TITLES[name], experiment.measured.get(name), predicted, ours.get(name))
        rows.append(row | {peer: _percent(found.get(name)) for peer, found in theirs.items() if found})
    peers = {peer: None for peer, errors_of in theirs.items() if errors_of}
    found = gaps(experiment, prediction.gap_quantiles)
    return rows + [
        _figures(f"token gap {gap.percentile}", gap.measured_s, gap.predicted_s, gap.error) | peers for gap in found
    ]


def _figures(title: str, measured: float | None, predicted: float, error: float | None) -> dict[str, Any]:
    unit = time_unit((measured, predicted))
    return {
        "metric": title,
        "measured": digits(measured, SCALES[unit]),
        "predicted": digits(predicted, SCALES[unit]),
        "unit": unit,
        "error": _percent(error),
    }


def _percent(error: float | None) -> str | None:
    return None if error is None else f"{100 * error:+.1f}"

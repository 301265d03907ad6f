"""Several runs side by side on a page: the values of each, and what changed against the first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from gpusim.errors import SpecError
from gpusim.report.compare import change_texts, differing, how
from gpusim.report.numbers import ABSENT, SCALES, digits, time_unit
from gpusim.report.page import heading, paragraph, table
from gpusim.report.theme import RUNS
from gpusim.results.change import UNITS, Change
from gpusim.results.comparison import Comparison, Versus, compare
from gpusim.results.result import Result

MOST_RUNS: Final = len(RUNS)
"""Runs on one page: as many as there are colours that everybody tells apart."""


def check_number(runs: Collection[object]) -> None:
    """See that a page can show so many *runs*.

    Raises:
        SpecError: If there are too many.
    """
    if len(runs) > MOST_RUNS:
        raise SpecError(
            f"{len(runs)} runs are too many for one page, which shows {MOST_RUNS} at most; "
            "make several pages, or use gpusim compare, which takes any number"
        )


def compared(runs: Mapping[str, Result]) -> Comparison | None:
    """Compare *runs* with the first of them; None if there is no other, or one measured no request."""
    results = list(runs.values())
    if len(results) == 1 or not all(result.summary()["measured"]["requests"] for result in results):
        return None
    return compare(results[0], results[1], *results[2:], names=list(runs))


def verdicts_html(comparison: Comparison, labels: Mapping[str, str]) -> list[str]:
    """Return what *comparison* says, in a sentence for each run, and in a table of all metrics; runs go by *labels*."""
    parts = [heading(2, f"Against {labels[comparison.baseline]}")]
    for versus in comparison:
        parts.append(paragraph(f"{labels[versus.name]}: {versus.verdict}."))
        parts.append(paragraph(f"{_differing(versus)}; {how(versus, comparison.confidence)}."))
    titles = {"value0": labels[comparison.baseline]}
    for place, versus in enumerate(comparison, 1):
        label = labels[versus.name]
        of = f" of {label}" if len(comparison.runs) > 1 else ""
        titles |= {f"value{place}": label, f"change{place}": f"change{of}", f"verdict{place}": f"verdict{of}"}
    by_metric = [{change.metric: change for change in versus.changes} for versus in comparison]
    rows = [_row([found.get(metric) for found in by_metric]) for metric in UNITS if any(metric in f for f in by_metric)]
    words = {"metric", "unit", *(key for key in titles if key.startswith("verdict"))}
    return [*parts, table(rows, titles, words, stacks=True)]


def _row(changes: Sequence[Change | None]) -> dict[str, str]:
    """Return verdict and change of each run but the baseline, which a narrow screen shows first; then values in one unit."""
    first = next(change for change in changes if change is not None)
    texts = change_texts(first)
    values = [first.a, *(None if change is None else change.b for change in changes)]
    unit = time_unit(values) if first.unit == "s" else texts["unit"]
    row = {"metric": texts["metric"]}
    for place, change in enumerate(changes, 1):
        written = None if change is None else change_texts(change)
        row[f"verdict{place}"] = ABSENT if written is None else written["verdict"]
        row[f"change{place}"] = ABSENT if written is None else _written(written)
    scale = SCALES.get(unit, 1.0)
    return row | {"unit": unit} | {f"value{place}": digits(value, scale) for place, value in enumerate(values)}


def _written(texts: Mapping[str, str]) -> str:
    return texts["change"] if texts["interval"] == ABSENT else f"{texts['change']} ({texts['interval']})"


def _differing(versus: Versus) -> str:
    first, *more = differing(versus.differences)
    text = " ".join([first, "; ".join(line.strip() for line in more)]).strip()
    return text[0].upper() + text[1:]

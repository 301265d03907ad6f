"""``gpusim compare``: runs held against a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from gpusim.cli.app import app
from gpusim.cli.common import JsonOption, SetOption, WithOption, complete_run, console, note, opened, print_json

if TYPE_CHECKING:
    from gpusim.results.comparison import Comparison, Versus
    from gpusim.results.limits import Limit

FAILED: Final = 1


@app.command()
def compare(  # noqa: PLR0917 - typer reads them by name
    baseline: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="The baseline: the directory of a run, or a scenario to simulate now.",
            autocompletion=complete_run,
        ),
    ],
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[B]...", help="What is compared with it, given in the same way.", autocompletion=complete_run
        ),
    ] = None,
    overrides: SetOption = None,
    changed: WithOption = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help='Exit with 1 if this holds, e.g. "itl.p99 > +5 %", "ttft.mean > 200 ms"; may be repeated.',
        ),
    ] = None,
    surely: Annotated[
        bool, typer.Option("--surely", help="Let --fail-if hold only where the whole interval is beyond the limit.")
    ] = False,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Look at this metric only, e.g. itl.p99; may be repeated.")
    ] = None,
    at_least: Annotated[
        str, typer.Option(metavar="CHANGE", help="Smallest change that matters, e.g. 1% of the baseline.")
    ] = "0 %",
    confidence: Annotated[
        float, typer.Option(metavar="P", help="Of each interval, and of all verdicts on a run together.")
    ] = 0.95,
    as_json: JsonOption = False,
) -> None:
    """Say what changed between runs, by how much, and whether that is more than noise."""
    from gpusim.errors import GpusimError  # noqa: PLC0415
    from gpusim.report.compare import comparison_rows, print_comparison  # noqa: PLC0415 - commands pay for what they use
    from gpusim.results.comparison import compare as compare_results  # noqa: PLC0415
    from gpusim.results.limits import Limit, parse_part  # noqa: PLC0415

    limits = [Limit.parse(text) for text in fail_if or []]
    smallest = parse_part(at_least)
    sources = [(source, overrides) for source in (baseline, *(runs or []))]
    if changed:
        sources.append((baseline, [*(overrides or []), *changed]))
    if len(sources) == 1:
        raise GpusimError("name a second run to compare with, or change the scenario: --with KEY=VALUE")
    comparison = compare_results(
        *(opened(*source) for source in sources),
        metrics=metric and [*metric, *(limit.metric for limit in limits)],
        names=[*(baseline, *(runs or [])), *([f"{baseline} with {' '.join(changed)}"] if changed else [])],
        confidence=confidence,
        at_least=smallest,
    )
    broken = _broken(comparison, limits, surely=surely)
    if as_json:
        print_json(comparison_rows(comparison, broken))
    else:
        print_comparison(comparison, console())
    _fail(broken)


def _broken(comparison: Comparison, limits: list[Limit], *, surely: bool) -> list[tuple[Versus, Limit]]:
    """Return which runs are beyond which limits."""
    from gpusim.errors import GpusimError  # noqa: PLC0415

    broken = []
    for versus in comparison:
        for limit in limits:
            if limit.metric not in {change.metric for change in versus.changes}:
                raise GpusimError(f"--fail-if {limit.text!r}: the runs have no {limit.metric}; goodput needs an slo")
            if limit.is_broken(versus[limit.metric], surely=surely):
                broken.append((versus, limit))
    return broken


def _fail(broken: list[tuple[Versus, Limit]]) -> None:
    from gpusim.report.compare import sentence  # noqa: PLC0415

    for versus, limit in broken:
        note(f"{versus.name}: {sentence(versus[limit.metric])}: fails {limit.text!r}")
    if broken:
        raise typer.Exit(FAILED)

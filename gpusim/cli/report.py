"""``gpusim report``: a page of one run, or of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpusim.cli.app import app
from gpusim.cli.common import JsonOption, SetOption, WithOption, complete_run, note, opened, print_json


@app.command()
def report(  # noqa: PLR0917 - typer reads them by name
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Directories of runs, or scenarios to simulate now.", autocompletion=complete_run
        ),
    ],
    overrides: SetOption = None,
    changed: WithOption = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The page to write.")] = Path("report.html"),
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each figure to this folder, as PNG.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="DIR", help="The same as SVG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page of one or several runs; it opens offline."""
    from gpusim.files import check_parent, make_folder  # noqa: PLC0415 - commands pay for what they use
    from gpusim.report.compare import comparison_rows  # noqa: PLC0415
    from gpusim.report.figures import need_altair  # noqa: PLC0415
    from gpusim.report.run_figures import write_figures  # noqa: PLC0415
    from gpusim.report.run_page import write_run_page  # noqa: PLC0415
    from gpusim.report.run_verdicts import check_number  # noqa: PLC0415

    need_altair()
    sources = [(Path(run).name, run, overrides) for run in runs]
    if changed:
        sources.append((", ".join(map(_short, changed)), runs[0], [*(overrides or []), *changed]))
    check_number(sources)
    check_parent(out, png, svg)
    figures = [(folder, suffix) for folder, suffix in ((png, "png"), (svg, "svg")) if folder is not None]
    for folder, _ in figures:
        make_folder(folder)
    names = _numbered([name for name, _, _ in sources])
    found = {name: opened(source, keys) for name, (_, source, keys) in zip(names, sources, strict=True)}
    comparison = write_run_page(found, out)
    written = [out]
    for folder, suffix in figures:
        written += write_figures(found, folder, suffix)
    if as_json:
        print_json(
            {
                "files": [{"path": str(path), "size_bytes": path.stat().st_size} for path in written],
                "runs": list(found),
                "comparison": None if comparison is None else comparison_rows(comparison),
            }
        )
    note(f"{out}: written")


def _short(assignment: str) -> str:
    """Return *assignment* with the last part of its key."""
    key, equals, value = assignment.partition("=")
    return key.rpartition(".")[2] + equals + value


def _numbered(names: list[str]) -> list[str]:
    """Return *names*, numbered where several are the same."""
    return [f"{name} {names[: at + 1].count(name)}" if names.count(name) > 1 else name for at, name in enumerate(names)]

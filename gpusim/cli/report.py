"""``gpusim report``: a page of one run, or of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpusim.cli.app import app
from gpusim.cli.common import JsonOption, complete_run, note, opened, print_json


@app.command()
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Directories of runs, or scenarios to simulate now.", autocompletion=complete_run
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The page to write.")] = Path("report.html"),
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each figure to this folder, as PNG.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="DIR", help="The same as SVG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page of one or several runs; it opens offline."""
    from gpusim.files import check_parent  # noqa: PLC0415 - commands pay for what they use
    from gpusim.report.figures import need_altair  # noqa: PLC0415
    from gpusim.report.run_figures import write_figures  # noqa: PLC0415
    from gpusim.report.run_page import write_run_page  # noqa: PLC0415

    need_altair()
    check_parent(out, png, svg)
    found = {name: opened(source) for name, source in _names(runs).items()}
    write_run_page(found, out)
    for folder, suffix in ((png, "png"), (svg, "svg")):
        if folder is not None:
            folder.mkdir(exist_ok=True)
            write_figures(found, folder, suffix)
    if as_json:
        print_json(
            {
                "file": str(out),
                "size_bytes": out.stat().st_size,
                "runs": list(found),
                "folders": [str(folder) for folder in (png, svg) if folder is not None],
            }
        )
    note(f"{out}: written")


def _names(sources: list[str]) -> dict[str, str]:
    """Return sources by the last part of their path, numbered where two have the same."""
    names = [Path(source).name for source in sources]
    numbered = [
        f"{name} {names[: at + 1].count(name)}" if names.count(name) > 1 else name for at, name in enumerate(names)
    ]
    return dict(zip(numbered, sources, strict=True))

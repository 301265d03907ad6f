"""``gpusim validate``: predictions beside what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpusim.cli.app import Commands, app
from gpusim.cli.common import DeviceOption, JsonOption, complete_engine, console, note, print_json
from gpusim.files import check_parent

LeftOutOption = Annotated[
    bool, typer.Option("--left-out", help="Take each GPU for unmeasured: laws from its data sheet and other GPUs.")
]

validate_app = Commands("Hold predictions against measurements.")
app.add_typer(validate_app, name="validate")


@validate_app.command()
def silicon(  # noqa: PLR0917 - typer reads them by name
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of measured kernels and collectives.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write id,latency_us of every predicted row (CSV).")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with all errors and scatter plots.")
    ] = None,
    device: DeviceOption = None,
    left_out: LeftOutOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time every measured kernel and collective of a folder on an idle GPU, as a simulation would."""
    from gpusim.report.silicon import print_silicon, silicon_summary  # noqa: PLC0415 - commands pay for what they use
    from gpusim.silicon.layout import read_folder, unknown_files  # noqa: PLC0415
    from gpusim.silicon.machines import named_devices  # noqa: PLC0415
    from gpusim.silicon.predictions import predict_all, write_predictions  # noqa: PLC0415

    _check_targets(out, html)
    rows = predict_all(read_folder(folder), named_devices(device or []), left_out=left_out)
    if out is not None:
        write_predictions(rows, out)
    if as_json:
        print_json(silicon_summary(rows))
    else:
        print_silicon(rows, console())
    for name in unknown_files(folder):
        note(f"{name}: not a table that is known here; left out")
    if html is not None:
        from gpusim.report.silicon_page import write_page  # noqa: PLC0415

        write_page(rows, html, folder.name)


@validate_app.command()
def serving(  # noqa: PLR0917 - typer reads them by name
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of measured serving runs.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the predicted metrics of every experiment (JSON).")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with all errors, scatter plots and percentiles.")
    ] = None,
    device: DeviceOption = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="PROFILE",
            help="The engine profile (name or file); none: the GPU's time only.",
            autocompletion=complete_engine,
        ),
    ] = "vllm",
    left_out: LeftOutOption = False,
    processes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Runs simulated at once. Default: one for each core.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate every measured serving run of a folder from its inputs."""
    from gpusim.progress import Progress  # noqa: PLC0415 - commands pay for what they use
    from gpusim.report.runs import print_runs, runs_summary  # noqa: PLC0415
    from gpusim.runs.layout import read_folder  # noqa: PLC0415
    from gpusim.runs.predictions import cores, predict_all, write_predictions  # noqa: PLC0415
    from gpusim.silicon.machines import named_devices  # noqa: PLC0415

    _check_targets(out, html)
    experiments = read_folder(folder)
    devices = named_devices(device or [])
    with Progress("experiments", len(experiments)) as progress:
        predictions = predict_all(
            experiments,
            devices,
            engine=engine,
            left_out=left_out,
            processes=processes or cores(),
            on_done=progress.update,
        )
    if out is not None:
        write_predictions(predictions, out)
    if as_json:
        print_json(runs_summary(predictions))
    else:
        print_runs(predictions, console())
    if html is not None:
        from gpusim.report.runs_page import write_page  # noqa: PLC0415

        write_page(predictions, html, folder.name)


def _check_targets(out: Path | None, html: Path | None) -> None:
    """Refuse before the work what could not be written after it."""
    check_parent(out, html)
    if html is not None:
        from gpusim.report.figures import need_altair  # noqa: PLC0415

        need_altair()

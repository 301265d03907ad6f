"""``gpusim calibrate``: laws of a device from measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpusim.cli.app import app
from gpusim.cli.common import JsonOption, console, note, print_json
from gpusim.errors import SpecError


@app.command()
def calibrate(  # noqa: PLR0917 - typer reads them by name
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="A device: its name, or the path of its file.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of measured kernels and collectives.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The device file to write; default: the device's name here, with .yaml."),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write id, law and use (fit or held_out) of every row read (CSV)."),
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="What the tables call the device.")] = None,
    source: Annotated[str | None, typer.Option(metavar="TEXT", help="Where the measurements come from.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the device file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit the laws of a device on measured kernels and collectives, and write them into a device file."""
    from gpusim.calibrate.calibration import calibrate as fit_laws  # noqa: PLC0415 - commands pay for what they use
    from gpusim.calibrate.calibration import parameter_totals  # noqa: PLC0415
    from gpusim.calibrate.writing import with_laws  # noqa: PLC0415
    from gpusim.files import write_text  # noqa: PLC0415
    from gpusim.report.calibration import calibration_summary, print_calibration  # noqa: PLC0415
    from gpusim.silicon.layout import read_folder  # noqa: PLC0415
    from gpusim.spec.device import DeviceSpec  # noqa: PLC0415
    from gpusim.spec.document import validate  # noqa: PLC0415
    from gpusim.spec.names import locate, read  # noqa: PLC0415

    spec = validate(DeviceSpec, read("device", device))
    target = out or Path(f"{spec.name}.yaml")
    if target.exists() and not force:
        raise SpecError(f"{target}: is there already; --force overwrites it, --out names another file")
    for path in (target, rows):
        if path is not None and not path.parent.is_dir():
            raise SpecError(f"{path}: there is no folder {path.parent}; make it first")
    found = fit_laws(spec, read_folder(folder), gpu, source or f"tables of the folder {folder.resolve().name}")
    write_text(target, with_laws(locate("device", device).read_text(encoding="utf-8"), found.laws))
    if rows is not None:
        write_text(rows, found.rows().write_csv())
    if as_json:
        print_json(calibration_summary(found, parameter_totals(found)))
    else:
        print_calibration(found, parameter_totals(found), console())
    note(f"wrote {target}; a scenario uses it where a topology names this file as its device")

"""``gpusim calibrate``: laws of a device, or the profile of an engine, from measurements."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gpusim.cli.app import app
from gpusim.cli.common import DeviceOption, JsonOption, complete_engine, console, note, print_json
from gpusim.cli.completion import complete, of, yaml_files
from gpusim.errors import SpecError
from gpusim.files import check_parent, write_text


@app.command()
def calibrate(  # noqa: PLR0917 - typer reads them by name
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[DEVICE] DIR",
            help="A device (name or file) and a folder of measured kernels; with --engine a folder of serving runs only.",
            autocompletion=complete(of("device"), yaml_files),
        ),
    ],
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="PROFILE",
            help="Fit this engine profile (name or file) to serving runs instead.",
            autocompletion=complete_engine,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write; default: the name of what is fitted, here, with .yaml."),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write id, law and use (fit or held_out) of every row read (CSV)."),
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="What the tables call the device.")] = None,
    source: Annotated[str | None, typer.Option(metavar="TEXT", help="Where the measurements come from.")] = None,
    device: DeviceOption = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Runs simulated at once. Default: one for each core.")
    ] = None,
    per_sequence: Annotated[
        bool, typer.Option("--per-sequence", help="Fit the engine's host time for each sequence too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit the laws of a device to measured kernels and collectives, or an engine profile to serving runs; write its file."""
    for_devices, for_engines = (rows, gpu), (device, processes, per_sequence or None)
    if engine is not None:
        if len(arguments) != 1 or any(option is not None for option in for_devices):
            raise SpecError("write gpusim calibrate --engine PROFILE DIR; --rows and --gpu are for devices")
        fitted = partial(_engine, engine, Path(arguments[0]), device or [], out, source, processes)
        fitted(per_sequence=per_sequence, force=force, as_json=as_json)
        return
    if len(arguments) != 2 or any(option is not None for option in for_engines):
        forms = "write gpusim calibrate DEVICE DIR, or gpusim calibrate --engine PROFILE DIR"
        raise SpecError(f"{forms}; --device, --processes and --per-sequence are for engines")
    _device(arguments[0], Path(arguments[1]), out, rows, gpu, source, force=force, as_json=as_json)


def _device(  # noqa: PLR0917
    device: str,
    folder: Path,
    out: Path | None,
    rows: Path | None,
    gpu: str | None,
    source: str | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    from gpusim.calibrate.calibration import calibrate as fit_laws  # noqa: PLC0415 - commands pay for what they use
    from gpusim.calibrate.calibration import parameter_totals  # noqa: PLC0415
    from gpusim.calibrate.writing import with_laws  # noqa: PLC0415
    from gpusim.report.calibration import calibration_summary, print_calibration  # noqa: PLC0415
    from gpusim.silicon.layout import read_folder  # noqa: PLC0415
    from gpusim.spec.device import DeviceSpec  # noqa: PLC0415
    from gpusim.spec.document import validate  # noqa: PLC0415
    from gpusim.spec.names import locate, read  # noqa: PLC0415

    spec = validate(DeviceSpec, read("device", device))
    target = _target(out, spec.name, force=force)
    if rows is not None:
        check_parent(rows)
    found = fit_laws(spec, read_folder(folder), gpu, source or f"tables of the folder {folder.resolve().name}")
    write_text(target, with_laws(locate("device", device).read_text(encoding="utf-8"), found.laws))
    if rows is not None:
        write_text(rows, found.rows().write_csv())
    if as_json:
        print_json(calibration_summary(found, parameter_totals(found)))
    else:
        print_calibration(found, parameter_totals(found), console())
    note(f"wrote {target}; a scenario uses it where a topology names this file as its device")


def _engine(  # noqa: PLR0917
    engine: str,
    folder: Path,
    devices: list[str],
    out: Path | None,
    source: str | None,
    processes: int | None,
    *,
    per_sequence: bool,
    force: bool,
    as_json: bool,
) -> None:
    from gpusim.calibrate.engine import Simulated, fit_engine, profile_text  # noqa: PLC0415
    from gpusim.progress import Progress  # noqa: PLC0415
    from gpusim.report.engine_calibration import print_engine_fit  # noqa: PLC0415
    from gpusim.runs.layout import read_folder  # noqa: PLC0415
    from gpusim.runs.predictions import cores  # noqa: PLC0415
    from gpusim.silicon.machines import named_devices  # noqa: PLC0415
    from gpusim.spec.document import validate  # noqa: PLC0415
    from gpusim.spec.engine_profile import EngineProfile  # noqa: PLC0415
    from gpusim.spec.names import read  # noqa: PLC0415

    base = validate(EngineProfile, read("engine", engine))
    target = _target(out, base.name, force=force)
    experiments = read_folder(folder)
    with Progress("simulations", None) as progress:
        simulated = Simulated(named_devices(devices), processes or cores(), progress.update)
        name = source or f"the folder {folder.resolve().name}"
        found = fit_engine(base, experiments, simulated, name, per_sequence=per_sequence)
    write_text(target, profile_text(found.profile))
    if as_json:
        print_json(found.summary())
    else:
        print_engine_fit(found, console())
    note(f"wrote {target}; a scenario uses it as serving.engine")


def _target(out: Path | None, name: str, *, force: bool) -> Path:
    """Return the file to write."""
    target = out or Path(f"{name}.yaml")
    if target.exists() and not force:
        raise SpecError(f"{target}: is there already; --force overwrites it, --out names another file")
    check_parent(target)
    return target

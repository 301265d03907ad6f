"""Names and paths: ``dgx-a100-80gb`` resolves alike in a checkout and in an installed wheel; a path works too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gpusim.errors import SpecError
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import Document, validate
from gpusim.spec.folders import FOLDERS, Kind, folder, names
from gpusim.spec.huggingface import is_config, model_from_config
from gpusim.spec.one_gpu import one_gpu
from gpusim.spec.problems import Location, Problem, described
from gpusim.spec.topology import TopologySpec
from gpusim.spec.yaml_files import read_document
from gpusim.spelling import nearest, unknown_name

__all__ = ["Kind", "extend", "is_path", "locate", "merge_problems", "names", "read"]

_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json", ".csv", ".xml"})
"""Endings that make a path of what has no slash."""
_LATER: Final = {".graphml": "GraphML", ".json": "node-link JSON", ".xml": "NCCL XML", ".txt": "nvidia-smi topo -m"}
"""Formats of topologies that are planned but absent."""
_TRACES: Final = frozenset({".csv", ".jsonl", ".gz"})
"""Endings of files that can be traces only."""
_CONFIG: Final = "config.json"
_MAY_BE_PATHS: Final = frozenset({"topology", "model", "device", "workload", "trace", "engine"})
_ONLY_OF_DEVICES: Final = DeviceSpec.model_fields.keys() - TopologySpec.model_fields.keys()


def is_path(name: str) -> bool:
    """Say whether *name* is written as a path rather than as a name from the catalog."""
    return "/" in name or "\\" in name or Path(name).suffix.lower() in _SUFFIXES


def locate(kind: Kind, name: str, relative_to: Path = Path()) -> Path:
    """Return the file that *name* means: a path (from *relative_to*, else from here), or a name gpusim knows.

    The folder of a Hugging Face model means the ``config.json`` in it; names of the catalog come before such a folder.

    Raises:
        SpecError: If there is no such file or name; with what was probably meant.
    """
    if kind == "workload" and Path(name).suffix.lower() in _TRACES:
        raise SpecError(f"{name}: this is a trace, not a workload; write workload: {{trace: {name}}}")
    if kind == "topology" and Path(name).suffix.lower() in _LATER:
        raise SpecError(f"{name}: not yet: topologies in {_LATER[Path(name).suffix.lower()]}; write a YAML file")
    if is_path(name):
        return _locate_path(kind, name, relative_to)
    if name in names(kind):
        return folder(kind) / f"{name}.yaml"
    if any((start / name).is_dir() for start in (relative_to, Path())):
        return _locate_path(kind, name, relative_to)
    known = [*names(kind), *(names("device") if kind == "topology" else ())]
    raise SpecError(f"{name!r}: {unknown_name(name, known, kind)} (or write a path); see gpusim list {FOLDERS[kind]}")


def _locate_path(kind: Kind, name: str, relative_to: Path) -> Path:
    places = (relative_to / name, Path(name))
    for path in places:
        if path.is_file():
            return path
        if kind == "model" and (path / _CONFIG).is_file():
            return path / _CONFIG
    for path in places:
        if path.is_dir():
            raise _is_folder(kind, name, path)
    hint = _near(kind, name, relative_to)
    raise SpecError(f"no such file: {name}" + (f"; {hint}" if hint else ""))


def _near(kind: Kind, name: str, relative_to: Path) -> str:
    """Say what was probably meant by a path that leads nowhere: a file there, or a model that has a name here."""
    wanted = relative_to / name
    there = [path.name for path in wanted.parent.iterdir()] if wanted.parent.is_dir() else []
    hint = nearest(wanted.name, there)
    if hint or kind != "model" or wanted.suffix.lower() in _SUFFIXES:
        return hint
    # Published models are called as on the Hugging Face Hub: meta-llama/Llama-3.1-8B.
    return nearest(wanted.name.lower(), names("model")) or (
        "gpusim downloads nothing: name a folder with the config.json of the model, or one of gpusim list models"
    )


def _is_folder(kind: Kind, name: str, path: Path) -> SpecError:
    file = next((file.name for file in sorted(path.glob("*.yaml"))), None)
    such = f", such as {Path(name) / file}" if file else f", or put a {_CONFIG} into it" if kind == "model" else ""
    return SpecError(f"{name}: this is a folder; name a file in it{such}")


def read(kind: Kind, name: str, relative_to: Path = Path(), *, within: tuple[Path, ...] = ()) -> Document:
    """Read the file that *name* means, with the ``extends`` at its top filled in; a ``config.json`` is translated.

    Where a topology is asked for, the name or file of a device means one of it and its host.

    Args:
        kind: Of thing.
        name: Or path.
        relative_to: Where paths start.
        within: Files that extend one another down to this one.

    Raises:
        SpecError: If there is no such file, it cannot be read, or what it extends cannot.
    """
    if kind == "topology" and name in names("device") and name not in names("topology"):
        return _one_gpu(read("device", name), name)
    path = locate(kind, name, relative_to)
    if path.resolve() in within:
        raise SpecError(f"{name}: extends itself, by way of {', '.join(file.name for file in within)}")
    document = read_document(path)
    if kind == "model" and (is_config(document.data) or path.suffix == ".json"):
        return replace(document, data=model_from_config(document).model_dump(mode="json", by_alias=True))
    if kind == "topology" and _ONLY_OF_DEVICES & document.data.keys() and "nodes" not in document.data:
        device = read("device", name, relative_to)
        return _one_gpu(device, device.data)
    try:
        extend(document, kind, within=(*within, path.resolve()))
    except SpecError as error:
        raise document.error([Problem(("extends",), str(error))]) from None
    problems = merge_problems(document, within=(*within, path.resolve())) if kind == "workload" else []
    if problems:
        raise document.error(problems)
    return document


def _one_gpu(device: Document, stated: Any) -> Document:
    """Return the machine of one *device*, which its GPU names as *stated*."""
    spec = validate(DeviceSpec, device)
    machine = one_gpu(spec.name, spec.host_link)
    machine["nodes"][0]["device"] = stated
    return Document(device.label, machine, folder=device.folder)


def merge_problems(document: Document, where: Location = (), *, within: tuple[Path, ...] = ()) -> list[Problem]:
    """Write out the workloads that the one at *where* in *document* merges; return what cannot be."""
    merged = document.at((*where, "merge"))
    problems = []
    for index, part in enumerate(merged if isinstance(merged, list) else ()):
        here = (*where, "merge", index)
        if isinstance(part, str):
            merged[index] = {"extends": part}
        if isinstance(merged[index], dict):
            try:
                extend(document, "workload", here, within=within)
            except SpecError as error:
                problems.append(Problem(here, str(error)))
    return problems


def extend(document: Document, kind: Kind, where: Location = (), *, within: tuple[Path, ...] = ()) -> None:
    """Lay the mapping at *where* in *document* over the file that its key ``extends`` names; drop the key.

    Raises:
        SpecError: If there is no such file, or it cannot be read.
    """
    node = document.at(where)
    if "extends" not in node:
        return
    name = node["extends"]
    if not isinstance(name, str):
        raise SpecError(f"expected a name or a path, not {described(name)}")
    base = read(kind, name, document.folder, within=within)
    if base.folder.resolve() != document.folder.resolve():
        base.data = _rebased(base.data, base.folder)
    del node["extends"]
    document.lay_over(base, where)


def _rebased(data: Any, start: Path) -> Any:
    """Return *data* with the paths in it that are relative to *start* made absolute."""
    if isinstance(data, list):
        return [_rebased(item, start) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        key: str((start / value).resolve()) if _leads_from(start, key, value) else _rebased(value, start)
        for key, value in data.items()
    }


def _leads_from(start: Path, key: str, value: Any) -> bool:
    """Say whether *value* of *key* is the path of something at *start*; a model may be a folder without a slash."""
    if key not in _MAY_BE_PATHS or not isinstance(value, str) or not (start / value).exists():
        return False
    return is_path(value) or (key == "model" and value not in names("model"))

"""Names and paths: ``dgx-a100-80gb`` resolves alike in a checkout and in an installed wheel; a path works too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from gpusim.errors import SpecError
from gpusim.spec.document import Document, read_document, unknown_name

Kind = Literal["device", "model", "topology", "workload", "example"]

_PACKAGE: Final = Path(__file__).parents[1]
_FOLDERS: Final[dict[Kind, str]] = {
    "device": "devices",
    "model": "models",
    "topology": "topologies",
    "workload": "workloads",
    "example": "examples",
}


def folder(kind: Kind) -> Path:
    """Return where gpusim keeps what it knows of *kind* by name."""
    name = _FOLDERS[kind]
    if kind in {"device", "model"}:
        return _PACKAGE / "catalog" / name
    installed = _PACKAGE / "data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def names(kind: Kind) -> list[str]:
    """Return all names of *kind*, sorted."""
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))


def is_path(name: str) -> bool:
    """Say whether *name* is written as a path rather than as a name from the catalog."""
    return "/" in name or "\\" in name or Path(name).suffix.lower() in {".yaml", ".yml", ".json", ".csv", ".xml"}


def locate(kind: Kind, name: str, relative_to: Path = Path()) -> Path:
    """Return the file that *name* means: a path (from *relative_to*, else from here), or a name gpusim knows.

    Raises:
        SpecError: If there is no such file or name; with what was probably meant.
    """
    if is_path(name):
        for path in (relative_to / name, Path(name)):
            if path.is_file():
                return path
        raise SpecError(f"no such file: {name}")
    path = folder(kind) / f"{name}.yaml"
    if path.is_file():
        return path
    raise SpecError(f"{name!r}: {unknown_name(name, names(kind), kind)} (or write a path)")


def read(kind: Kind, name: str, relative_to: Path = Path()) -> Document:
    """Read the file that *name* means, with every ``extends`` in it filled in."""
    document = read_document(locate(kind, name, relative_to))
    extend(document, kind)
    return document


def extend(document: Document, kind: Kind) -> None:
    """Replace ``extends: NAME`` at the top of *document* by the file it names, overlaid with the document's own keys."""
    document.data = extended(document.data, kind, document.folder)


def extended(data: dict[str, Any], kind: Kind, relative_to: Path) -> dict[str, Any]:
    """Return *data* laid over the file that its key ``extends`` names, or *data* itself without that key."""
    if "extends" not in data:
        return data
    base = read(kind, str(data["extends"]), relative_to)
    own = {key: value for key, value in data.items() if key != "extends"}
    return _overlay(base.data, own)


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = base.get(key)
        if (
            isinstance(value, dict)
            and isinstance(below, dict)
            and value.get("kind", below.get("kind")) == below.get("kind")
        ):
            merged[key] = _overlay(below, value)
        else:
            merged[key] = value
    return merged


def catalog(kind: Kind) -> Iterator[tuple[str, Path]]:
    """Yield every name of *kind* with its file."""
    for name in names(kind):
        yield name, folder(kind) / f"{name}.yaml"

"""Where gpusim keeps what it knows by name; loads nothing, so that a shell can complete names at once."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

Kind = Literal["device", "model", "topology", "workload", "example", "engine"]

_PACKAGE: Final = Path(__file__).parents[1]
FOLDERS: Final[dict[Kind, str]] = {
    "device": "devices",
    "model": "models",
    "topology": "topologies",
    "workload": "workloads",
    "example": "examples",
    "engine": "engines",
}
"""The folder of each kind, which is also its plural."""


def folder(kind: Kind) -> Path:
    """Return where gpusim keeps what it knows of *kind* by name."""
    name = FOLDERS[kind]
    if kind in {"device", "model", "engine"}:
        return _PACKAGE / "catalog" / name
    installed = _PACKAGE / "data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def names(kind: Kind) -> list[str]:
    """Return all names of *kind*, sorted."""
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))

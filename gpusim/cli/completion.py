"""What a shell offers for an argument: names, paths, keys and their values. Loads as little as that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import typer

from gpusim.spec.folders import FOLDERS, Kind, names

Candidates = Callable[[str], Iterable[str]]
"""From what is typed so far to what may be meant, and more."""

_SUMMARY: Final = "summary.json"
"""What makes a directory a run."""


def complete(*sources: Candidates) -> Callable[[typer.Context, list[str], str], list[str]]:
    """Return what typer calls for completions: those of all *sources* that begin as typed."""

    def completions(ctx: typer.Context, args: list[str], incomplete: str) -> list[str]:
        del ctx, args
        found = (text for source in sources for text in source(incomplete))
        return [text for text in dict.fromkeys(found) if text.startswith(incomplete)]

    return completions


def of(*wanted: Kind) -> Candidates:
    """Return the source of the names of some kinds."""
    return lambda _: [name for kind in wanted for name in names(kind)]


def kinds(_: str) -> Iterable[str]:
    """Return what ``gpusim list`` lists."""
    return FOLDERS.values()


def yaml_files(incomplete: str) -> list[str]:
    """Return the YAML files of the folder that is typed, and its folders."""
    return [*_entries(incomplete, lambda path: path.suffix in {".yaml", ".yml"}), *folders(incomplete)]


def saved_runs(incomplete: str) -> list[str]:
    """Return the directories of saved runs in the folder that is typed."""
    return _entries(incomplete, lambda path: (path / _SUMMARY).is_file())


def folders(incomplete: str) -> list[str]:
    """Return the folders in the folder that is typed, to go on from."""
    return [f"{name}/" for name in _entries(incomplete, lambda path: path.is_dir() and path.name[0] != ".")]


def _entries(incomplete: str, is_wanted: Callable[[Path], bool]) -> list[str]:
    start = incomplete.rpartition("/")[0]
    prefix = f"{start}/" if "/" in incomplete else ""
    try:
        return sorted(f"{prefix}{path.name}" for path in Path(prefix or ".").iterdir() if is_wanted(path))
    except OSError:
        return []


def assignments(incomplete: str) -> list[str]:
    """Return the keys of a scenario below the one typed, with ``=`` or ``.``; after ``=`` the words that may follow."""
    from gpusim.spec.keys import KINDS_OF, keys_below, values_of  # noqa: PLC0415 - loads the specs

    key, equals, _ = incomplete.partition("=")
    if equals:
        known = [*values_of(key), *(name for kind in KINDS_OF.get(key, ()) for name in names(kind))]
        return [f"{key}={value}" for value in known]
    found = [each for each in keys_below(key.rpartition(".")[0]) if each.startswith(key)]
    if len(found) == 1 and found[0].endswith("."):
        return [*found, *keys_below(found[0].removesuffix("."))]  # a shell takes a single one for the end of the word
    return found


def gpu_devices(incomplete: str) -> list[str]:
    """Return devices after the ``=`` of GPU=DEVICE."""
    gpu, equals, _ = incomplete.partition("=")
    return [f"{gpu}={name}" for name in names("device")] if equals else []


def files(incomplete: str) -> list[str]:
    """Return all files of the folder that is typed, and its folders."""
    return [*_entries(incomplete, Path.is_file), *folders(incomplete)]

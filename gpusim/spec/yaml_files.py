"""YAML read as documents and single values, and plain data written as YAML."""

from __future__ import annotations

import io
import json
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpusim.errors import SpecError
from gpusim.spec.document import Document, Place
from gpusim.spec.problems import Location, described


def read_document(path: Path, label: str | None = None) -> Document:
    """Read a YAML (or JSON) mapping from *path*.

    Raises:
        SpecError: If the file cannot be read, is not YAML, or is not a mapping; with its line.
    """
    label = label or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{label}: cannot be read: {reason}") from None
    return parse_document(text, label, path.parent)


def parse_document(text: str, label: str, folder: Path) -> Document:
    """Parse the *text* of a YAML mapping; see `read_document`."""
    # A sweep reads the same few files at every point; lists and default laws go through the whole catalog.
    return deepcopy(_parse(text, label, folder))


@lru_cache(maxsize=256)
def _parse(text: str, label: str, folder: Path) -> Document:
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to import
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    try:
        tree = YAML(typ="rt").load(io.StringIO(text))
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SpecError(f"{label}:\n  {line}not YAML: {_first_words(error.problem)}") from None
    except (YAMLError, ValueError) as error:
        raise SpecError(f"{label}: not YAML: {_first_words(str(error))}") from None
    except RecursionError:
        raise SpecError(f"{label}: nested too deeply") from None
    if not isinstance(tree, dict):
        raise SpecError(f"{label}: expected a mapping of keys, found {described(tree)}")
    document = Document(label, {}, folder=folder)
    document.data = _plain(tree, (), document)
    return document


def _first_words(problem: str | None) -> str:
    """Return the first line of what the YAML reader says, without a repeated key's values."""
    return (problem or "").strip().splitlines()[0].split(" with value ")[0] if problem else "cannot be read"


def parse_scalar(text: str) -> Any:
    """Read one value as YAML would: ``"4"`` is an int, ``"[mha, mqa]"`` a list, ``"8 GiB"`` a string."""
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        return _plain(YAML(typ="rt").load(io.StringIO(text)), (), Document("", {}))
    except (YAMLError, ValueError, RecursionError):
        return text


def dump_yaml(data: dict[str, Any]) -> str:
    """Write *data* as YAML, keys in their order."""
    from ruamel.yaml import YAML  # noqa: PLC0415

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # absent from ruamel's annotations
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(json.loads(json.dumps(data)), stream)
    return stream.getvalue()


def _plain(node: Any, where: Location, document: Document) -> Any:
    """Turn ruamel's containers into plain ones, noting the place of each key in *document*."""
    lc: Any = getattr(node, "lc", None)
    if lc is not None:
        is_list = isinstance(node, list)
        plain: dict[str | int, Any] = {}
        for key, child in enumerate(node) if is_list else node.items():
            own = key if is_list else str(key)
            # A merged key (<<) has no position of its own; that of its mapping is near enough.
            position = (lc.data or {}).get(key)
            if position is not None:
                document.places[(*where, own)] = Place(document.label, position[0] + 1)
            plain[own] = _plain(child, (*where, own), document)
        return list(plain.values()) if is_list else plain
    if isinstance(node, bool) or node is None:
        return node
    return next((kind(node) for kind in (int, float, str) if isinstance(node, kind)), str(node))

"""docs/reference/api.md: what `gpusim.__all__` lists, from signatures and docstrings.

Griffe reads the source. mkdocstrings, which is built on it, writes HTML for the site only; these pages are read elsewhere too.
"""

from __future__ import annotations

import griffe

from reference_pages.markdown import code, prose, table

ALSO = ("gpusim.results.metrics.LatencyStats", "gpusim.sweeps.SweepRow")
"""What public attributes are made of."""
_PARAMETERS = griffe.DocstringSectionKind.parameters
HEAD = """# Python

`import gpusim as gs`: what `gpusim.__all__` lists is public, the rest may change. Quantities are SI: seconds, bytes. Names are
imported when first used.
"""


def page() -> str:
    """Return the page."""
    package = griffe.load("gpusim", docstring_parser="google", resolve_aliases=True)
    public = [_target(package[name]) for name in sorted(package.exports or [], key=str.lower)]
    public += [_target(package[path.removeprefix("gpusim.")]) for path in ALSO]
    functions = [one for one in public if one.is_function]
    errors = [one for one in public if one.is_class and one.path.startswith("gpusim.errors.")]
    classes = [one for one in public if one.is_class and one not in errors]
    constants = [one for one in public if one.is_attribute]
    return "\n".join(
        [
            HEAD,
            "## Functions\n",
            *map(_function, functions),
            "## Classes\n",
            *map(_class, classes),
            "## Errors\n",
            table(("error", "derived from", "means"), [(code(e.name), code(_bases(e)), _text(e)) for e in errors]),
            "## Constants\n",
            *(f"{code(f'gs.{c.name}')} {_text(c)}".strip() + "\n" for c in constants),
        ]
    )


def _target(found: griffe.Object | griffe.Alias) -> griffe.Object:
    return found.final_target if isinstance(found, griffe.Alias) else found


def _bases(one: griffe.Object) -> str:
    return ", ".join(str(base) for base in one.bases)


def _text(one: griffe.Object) -> str:
    """Return the docstring's prose."""
    return "\n\n".join(prose(s.value) for s in _parts(one) if s.kind is griffe.DocstringSectionKind.text)


def _parts(one: griffe.Object) -> list[griffe.DocstringSection]:
    return one.docstring.parsed if one.docstring else []


def _function(one: griffe.Object) -> str:
    return f"### `gs.{one.name}`\n\n```text\n{_signature(one, f'gs.{one.name}')}\n```\n\n{_text(one)}\n{_tables(one)}"


def _class(one: griffe.Object) -> str:
    if one.name == "Scenario":
        return (
            f"### `gs.Scenario`\n\n{_text(one)} Made by `gs.load`, or from the keys that "
            "[scenario files](scenario.md) have, which are its attributes.\n"
        )
    stated = {p.name: prose(p.description) for s in _parts(one) if s.kind is _PARAMETERS for p in s.value}
    members = [m for m in one.members.values() if not m.is_alias and not m.name.startswith("_")]
    rows = [(code(m.name), code(_type(m)), _text(m) or stated.get(m.name, "")) for m in members if m.is_attribute]
    methods = [m for m in members if m.is_function and "classmethod" not in m.labels]
    shown = [(code(_signature(m, m.name)), _text(m)) for m in methods]
    parts = [f"### `{one.name}`\n\n{_text(one)}\n", table(("attribute", "type", "meaning"), rows)]
    return "\n".join([*parts, *([table(("method", "does"), shown)] if shown else [])])


def _type(one: griffe.Object) -> str:
    return str(one.annotation or "")


def _signature(one: griffe.Object, name: str) -> str:
    shown, starred = [], False
    for parameter in one.parameters:
        if parameter.name == "self":
            continue
        several = parameter.kind is griffe.ParameterKind.var_positional
        if parameter.kind is griffe.ParameterKind.keyword_only and not starred:
            shown.append("*")
        starred |= several or parameter.kind is griffe.ParameterKind.keyword_only
        default = "" if parameter.default is None or several else f" = {parameter.default}"
        shown.append(f"{'*' * several}{parameter.name}: {parameter.annotation}{default}")
    return f"{name}({', '.join(shown)}) -> {one.returns}"


def _tables(one: griffe.Object) -> str:
    """Return what the docstring says of parameters and errors."""
    made = []
    for section in _parts(one):
        if section.kind is _PARAMETERS:
            made.append(table(("parameter", "is"), [(code(p.name), prose(p.description)) for p in section.value]))
        if section.kind is griffe.DocstringSectionKind.raises:
            made.append(
                table(("raises", "when"), [(code(str(e.annotation)), prose(e.description)) for e in section.value])
            )
    return "".join(f"\n{each}" for each in made)

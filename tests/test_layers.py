"""Imports point one way; hardware knows no language model, and models know no time."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gpusim

PACKAGE = Path(gpusim.__file__).parent
TIERS = (
    {"units", "errors", "spelling", "version"},
    {"files"},
    {"core"},
    {"spec"},
    {"hardware", "model", "workload"},
    {"runtime"},
    {"serving"},
    {"results"},
    {"machine", "progress", "stated"},
    {"placement", "listing"},
    {"plan", "assembly"},
    {"caveats"},
    {"simulation"},
    {"sweeps", "silicon", "open_run"},
    {"runs", "explain", "trace", "regression"},
    {"calibrate"},
    {"checking", "report"},
    {"cli", "pytest_plugin", "__init__"},
    {"__main__"},
)
"""Parts of the package, lowest first; each imports from lower tiers only, never from a neighbour of its own."""
TIER_OF = {part: tier for tier, parts in enumerate(TIERS) for part in parts}
WITHOUT_CLOCK = {"spec", "model", "workload"}
LAZY = {"cli", "pytest_plugin", "__init__"}
"""Parts that import our own modules only when they are used, so that starting up is quick."""
LANGUAGE_MODEL_WORDS = {"attention", "decode", "kv", "llm", "prefill", "prompt", "token", "transformer"}
TIME_WORDS = {"clock", "env", "now", "tick", "timeout", "simpy"}


def part_of(path):
    """Return the top-level part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def module_of(path):
    """Return the dotted name of a file's module."""
    return ".".join(("gpusim", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def sources(*parts):
    """Return the source files of *parts*, or of the whole package."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if not parts or part_of(path) in parts]


def imports(node):
    """Return the modules of ours that the code under *node* imports, as dotted names."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            names = {f"{child.module}.{alias.name}" for alias in child.names}
            found |= {name if is_module(name) else child.module for name in names}
    return {name for name in found if name.split(".")[0] == "gpusim"}


def is_module(name):
    """Tell whether a dotted name is a module of ours rather than something in one."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def tree(path):
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def words(path):
    """Return every word of a file, of identifiers and prose alike, in lower case and without a plural s."""
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", path.read_text(encoding="utf-8"))
    return {word.lower().removesuffix("s") for word in found}


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_imports_point_down(path):
    """A module imports from its own part and from lower tiers only, type-only imports included."""
    own = part_of(path)
    parts = {name.split(".")[1] for name in imports(tree(path)) if "." in name}
    upward = {part for part in parts if part != own and TIER_OF[part] >= TIER_OF[own]}
    assert not upward, f"{module_of(path)} imports from {', '.join(upward)}"


def test_every_part_has_a_tier():
    """A new part of the package must be given its place, and no tier names a part that is gone."""
    optional = {"__main__"}
    assert {part_of(path) for path in sources()} - {"catalog"} | optional == set(TIER_OF) | optional


def test_modules_import_in_no_cycle():
    """The modules can be put in an order in which each comes after those it imports."""
    graph = {
        module_of(path): imports(tree(path)) - {module_of(path)} for path in sources() if part_of(path) not in LAZY
    }
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


@pytest.mark.parametrize("path", [p for p in sources() if part_of(p) not in LAZY], ids=module_of)
def test_own_modules_are_imported_at_the_top(path):
    """Only slow packages of others load lazily; a lazy import of ours is a layer in the wrong place."""
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not set().union(*map(imports, functions))


def test_only_runtime_and_above_join_hardware_and_model():
    """Whatever imports both hardware and models is runtime or stands above it."""
    both = {
        part_of(path)
        for path in sources()
        if {"hardware", "model"} <= {name.split(".")[1] for name in imports(tree(path)) if "." in name}
    }
    assert both, "the runtime joins the two"
    assert all(TIER_OF[part] >= TIER_OF["runtime"] for part in both)


@pytest.mark.parametrize("path", [p for p in sources("hardware") if p.stem != "__init__"], ids=module_of)
def test_hardware_has_no_language_model_word(path):
    """Channels and links would serve any program: not even a comment speaks of tokens."""
    assert not words(path) & LANGUAGE_MODEL_WORDS


@pytest.mark.parametrize("path", sources("model"), ids=module_of)
def test_model_has_no_clock(path):
    """A model says what work a step is, never how long it takes or when it happens."""
    names = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    assert not {word for name in names for word in name.lower().split("_")} & TIME_WORDS


@pytest.mark.parametrize(
    "path", [*sources("spec", "model", "workload"), *(PACKAGE / "serving" / "schedulers").glob("*.py")], ids=module_of
)
def test_who_decides_never_waits(path):
    """Specs, models, workloads and schedulers have no event to wait for."""
    imported = {alias.name for node in ast.walk(tree(path)) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)}
    names = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
    assert "simpy" not in imported
    assert "Clock" not in names


def test_command_line_starts_without_slow_packages():
    """Importing gpusim or its command line loads nothing that takes long: `gpusim --help` answers at once."""
    slow = "networkx", "numpy", "polars", "pydantic", "rich", "ruamel", "simpy"
    code = f"import sys, gpusim, gpusim.cli; print([name for name in {slow} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

"""Files as data with a place for every key, and the one message about all that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.errors import SpecError
from gpusim.spec.document import Document, Place
from gpusim.spec.problems import Problem
from gpusim.spec.yaml_files import dump_yaml, parse_document, parse_scalar, read_document

TEXT = """\
a: 1
b:
  c: [x, y]
  d:
    - {e: 2}
"""
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def document(text=TEXT, label="f.yaml"):
    return parse_document(text, label, Path())


def test_every_key_and_entry_has_a_place():
    """Lines count from 1; an unknown key has the place of what it would stand in."""
    found = document()
    assert found.data == {"a": 1, "b": {"c": ["x", "y"], "d": [{"e": 2}]}}
    assert found.place_of(("b", "c", 1)) == Place("f.yaml", 3)
    assert found.place_of(("b", "d", 0, "e")) == Place("f.yaml", 5)
    assert found.place_of(("b", "missing", "deeper")) == Place("f.yaml", 2)
    assert found.place_of(("missing",)) is None


@given(data=st.dictionaries(WORDS, PLAIN, max_size=4))
def test_what_is_written_is_read_back(data):
    """Plain data survive YAML, whatever their printable strings look like."""
    assert document(dump_yaml(data) if data else "{}").data == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("8 GiB", "8 GiB"),
        ("[mha, mqa]", ["mha", "mqa"]),
        ("true", True),
        ("[1", "[1"),
        ("", None),
        ("1e3", 1e3),
    ],
)
def test_one_value_is_read_as_yaml_would(text, value):
    """Values of the command line have the types they would have in a file; what is no YAML is text."""
    assert parse_scalar(text) == value


def test_merged_keys_and_aliases_are_plain_data():
    """Anchors, aliases and merge keys work, though merged keys have no line of their own."""
    found = document("x: &x {k: 1, l: 2}\ny:\n  <<: *x\n  l: 3\nz: *x\n")
    assert found.data["y"] == {"k": 1, "l": 3}
    assert found.data["z"] == {"k": 1, "l": 2}
    assert found.place_of(("y", "k")) == Place("f.yaml", 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a mapping of keys, found nothing"),
        (b"# nothing\n", "expected a mapping of keys, found nothing"),
        (b"- a\n", "expected a mapping of keys, found a list"),
        (b"hello\n", "expected a mapping of keys, found 'hello'"),
        (b"a: [1\nb: 2\n", "line 2: not YAML: expected ',' or ']'"),
        (b"a: 1\nb: 2\na: 3\n", 'line 3: not YAML: found duplicate key "a"'),
        (b"\xff\xfe\x00", "cannot be read: not UTF-8 text"),
        (b"[" * 500, "nested too deeply"),
    ],
)
def test_unreadable_files_are_named(tmp_path, content, message):
    """Whatever a file holds, its name and one sentence come back."""
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"^f\.yaml:") as caught:
        read_document(path, "f.yaml")
    assert message in str(caught.value)


def test_a_folder_is_no_file(tmp_path):
    """Errors of the operating system come in its words."""
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_document(tmp_path)


def test_override_sets_nested_keys_and_list_entries():
    """Mappings on the way are made, lists are indexed, and the place of the key is outside the file."""
    found = document()
    found.override("b.c.1", "z")
    found.override("n.e.w", 5)
    assert found.data["b"]["c"] == ["x", "z"]
    assert found.data["n"] == {"e": {"w": 5}}
    assert found.place_of(("n",)) == found.place_of(("b", "c", 1, "below")) == Place("overrides", 0)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("b.c.2", "b.c is a list, without a key 2"),
        ("b.c.x", "b.c is a list, without a key x"),
        ("a.x", "a is 1, without a key x"),
        ("", "write keys with a dot between them"),
        ("b..c", "write keys with a dot between them"),
    ],
)
def test_override_refuses_paths_that_lead_nowhere(path, message):
    """A slip in the path is named instead of making something new."""
    with pytest.raises(SpecError) as caught:
        document().override(path, 1)
    assert message in str(caught.value)


def test_lying_over_a_base_keeps_both_places():
    """Own keys win, mappings merge unless their kinds differ, and each key remembers the file it is from."""
    top = document("k: {kind: one, a: 1}\nl: {kind: two}\n", "top.yaml")
    base = document("n: 0\nk: {kind: one, a: 9,\n  b: 2}\nl: {kind: three, c: 3}\n", "base.yaml")
    top.lay_over(base)
    assert top.data == {"n": 0, "k": {"kind": "one", "a": 1, "b": 2}, "l": {"kind": "two"}}
    assert top.place_of(("k", "a")) == Place("top.yaml", 1)
    assert top.place_of(("k", "b")) == Place("base.yaml", 3)
    assert top.place_of(("l", "c")) == Place("top.yaml", 2)


def test_problems_are_listed_by_line_then_by_file():
    """One message: own lines in order, then other files; messages of several lines are indented below."""
    top = document(label="top.yaml")
    top.lay_over(document("z: 1\n", "base.yaml"))
    top.override("s", 1)
    problems = [
        Problem(("z",), "far"),
        Problem(("b", "d"), "late"),
        Problem(("a",), "two\n  lines"),
        Problem(("s",), "set"),
    ]
    assert str(top.error([*problems, Problem((), "whole")])).splitlines() == [
        "top.yaml:",
        "  set by overrides: s: set",
        "  whole",
        "  line 1: a: two",
        "    lines",
        "  line 4: b.d: late",
        "  base.yaml, line 1: z: far",
    ]


def test_documents_of_one_text_do_not_share_data():
    """Reading a file twice gives two documents: changing one leaves the other."""
    first = document()
    first.override("a", 2)
    assert document().data["a"] == 1
    assert isinstance(document(), Document)

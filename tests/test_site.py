"""The site of the documentation: built without a warning, readable without a network, with a reference that is up to date."""

import re
import subprocess
import sys

import pytest
from markdown_it import MarkdownIt

import generate
from helpers import REPOSITORY

PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
FORMULA = re.compile(r"`[^`]*`|\$\$.+?\$\$|\$[^$\s](?:[^$]*?[^$\s])?\$", re.DOTALL)
FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site with warnings as errors; return its folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    run = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def page_of(site, document):
    """Return the HTML that was made of a document, without the theme's parts round it."""
    name = document.relative_to(REPOSITORY).as_posix().removeprefix("docs/").removesuffix(".md")
    html = (site / f"{name.lower()}.html").read_text(encoding="utf-8")
    return html.split('itemprop="articleBody">')[1].split("</div><footer>")[0]


def test_nothing_is_fetched(site):
    """No page asks for a script, style, font or picture from elsewhere."""
    fetched = re.compile(
        r"""<(?:script|img|iframe)[^>]*src="(?:https?:)?//|<link[^>]*href="(?:https?:)?//|url\(['"]?(?:https?:)?//"""
    )
    assert not [path for path in site.rglob("*.*ml") if fetched.search(path.read_text(encoding="utf-8"))]
    assert not [path for path in site.rglob("*.css") if fetched.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_pages_read_alike_on_the_site(site, document):
    """The site has as many headings, lists, items, tables and cells of each page as CommonMark, which repository hosts read.

    MkDocs' Markdown is another: it wants nested lists indented by four and blank lines before lists.
    """
    text = document.read_text(encoding="utf-8")
    blocks = FENCED.findall(text)
    prose = FORMULA.sub("x", FENCED.sub("", text))
    hosted = MarkdownIt("commonmark").enable("table").render(prose)
    built = page_of(site, document)
    for tag in ("h1", "h2", "h3", "ul", "ol", "li", "table", "td", "em", "strong"):
        counts = [len(re.findall(f"<{tag}[ >]", html)) for html in (hosted, built)]
        assert counts[0] == counts[1], f"<{tag}>: {counts[0]} on a host, {counts[1]} on the site"
    assert built.count('<div class="codehilite"') == len(blocks) + hosted.count("<pre>")


def test_formulas_are_drawn(site):
    """Formulas become MathML; no dollar sign is left of them."""
    built = page_of(site, REPOSITORY / "docs" / "laws.md")
    assert built.count('display="block"') >= 10
    assert "$" not in re.sub(r"<code>.*?</code>", "", built, flags=re.DOTALL)


@pytest.mark.parametrize("name", generate.PAGES)
def test_reference_is_up_to_date(name, update_golden):
    """What docs/reference says is what the code says now: after a change, `make reference`."""
    path = generate.FOLDER / name
    if update_golden:
        path.write_text(generate.written(name), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == generate.written(name)


def test_every_key_has_a_meaning():
    """No key of a file is listed without saying what it means, but `kind`, which the heading explains."""
    rows = re.findall(r"^\| `(.*?)` \|.*\| (.*) \|$", generate.written("scenario.md"), re.MULTILINE)
    assert len(rows) > 300
    assert not [key for key, meaning in rows if not meaning.strip() and not key.endswith("kind")]

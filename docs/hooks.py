"""What MkDocs is told beyond mkdocs.yml: where pages lie, how headings are called, and how formulas are drawn.

Pages link to one another, to the README and to examples by paths that also work where the repository is hosted. MkDocs
knows only what lies in docs/; so it is given the tree of the repository, as far as pages link to it. Formulas become MathML
while the site is built, so that it needs no script and no network.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Final

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = ("*.md", "docs/**/*.md")
LINKED: Final = ("LICENSE", "docs/site.css", "examples/*.yaml", "topologies/*.yaml", "workloads/*.yaml")
FORMULA: Final = re.compile(
    r"(?P<code>`[^`]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\s](?:[^$]*?[^$\s])?)\$", re.DOTALL
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add what plain Markdown on repository hosts can do and MkDocs cannot."""
    config.markdown_extensions.append(Formulas())
    config.mdx_configs["toc"]["slugify"] = slug
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return all pages and what they link to, by their paths from the root of the repository.

    Addresses leave out ``docs/``, so that docs/index.md is the front page.
    """
    ours = [_file(path, config) for path in chain.from_iterable(ROOT.glob(pattern) for pattern in (*PAGES, *LINKED))]
    theme = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*theme, *ours])


def _file(path: Path, config: MkDocsConfig) -> File:
    name = path.relative_to(ROOT).as_posix()
    target = name.removeprefix("docs/")
    address = f"{target.removesuffix('.md').lower()}.html" if target.endswith(".md") else target
    return File(name, str(ROOT), config.site_dir, config.use_directory_urls, dest_uri=address)


def slug(heading: str, separator: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


class Formulas(Extension):
    """``$...$`` and ``$$...$$`` are formulas in LaTeX."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's name
        """Look for formulas after blocks of code have been set aside, and before HTML is."""
        md.preprocessors.register(_ToMathMl(md), "formulas", 22)


class _ToMathMl(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return FORMULA.sub(self._drawn, "\n".join(lines)).split("\n")

    def _drawn(self, match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        if match["block"]:
            return self.md.htmlStash.store(f"<div>{convert(match['block'], display='block')}</div>")
        return self.md.htmlStash.store(convert(match["inline"]))

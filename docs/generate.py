"""Write the pages of docs/reference/ anew from the code: ``make reference``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from reference_pages import api, cli, scenario

FOLDER: Final = Path(__file__).parent / "reference"
NOTE: Final = "<!-- Written by docs/generate.py: change the code it describes, then `make reference`. -->\n"
PAGES: Final[dict[str, Callable[[], str]]] = {"cli.md": cli.page, "scenario.md": scenario.page, "api.md": api.page}


def written(name: str) -> str:
    """Return what a page says now."""
    return PAGES[name]() + "\n" + NOTE


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in PAGES:
        (FOLDER / each).write_text(written(each), encoding="utf-8")

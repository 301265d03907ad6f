"""Colours of the figures of a run, and how a figure drawn on white follows the page into the dark.

Colours are those of Okabe and Ito (2008, "Color Universal Design"), which readers with any kind of colour vision tell apart.
"""

from __future__ import annotations

import re
from typing import Final

PAPER, INK, MUTED, GRID = "#ffffff", "#1b1b1b", "#6b6b6b", "#dcdcdc"
BLUE, ORANGE, GREEN, VERMILLION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE, YELLOW, GREY = "#56b4e9", "#cc79a7", "#f0e442", "#9a9a9a"

RUNS: Final = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Of runs side by side; there are no more than these."""
CATEGORY_COLOURS: Final = {
    "weights": BLUE,
    "kv": SKY,
    "activations": PURPLE,
    "compute": ORANGE,
    "communication": VERMILLION,
    "launch": GREY,
    "waiting": YELLOW,
    "transfer": GREEN,
}
"""Of where a step's time goes."""
_DARK: Final = {
    PAPER: "#15181c",
    INK: "#e8e8e8",
    MUTED: "#a0a4a8",
    GRID: "#33383e",
    BLUE: "#3b9fe0",
    GREEN: "#1fbf92",
    VERMILLION: "#f07a28",
    GREY: "#8a8f94",
}
"""What takes the place of colours that are hard to see on black."""
LOOK: Final = {
    "background": PAPER,
    "font": "system-ui, sans-serif",
    "padding": 4,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "legend": {"labelColor": INK, "labelFontSize": 12, "title": None, "symbolStrokeWidth": 2.5, "labelLimit": 260},
    "title": {"color": INK, "anchor": "start", "fontSize": 13, "fontWeight": 600},
}
"""The configuration of all figures of runs."""


def style() -> str:
    """Return the variables that `themed` figures and the page take their colours from, for light and dark."""
    dark = ";".join(f"{_variable(colour)}:{there}" for colour, there in _DARK.items())
    return f":root{{color-scheme:light dark}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


def colour(which: str) -> str:
    """Return *which* as a page writes it, so that it may be another in the dark."""
    return f"var({_variable(which)},{which})" if which in _DARK else which


def themed(svg: str, prefix: str) -> str:
    """Return *svg* for a page: colours of the page, numbers as tooltips, ids that begin with *prefix*."""
    for which in _DARK:
        svg = svg.replace(f'"{which}"', f'"{colour(which)}"')
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = svg.replace("url(#", f"url(#{prefix}")
    svg = re.sub(r' role="graphics-\w+"| aria-roledescription="[^"]*"| aria-hidden="true"', "", svg)
    return re.sub(r'<path aria-label="([^"]*)"([^>]*?)/>', r"<path\2><title>\1</title></path>", svg)


def _variable(which: str) -> str:
    return f"--{which.removeprefix('#')}"

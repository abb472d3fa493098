"""The page of a report: one HTML file that needs no network and no server."""

import html
import importlib.resources
import json
import re
from collections.abc import Mapping
from typing import Any

from momentum_jax.report.figures import STYLES

# In the order in which they are read: each uses what those before it define.
_SCRIPTS = (
    "common.js",
    "axes.js",
    "protocols.js",
    "curves.js",
    "heatmaps.js",
    "lines.js",
    "table.js",
    "workbench.js",
    "page.js",
)
_MARKERS = {
    "v": "triangle-down",
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "P": "cross",
    "X": "x",
}
_DASHES = {"-": "solid", "--": "dash"}
# On a dark ground a black line would be lost; the other colours have a contrast of 3 or more on both.
_ON_DARK = {"#000000": "#f2f2f2"}


def page(document: Mapping[str, Any]) -> str:
    """Makes the page of a comparison, a sweep or a training: findings in words, then figures, runs and a workbench.

    The page embeds the document and plotly.js (4.8 MB), and computes all that it shows from them in the browser. It
    loads nothing: its content security policy forbids it.

    Args:
      document: what is to be shown, in types that JSON has; +∞ is "inf", −∞ "-inf" and a missing number None. Title and
        question are shown always; of the other parts (verdicts, notes, three_way, curves, heatmaps, sensitivity,
        budget, table, config, provenance, command, files) those that are there. `optimizers` has the labels in the
        order of their colours.

    Returns:
      HTML. The same document gives the same text with the same version of plotly.

    Raises:
      ValueError: a number in the document is not finite.
      TypeError: something in it is not of JSON's types.

    >>> text = page({"title": "2 < 3", "question": "Is it?"})
    >>> "<h1>2 &lt; 3</h1>" in text, len(text) < 6_000_000
    (True, True)
    """
    from plotly.offline import get_plotlyjs

    parts = {
        "title": html.escape(str(document.get("title", ""))),
        "question": html.escape(str(document.get("question", ""))),
        "style": _asset("page.css"),
        "document": _embedded(document),
        "styles": _embedded(_styles()),
        "plotly": get_plotlyjs(),
        "scripts": "\n".join(map(_asset, _SCRIPTS)),
    }
    # In one pass, so that nothing inside a part is taken for a place.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (importlib.resources.files("momentum_jax.report") / "assets" / name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    """JSON in which nothing ends a script element or begins a comment or an entity; all of it ASCII."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _styles() -> list[dict[str, str]]:
    """The styles of the figures in plotly's words."""
    return [
        {
            "light": style.color,
            "dark": _ON_DARK.get(style.color, style.color),
            "symbol": _MARKERS[style.marker],
            "dash": _DASHES[style.linestyle],
        }
        for style in STYLES
    ]

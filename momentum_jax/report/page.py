"""The HTML page of a document: one file that needs no network and no server."""

import html
import importlib.resources
import json
import re
from collections.abc import Mapping
from typing import Any

from momentum_jax.report.drawing import STYLES

# In this order, since each script uses definitions of those before it.
_SCRIPTS = (
    "common.js",
    "axes.js",
    "answer.js",
    "profile.js",
    "matrix.js",
    "protocols.js",
    "curves.js",
    "heatmaps.js",
    "parallel.js",
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
# A black line is invisible on the dark theme. The other colours have a contrast of at least 3 on both themes.
_ON_DARK = {"#000000": "#f2f2f2"}


def page(document: Mapping[str, Any]) -> str:
    """Renders a document as an HTML page: the answer in words, a figure, then verdicts, details and a workbench.

    The page embeds the document and plotly.js (4.8 MB), and draws everything in the browser. Its content security
    policy forbids it to load anything. A program finds the document as JSON in the script element with the id
    "document".

    Args:
      document: what to show, in JSON types; +∞ is "inf", −∞ is "-inf" and a missing number is None. Title and question
        are always shown. Of the other parts (answer, profile, matrix, notes, three_way, curves, heatmaps, parallel,
        sensitivity, budget, table, config, provenance, command, files) a page shows those that the document has.
        `optimizers` has the labels in the order of their colours. `momentum_jax/comparison/README.md` says what is in
        answer, profile and matrix.

    Returns:
      HTML. The same document and version of plotly give the same text.

    Raises:
      ValueError: a number in the document is not finite.
      TypeError: a value in it is not of a JSON type.

    >>> text = page({"title": "2 < 3", "question": "Is it?"})
    >>> "<h1>2 &lt; 3</h1>" in text, len(text) < 6_000_000
    (True, True)
    """
    from plotly.offline import get_plotlyjs

    parts = {
        "title": html.escape(str(document.get("title", ""))),
        "question": html.escape(str(document.get("question", ""))),
        "sentences": "".join(f"<p>{html.escape(sentence)}</p>" for sentence in _sentences(document)),
        "style": _asset("page.css"),
        "document": _embedded(document),
        "styles": _embedded(_styles()),
        "plotly": get_plotlyjs(),
        "scripts": "\n".join(map(_asset, _SCRIPTS)),
    }
    # All placeholders are replaced in one pass, so that text inside a part is never taken for one.
    return re.sub(r"\{\{(\w+)\}\}", lambda placeholder: parts[placeholder[1]], _asset("page.html"))


def _sentences(document: Mapping[str, Any]) -> list[str]:
    """The answer's sentences. They are in the HTML itself, so that they are there before plotly.js is read."""
    sentences = (document.get("answer") or {}).get("sentences", [])
    return [sentence.replace(" %", "\N{NO-BREAK SPACE}%") for sentence in sentences]


def _asset(name: str) -> str:
    return (importlib.resources.files("momentum_jax.report") / "assets" / name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    """JSON in ASCII without <, > and &, so that it cannot end a script element or start a comment or an entity."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _styles() -> list[dict[str, str]]:
    """The styles of the figures in the terms of plotly."""
    return [
        {
            "light": style.color,
            "dark": _ON_DARK.get(style.color, style.color),
            "symbol": _MARKERS[style.marker],
            "dash": _DASHES[style.linestyle],
        }
        for style in STYLES
    ]

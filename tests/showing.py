"""What every representation must be: short, inert, and HTML that is well formed and has no script."""

import xml.etree.ElementTree as ET

from rich.cells import cell_len

HOSTILE = (
    "a\nb\r\n\tc",
    "\x1b[31mred\x1b[0m\x07",
    "\u202eevil\u2066",
    "x" * 5000,
    "学" * 200,
    # Unicode 16 made these wide.
    "𝌀䷀☰" * 99,
    "\ud800",
    "e" + "\u0301" * 100,
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    "\"'><b>&amp;",
    "\0\ufffe",
    "{0} %s $x$ `y`",
    " ",
    "",
)
_TAGS = {"div", "table", "tr", "td", "th", "br", "svg", "path"}
_ATTRIBUTES = {"style", "title", "role", "aria-label", "width", "height", "viewBox"}
_ATTRIBUTES |= {"d", "fill", "stroke", "stroke-width", "stroke-dasharray"}


def check_shown(shown):
    """The text has at most 20 lines of 120 columns that do nothing but show; the HTML has no markup but its own."""
    lines = repr(shown).split("\n")
    assert len(lines) <= 20
    for line in lines:
        assert line.isprintable()
        # Rich measures with a table of its own.
        assert cell_len(line) <= 120
    root = ET.fromstring(shown._repr_html_())
    for element in root.iter():
        assert element.tag in _TAGS
        assert set(element.attrib) <= _ATTRIBUTES
        assert "url(" not in element.attrib.get("style", "")

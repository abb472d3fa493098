"""Summaries as text and as HTML: never too long, always inert, and the same in both."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from momentum_jax._base.display import COLUMNS, LINES, Row, Summary, as_html, as_text, clip, inert
from tests.showing import HOSTILE, check_shown

TEXTS = st.text(max_size=300) | st.sampled_from(HOSTILE)
CURVES = st.lists(st.floats() | st.integers(-3, 3).map(float), max_size=30).map(np.asarray)


@st.composite
def summaries(draw):
    columns = draw(st.lists(TEXTS, min_size=1, max_size=8))
    cells = st.lists(TEXTS, min_size=len(columns), max_size=len(columns)).map(tuple)
    rows = draw(st.lists(st.builds(Row, cells, st.lists(CURVES, max_size=2).map(tuple)), max_size=30))
    texts = st.lists(TEXTS, max_size=12).map(tuple)
    return Summary(draw(TEXTS), draw(texts), tuple(columns), tuple(rows), None, draw(TEXTS), draw(texts))


class Displayed:
    """What shows itself by a summary."""

    def __init__(self, summary):
        self.summary = summary

    def __repr__(self):
        return as_text(self.summary)

    def _repr_html_(self):
        return as_html(self.summary)


@settings(max_examples=50)
@given(summaries())
@example(Summary("", rows=(Row((), (np.full(2, 1e308), np.array([-1e308, np.nan]))),)))
def test_any_summary_is_short_and_inert(summary):
    check_shown(Displayed(summary))


@given(st.text(max_size=40) | st.sampled_from(HOSTILE), st.integers(1, 60))
def test_a_clipped_text_is_printable_and_a_whole_one_only_escaped(text, columns):
    clipped = clip(text, columns)
    assert clipped.isprintable()
    assert clipped == inert(text) or clipped.endswith("…")


def test_rows_that_do_not_fit_are_counted_and_are_the_same_ones_in_html():
    rows = tuple(Row((str(i),)) for i in range(30))
    summary = Summary("t", ("a line",), ("n",), rows, total=1000, notes=("a note",))
    lines = as_text(summary).splitlines()
    assert len(lines) == LINES
    assert lines[:4] == ["t", "a line", "n", "0"]
    # 20 lines less title, line, heading, count and note leave 15 rows.
    assert lines[-3:] == ["14", "… and 985 more", "a note"]
    shown = [cell.text for cell in ET.fromstring(as_html(summary)).iter("td")]
    assert shown == [str(i) for i in range(15)]
    assert "… and 985 more" in as_html(summary)


def test_the_widest_columns_are_cut_and_the_others_stay_whole():
    summary = Summary("t", columns=("a", "b", "c"), rows=(Row(("x" * 300, "y" * 70, "0.123")),))
    (cells,) = [line.split() for line in as_text(summary).splitlines()[2:]]
    # 120 columns less two gaps and five digits leave 111 for two columns.
    assert [len(cell) for cell in cells] == [55, 56, 5]
    assert cells[0].endswith("…")
    assert cells[2] == "0.123"


def test_a_long_line_is_broken_between_words():
    words = as_text(Summary("t", ("word " * 50,))).splitlines()[1:]
    assert " ".join(words) == ("word " * 50).strip()
    assert all(len(line) <= COLUMNS for line in words)


def test_what_html_shortens_it_has_whole_on_hover():
    label = "<" * 200
    (cell,) = ET.fromstring(as_html(Summary("t", columns=("n",), rows=(Row((label,)),)))).iter("td")
    assert cell.attrib["title"] == label
    assert cell.text.endswith("<…")


def path_of(*curves):
    root = ET.fromstring(as_html(Summary("t", columns=("n",), rows=tuple(Row(("x",), (curve,)) for curve in curves))))
    return [path.attrib["d"] for path in root.iter("path")]


def test_the_curves_of_all_rows_have_one_scale_and_gaps_where_they_are_not_finite():
    # From 1 to 3: at 28 pixels below the top, at 15 and at 2; a width of 160 with margins of 2.
    first, second = path_of(np.array([1.0, 2.0, np.nan, 3.0]), np.array([2.0, 2.0]))
    assert first == "M2.0 28.0L54.0 15.0M158.0 2.0"
    assert second == "M2.0 15.0L158.0 15.0"


def test_positive_curves_over_more_than_a_decade_are_drawn_logarithmically():
    (path,) = path_of(np.array([1.0, 10.0, 100.0]))
    assert path == "M2.0 28.0L80.0 15.0L158.0 2.0"
    html = as_html(Summary("t", columns=("n",), rows=(Row(("x",), (np.array([1.0, 100.0]),)),), curves="loss"))
    assert "loss<br/>1 to 100, logarithmic" in html


def test_a_long_curve_is_thinned_to_means():
    (path,) = path_of(np.tile([0.0, 2.0], 1600))
    steps = re.split("[ML]", path)[1:]
    assert len(steps) == 160
    # Each of 160 blocks of 20 has the mean 1, in the middle between 0 and 2.
    assert {step.split()[1] for step in steps} == {"15.0"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_does_nothing_in_a_terminal(text):
    assert inert(text).isprintable()
    if text.isprintable():
        assert inert(text) == text

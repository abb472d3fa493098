"""Which sections a page shows, and that names in them stay text."""

import json

import pytest

from momentum_jax.report.page import page
from tests.report.page.browsing import Shown
from tests.report.synthetic import OPTIMIZERS, PROTOCOLS, document

HOSTILE = "<script>alert(1)</script>"
MARKUP = "</script><img src=x onerror=alert(1)>"


def test_a_page_opens_without_an_error_and_asks_for_nothing(view):
    assert {url for url in view.requests if not url.startswith("data:")} == {view.uri}
    policy = view.tab.locator("meta[http-equiv]").get_attribute("content")
    assert policy == "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def test_the_findings_come_first_in_words_and_with_a_symbol(view, given):
    headings = view.tab.locator("main > section:visible > h2").all_inner_texts()
    assert headings == [
        "Findings",
        "Caveats",
        "Protocols compared",
        "Training curves",
        "Two hyperparameters at a time",
        "Sensitivity to the learning rate",
        "Result against tuning budget",
        "Runs",
        "Momentum workbench",
        "Reproduce",
    ]
    assert view.tab.locator("#sections a").all_inner_texts() == headings
    assert view.tab.locator("#verdicts h3").all_inner_texts() == PROTOCOLS
    items = view.tab.locator("#verdicts li").all_inner_texts()
    symbols = {"better": "▲", "worse": "▼", "equivalent": "=", "no difference found": "○", "no verdict": "–"}
    for item, verdict in zip(items, given["verdicts"], strict=True):
        symbol, rest = item[0], item[1:].strip()
        assert symbol == symbols[verdict["outcome"]]
        assert rest.startswith(verdict["outcome"])
        assert verdict["sentence"] in item
    assert view.tab.locator("#notes li").all_inner_texts() == given["notes"]


def test_what_the_document_lacks_does_not_appear(search):
    assert search.tab.locator("h1:visible, h2:visible").all_inner_texts() == [
        "A search",
        "Two hyperparameters at a time",
        "Sensitivity to the learning rate",
        "Momentum workbench",
    ]
    assert search.problems == []


@pytest.fixture(scope="module")
def hostile(browser, tmp_path_factory):
    text = json.dumps(document())
    for label, name in zip(OPTIMIZERS, (HOSTILE, MARKUP, "$x$ %{x} <b>b</b> &amp;"), strict=True):
        text = text.replace(f'"{label}"', json.dumps(name))
    changed = json.loads(text)
    for key in ("title", "question", "command", "files", "curves_note", "budget_note", "sensitivity_title"):
        changed[key] = f"{key} {MARKUP} $x$"
    changed["config"] = {HOSTILE: MARKUP}
    changed["heatmaps"][0]["x"]["name"] = MARKUP
    changed["three_way"]["metrics"][0]["protocols"][0].update(title=MARKUP, skipped=HOSTILE)
    changed["three_way"]["metrics"][0]["title"] = MARKUP
    changed["three_way"]["metrics"][0]["protocols"][1]["arms"][0]["detail"] = MARKUP
    changed["verdicts"][0].update(protocol=MARKUP, sentence=MARKUP, metric=MARKUP, a=HOSTILE)
    return Shown(browser, tmp_path_factory.mktemp("hostile") / "page.html", page(changed))


@pytest.mark.exhaustive
def test_names_that_look_like_markup_or_formulas_stay_text_everywhere(hostile):
    tab = hostile.tab
    assert tab.title() == f"title {MARKUP} $x$"
    assert hostile.text("h1") == f"title {MARKUP} $x$"
    assert MARKUP in hostile.text("#verdicts")
    assert hostile.text("#command") == f"command {MARKUP} $x$"
    labels = ["$x$ %{x} <b>b</b> &amp;", HOSTILE, MARKUP]
    assert sorted(tab.locator("#curves-legend label").all_inner_texts()) == sorted(labels)
    while tab.locator("#runs-more").is_visible():
        tab.click("#runs-more")
    assert set(labels) <= {row[0] for row in hostile.rows()}
    tab.locator("#config-details summary").click()
    assert json.loads(hostile.text("#config")) == {HOSTILE: MARKUP}
    drawn = tab.locator("#three-way-plot").evaluate("(plot) => plot.textContent")
    # Long ones are shortened, but not changed.
    for label in (HOSTILE, "$x$ %{x} <b>b</b> &amp;", MARKUP[:30]):
        assert label in drawn
    assert MARKUP in tab.locator("#heatmap-0-plot").evaluate("(plot) => plot.textContent")
    # Nothing of it became an element, in a figure or elsewhere.
    assert tab.locator("img, main script, .plot b:not(text b)").count() == 0
    assert hostile.problems == []


@pytest.mark.exhaustive
def test_what_appears_under_the_pointer_is_text_too(hostile):
    box = hostile.tab.locator("#curves-plot").bounding_box()
    hostile.tab.locator("#curves-plot").scroll_into_view_if_needed()
    box = hostile.tab.locator("#curves-plot").bounding_box()
    hostile.tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hostile.tab.wait_for_selector("#curves-plot .hoverlayer text")
    hovered = hostile.tab.locator("#curves-plot .hoverlayer").evaluate("(layer) => layer.textContent")
    for label in ("$x$ %{x} <b>b</b> &amp;", HOSTILE, MARKUP):
        assert f"{label}: " in hovered
    assert hostile.problems == []

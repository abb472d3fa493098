"""Which sections a page shows, and that names in them stay text."""

import json

import pytest

from momentum_jax.report.document import sweep_document
from momentum_jax.report.page import page
from tests.report.judged import sweep_of
from tests.report.page.browsing import Shown
from tests.report.synthetic import OPTIMIZERS, PROTOCOLS, document

HOSTILE = "<script>alert(1)</script>"
MARKUP = "</script><img src=x onerror=alert(1)>"


def test_a_page_opens_without_an_error_and_asks_for_nothing(view):
    assert {url for url in view.requests if not url.startswith("data:")} == {view.uri}
    policy = view.tab.locator("meta[http-equiv]").get_attribute("content")
    assert policy == "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def test_the_answer_comes_first_then_a_figure_then_the_verdicts(view, given):
    headings = view.tab.locator("main section:visible > h2").all_text_contents()
    assert headings == [
        "Answer",
        "Protocols compared",
        "Verdicts",
        "Notes",
        "Training curves",
        "Two hyperparameters at a time",
        "All hyperparameters at once",
        "Sensitivity to the learning rate",
        "Result against tuning budget",
        "Runs",
        "Momentum workbench",
        "Reproduce",
    ]
    assert view.tab.locator("#sections a").all_inner_texts() == headings[1:]
    answer = given["answer"]
    sentences = [text.replace("\xa0", " ") for text in view.tab.locator("#answer-sentences p").all_inner_texts()]
    assert sentences == answer["sentences"]
    assert view.tab.locator(".protocol").all_inner_texts() == PROTOCOLS
    assert view.text("#answer-parts").count("no difference found: momentum, nesterov") == 1
    assert view.text("#answer-sure") == f"How sure: {answer['sure']}"
    assert answer["warnings"][0] in view.text("#answer-warnings")
    assert view.tab.locator("#notes li").all_text_contents() == given["notes"]


def cells(table):
    """The texts of the verdicts in a table, by row and column: arrow, size and outcome."""
    read = "(t) => [...t.tBodies[0].rows].map((r) => [...r.cells].slice(1).map((c) => c.innerText.split('\\n')))"
    return table.evaluate(read)


def test_the_matrix_has_a_verdict_for_each_optimizer_and_protocol_with_size_and_sentence(view, given):
    tables = view.tab.locator("#verdicts table")
    # Of a metric that two optimizers of three are judged by, and of every metric when it is unfolded.
    same = ["○+1.4 %", "no difference found"]
    assert cells(tables.first) == [[["↓−67.6 %", "better"], same, ["↑+9.1 %", "worse"]]] * 2
    view.tab.click("#verdicts summary >> text=Every metric: momentum against sgd")
    every = tables.nth(1)
    # A folded part is filled when the browser says that it is open.
    every.locator("button").first.wait_for()
    assert every.locator("tbody th").all_inner_texts() == [m["title"] for m in given["matrix"]["metrics"]]
    assert cells(every)[1:] == [
        [["↓−0.2 pp", "worse"], ["–"], same],
        [["↓−67.6 %", "better"], same, ["–", "no verdict"]],
    ]
    names = every.locator("button").evaluate_all("(buttons) => buttons.map((b) => b.ariaLabel)")
    (pair,) = (p for p in given["matrix"]["pairs"] if (p["a"], p["b"]) == ("momentum", "sgd"))
    sentences = [cell["sentence"] for row in pair["cells"] for cell in row if cell]
    assert [name.split(": ", 1)[1] for name in names] == sentences
    # The sentence appears when a verdict is pointed at, and when it is focused.
    every.locator("button").nth(1).hover()
    assert view.text("#verdicts-spelled") == sentences[1]
    every.locator("button").nth(2).focus()
    assert view.text("#verdicts-spelled") == sentences[2]
    view.tab.click("#verdicts summary >> text=Every metric: momentum against sgd")


def test_held_against_another_optimizer_verdicts_are_mirrored(view):
    view.tab.select_option("#verdicts-against", label="nesterov")
    table = view.tab.locator("#verdicts table").first
    assert table.locator("tbody th").all_inner_texts() == ["sgd", "momentum"]
    assert [row[0] for row in cells(table)] == [["↑+208.3 %", "worse"]] * 2
    assert [row[2] for row in cells(table)] == [["↓−8.3 %", "better"]] * 2
    view.tab.select_option("#verdicts-against", label="sgd")


def test_each_part_of_the_answer_is_the_verdict_of_the_matrix(view, given):
    tones = {"helps": "better", "does not help": "worse"}
    protocols = [protocol["title"] for protocol in given["matrix"]["protocols"]]
    table = view.tab.locator("#verdicts table").first
    rows = dict(zip(table.locator("tbody th").all_inner_texts(), cells(table), strict=True))
    for part in given["answer"]["parts"]:
        outcome = rows[part["a"]][protocols.index(part["title"])][1]
        assert outcome == tones.get(part["kind"], part["kind"])


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
    changed["parallel"][0]["axes"][0]["name"] = MARKUP
    changed["parallel"][0]["axes"][2]["texts"][0] = MARKUP
    changed["three_way"]["metrics"][0]["protocols"][0].update(title=MARKUP, skipped=HOSTILE)
    changed["three_way"]["metrics"][0]["title"] = MARKUP
    changed["three_way"]["metrics"][0]["protocols"][1]["arms"][0]["detail"] = MARKUP
    changed["matrix"]["protocols"][0]["title"] = changed["matrix"]["metrics"][0]["title"] = MARKUP
    changed["matrix"]["pairs"][0]["cells"][0][0].update(sentence=MARKUP, size=MARKUP, outcome=MARKUP)
    changed["answer"].update(sentences=[MARKUP, HOSTILE], sure=MARKUP, warnings=[MARKUP])
    changed["answer"]["parts"][0].update(title=MARKUP, why=MARKUP)
    return Shown(browser, tmp_path_factory.mktemp("hostile") / "page.html", page(changed))


@pytest.mark.exhaustive
def test_names_that_look_like_markup_or_formulas_stay_text_everywhere(hostile):
    tab = hostile.tab
    assert tab.title() == f"title {MARKUP} $x$"
    assert hostile.text("h1") == f"title {MARKUP} $x$"
    for part in ("#answer-sentences", "#answer-parts", "#answer-sure", "#answer-warnings", "#verdicts"):
        assert MARKUP in hostile.text(part)
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


@pytest.mark.exhaustive
def test_two_hundred_optimizers_with_names_of_thousands_of_characters_are_drawn_soon_and_shortened(
    browser, tmp_path_factory
):
    labels = [f"<b>{i}</b> $x$ %{{x}} " + 5000 * "x" for i in range(200)]
    trials = [{"learning_rate": rate, "momentum": momentum} for rate in (0.01, 0.1, 1.0) for momentum in (0.0, 0.9)]
    text = page(sweep_document(sweep_of(dict.fromkeys(labels, trials), (0,)), ""))
    shown = Shown(browser, tmp_path_factory.mktemp("long") / "page.html", text)
    # It takes 2 s on two idle cores.
    assert shown.tab.evaluate("performance.now()") < 20_000
    drawn = "[...document.querySelectorAll('.plot, .legend, figcaption')].map((e) => e.textContent).join('')"
    assert "x" * 50 not in shown.tab.evaluate(drawn)
    assert shown.tab.locator("#curves-legend label").first.get_attribute("title").startswith(labels[0][:900])
    assert shown.tab.locator("#curves-legend input:checked").count() == 12
    assert shown.tab.evaluate("document.documentElement.scrollWidth") == 1280
    assert shown.problems == []

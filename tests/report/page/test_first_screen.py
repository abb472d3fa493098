"""The first screen of each kind of page, what a telephone shows of it, and what axe-core finds in the whole page."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from momentum_jax.report.document import comparison_document, sweep_document, tasks_document, training_document
from momentum_jax.report.page import page
from tests.comparison.timed import three_tasks
from tests.report.judged import comparison_among, comparison_of, sweep_of, trained
from tests.report.page.browsing import Shown

GRID = [{"learning_rate": rate, "momentum": m} for rate in (0.01, 0.1, 1.0) for m in (0.0, 0.9)]
# Every trial fails at the rate 1.
DIVERGING = [{"learning_rate": 1.0, "momentum": m} for m in (0.0, 0.9)]
NINE = ["sgd", "momentum", "nesterov", "aggmo", "qhm", "optax.adam", "<b>", "a label that is" + " long" * 40, "lion"]
MAKERS = {
    "a comparison of nine": lambda: comparison_document(comparison_among(NINE, seeds=16), "momentum-jax compare"),
    "a comparison with too few seeds": lambda: comparison_document(comparison_of(seeds=3), "momentum-jax compare"),
    "a comparison in which all failed": lambda: comparison_document(
        comparison_among(["sgd", "momentum"], failed=True), "momentum-jax compare"
    ),
    "a comparison over tasks": lambda: tasks_document(three_tasks(), {}, {"a": "a/report.html"}),
    "a training": lambda: training_document([trained("momentum", 0.05)], "momentum-jax"),
    "trainings": lambda: training_document([trained("sgd", 0.05), trained("momentum", 0.1)], "momentum-jax"),
    "a sweep": lambda: sweep_document(sweep_of({"momentum": GRID}, (0, 1)), "momentum-jax sweep"),
    "an unfinished sweep": lambda: sweep_document(
        sweep_of({"m": GRID}, (0, 1), missing={("m", 0, 0), ("m", 1, 0), ("m", 1, 1)}), "momentum-jax sweep"
    ),
    "a sweep in which all failed": lambda: sweep_document(sweep_of({"m": DIVERGING}, (0, 1)), "momentum-jax sweep"),
}
ALWAYS = ("a comparison of nine", "a training", "a sweep")
# Every kind of element, by its classes, its parent's and its attributes, is in one of these pages.
EVERY_ELEMENT = (*ALWAYS, "a comparison over tasks")


def each(names):
    return [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.exhaustive) for name in names]


@pytest.fixture(scope="module", params=each(MAKERS))
def kind(request, browser, tmp_path_factory):
    """A page of each kind, of the size that the test before gave it: to draw the figures again takes long."""
    file = tmp_path_factory.mktemp("kinds") / "page.html"
    shown = Shown(browser, file, page(MAKERS[request.param]()))
    yield shown
    assert shown.problems == []
    shown.context.close()


def resize(shown, width, height):
    shown.tab.set_viewport_size({"width": width, "height": height})
    shown.settle()
    # Resizing is slow to reach the last figure.
    fits = "(s) => s.clientWidth <= s.closest('.plot').clientWidth"
    shown.until(f"[...document.querySelectorAll('.plot .main-svg')].every({fits})")


@pytest.mark.parametrize("kind", each(EVERY_ELEMENT), indirect=True)
def test_axe_finds_nothing_serious_in_either_theme(kind):
    resize(kind, 1280, 480)
    # A figure is an image with a name; what plotly builds it of would take most of the time.
    context = {"exclude": [[".main-svg"]]}

    def serious(**options):
        found = Axe().run(kind.tab, context=context, options=options).response["violations"]
        worst = [v for v in found if v["impact"] in ("serious", "critical")]
        return [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in worst]

    kind.tab.emulate_media(color_scheme="dark")
    kind.settle()
    # Of all rules only this one depends on the theme.
    assert serious(runOnly=["color-contrast"]) == []
    kind.tab.emulate_media(color_scheme="light")
    kind.tab.evaluate("document.querySelectorAll('details:first-of-type').forEach((e) => { e.open = true; })")
    kind.settle()
    assert serious() == []


@pytest.mark.parametrize("size", [(1400, 900), (390, 844)], ids=["desktop", "telephone"])
def test_the_first_screen_holds_the_answer_and_most_of_a_figure(kind, size):
    width, height = size
    resize(kind, width, height)
    kind.tab.evaluate("scrollTo(0, 0)")
    answer = kind.tab.locator("#answer-sentences").bounding_box()
    figure = kind.tab.locator("#first-figure .plot").first.bounding_box()
    assert answer["height"] > 20
    assert answer["x"] >= 0
    assert answer["x"] + answer["width"] <= width
    assert answer["y"] + answer["height"] <= height
    assert figure["height"] > 100
    assert figure["y"] >= answer["y"] + answer["height"]
    # On a telephone the end of a tall figure may be below the fold.
    assert (height - figure["y"]) / figure["height"] >= (1 if width > 1000 else 0.6)
    if width > 1000:
        sure = kind.tab.locator("#answer-sure").bounding_box()
        assert sure["y"] + sure["height"] <= height


def test_on_the_smallest_telephone_the_page_does_not_scroll_sideways(kind):
    resize(kind, 360, 740)
    assert kind.tab.evaluate("document.documentElement.scrollWidth") == 360
    cut = """[...document.querySelectorAll('#answer p, #answer li, #verdicts :is(th, button, p)')]
        .filter((e) => e.checkVisibility() && !e.closest('svg'))
        .filter((e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > 361)
        .map((e) => `${e.tagName} ${e.className} ${e.textContent}`)"""
    assert kind.tab.evaluate(cut) == []

"""One browser, and one page of the synthetic document, for all tests of this folder."""

import pytest
from playwright.sync_api import sync_playwright

from momentum_jax.report.page import page
from tests.chromium import find_chromium
from tests.report.page.browsing import FLAGS, Shown
from tests.report.synthetic import document


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def given():
    return document()


@pytest.fixture(scope="session")
def shown(browser, given, tmp_path_factory):
    return Shown(browser, tmp_path_factory.mktemp("page") / "page.html", page(given))


@pytest.fixture
def view(shown):
    """The page of the synthetic document. A test must leave it without errors and as it found it."""
    yield shown
    assert shown.problems == []


@pytest.fixture(scope="session")
def search(browser, tmp_path_factory):
    """The page of a sweep that searched: no verdicts, no curves, and trials that fill no grid."""
    points = {"x": [0.001, 0.1, 1.0], "y": [0.0, 0.5, 0.9], "z": [0.5, 0.25, "inf"], "failed": [0, 1, 2]}
    axes = {
        "x": {"name": "learning_rate", "values": points["x"], "log": True},
        "y": {"name": "momentum", "values": points["y"], "log": False},
    }
    document = {
        "title": "A search",
        "question": "",
        "kind": "sweep",
        "verdicts": [],
        "curves": [],
        "three_way": None,
        "heatmaps": [{"label": "momentum", **axes, "points": points, "effective": True, "best": [0.1, 0.5]}],
        "sensitivity": [{"label": "momentum", "rates": points["x"], "losses": points["z"], "joined": False}],
        "sensitivity_note": "within 10 % of its best",
    }
    return Shown(browser, tmp_path_factory.mktemp("page") / "search.html", page(document))

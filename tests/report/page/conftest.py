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


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens the page of another document, without errors until the end of the test."""
    opened = []

    def open_(document):
        opened.append(Shown(browser, tmp_path / f"{len(opened)}.html", page(document)))
        return opened[-1]

    yield open_
    for other in opened:
        assert other.problems == []
        other.context.close()

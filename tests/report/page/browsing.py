"""A page in the system's Chromium, without a network, as the tests of this folder see it.

Numbers are read where the page keeps them unrounded: in `data-value` and in plotly's traces.
"""

import numpy as np
import pytest

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Shown:
    """A page in the browser, and what went wrong with it."""

    def __init__(self, browser, file, text):
        file.write_text(text, encoding="utf-8")
        self.uri, self.problems, self.requests = file.as_uri(), [], []
        # A low window, since most of the time goes into painting.
        self.context = browser.new_context(viewport={"width": 1280, "height": 480}, color_scheme="light")
        self.context.route("**/*", self._let_only_the_file_through)
        self.tab = self.context.new_page()
        # What takes a second takes many on a machine whose cores are all busy.
        self.tab.set_default_timeout(120_000)
        self.tab.on("console", lambda message: self.problems.append(message.text))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("dialog", self._dismiss)
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.open()

    def open(self):
        self.tab.goto(self.uri)
        self.tab.wait_for_selector("html[data-ready]")

    def _let_only_the_file_through(self, route):
        if route.request.url == self.uri:
            route.continue_()
        else:
            self.problems.append(f"asked for {route.request.url}")
            route.abort()

    def _dismiss(self, dialog):
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def settle(self):
        """Until what a control has asked for is drawn: at the latest in the next frame."""
        self.tab.evaluate("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r())))")

    def traces(self, figure, meta):
        """A figure's traces of a kind: what plotly draws from."""
        read = "([id, meta]) => document.getElementById(id).data.filter((trace) => trace.meta === meta)"
        return self.tab.evaluate(read, [figure, meta])

    def layout(self, figure, key):
        return self.tab.evaluate("([id, key]) => document.getElementById(id)._fullLayout[key]", [figure, key])

    def axis(self, figure, name):
        read = """([id, name]) => {
            const {type, range, title, domain, dtick, showticklabels} = document.getElementById(id)._fullLayout[name];
            return {type, range, title: title.text, domain, dtick, showticklabels};
        }"""
        return self.tab.evaluate(read, [figure, name])

    def text(self, selector):
        return self.tab.locator(selector).inner_text()

    def value(self, name):
        """A number of the workbench, unrounded."""
        return self.tab.locator(f"#wb-{name}").get_attribute("data-value")

    def set(self, **setting):
        for name, value in setting.items():
            self.tab.fill(f"#wb-{name}", repr(value))
        self.settle()

    def until(self, expression):
        """Waits until an expression holds; by hand, as the page forbids what the browser would evaluate by itself."""
        for _ in range(1200):
            if self.tab.evaluate(expression):
                return
            self.tab.wait_for_timeout(50)
        pytest.fail(f"never came true: {expression}")

    def setting(self):
        return {name: float(self.tab.input_value(f"#wb-{name}")) for name in ("alpha", "beta", "kappa", "steps")}

    def rows(self):
        """The rows that the table of runs shows, as texts."""
        read = (
            "[...document.querySelectorAll('#runs-table tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
        )
        return self.tab.evaluate(read)


def number(value):
    return {None: np.nan, "inf": np.inf, "-inf": -np.inf}.get(value, value)


def numbers(values):
    return np.asarray([number(value) for value in values], float)

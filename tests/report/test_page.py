"""The page of a report, as a browser shows it: the system's Chromium, without a network.

What the page computes is held against NumPy in float64. Numbers are read where the page keeps them unrounded: in
`data-value` and in plotly's traces.
"""

import base64
import copy
import csv
import io
import itertools
import json
import pathlib

import jax
import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import momentum_jax as mj
from momentum_jax.analysis import theory
from momentum_jax.report.page import page
from tests.chromium import find_chromium
from tests.report.synthetic import OPTIMIZERS, SITUATIONS, document

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = "<script>alert(1)</script>"
MARKUP = "</script><img src=x onerror=alert(1)>"
METHODS = ("gradient_descent", "heavy_ball", "nesterov")
# Away from double roots closed forms and eigenvalues lose a few of sixteen digits, as do the roundings of 500 steps.
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield browser
        browser.close()


class Shown:
    """A page in the browser, and what went wrong with it."""

    def __init__(self, browser, file, text):
        file.write_text(text, encoding="utf-8")
        self.uri, self.problems, self.requests = file.as_uri(), [], []
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
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
            const {type, range, title} = document.getElementById(id)._fullLayout[name];
            return {type, range, title: title.text};
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


@pytest.fixture(scope="module")
def shown(browser, tmp_path_factory):
    return Shown(browser, tmp_path_factory.mktemp("page") / "page.html", page(document()))


@pytest.fixture
def view(shown):
    """The page of the synthetic document, of which nothing may go wrong during a test."""
    yield shown
    assert shown.problems == []


@pytest.fixture(scope="module")
def given():
    return document()


def number(value):
    return {None: np.nan, "inf": np.inf, "-inf": -np.inf}.get(value, value)


def numbers(values):
    return np.asarray([number(value) for value in values], float)


# Text


def test_a_page_is_one_file_of_less_than_six_megabytes_and_the_same_each_time(given):
    text = page(given)
    assert text == page(copy.deepcopy(given))
    assert len(text.encode()) < 6_000_000


def test_what_ends_a_script_or_begins_markup_is_escaped_where_data_are_embedded(given):
    text = page({**given, "title": f"{MARKUP}\u2028", "notes": ["{{document}}", "<!--"]})
    start = text.index('id="document">') + len('id="document">')
    embedded = text[start : text.index("</script>", start)]
    assert not set("<>&\u2028") & set(embedded)
    back = json.loads(embedded)
    assert back == {**given, "title": f"{MARKUP}\u2028", "notes": ["{{document}}", "<!--"]}
    assert "<h1>&lt;/script&gt;&lt;img" in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_json_does_not_have_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        page({"title": "", "budget": [{"label": "sgd", "trials": [1], "best": [float(value)]}]})


# The whole


def test_a_page_opens_without_an_error_and_asks_for_nothing(view):
    assert [url for url in view.requests if not url.startswith("data:")] == [view.uri]
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
        "Do it again",
    ]
    assert view.tab.locator("#sections a").all_inner_texts() == headings
    assert view.tab.locator("#verdicts h3").all_inner_texts() == SITUATIONS
    items = view.tab.locator("#verdicts li").all_inner_texts()
    symbols = {"better": "▲", "worse": "▼", "equivalent": "=", "no difference found": "○", "no verdict": "–"}
    for item, verdict in zip(items, given["verdicts"], strict=True):
        symbol, rest = item[0], item[1:].strip()
        assert symbol == symbols[verdict["outcome"]]
        assert rest.startswith(verdict["outcome"])
        assert verdict["sentence"] in item
    assert view.tab.locator("#notes li").all_inner_texts() == given["notes"]


def test_what_the_document_lacks_does_not_appear(browser, tmp_path):
    empty = {"title": "Nothing", "question": "", "kind": "sweep", "verdicts": [], "curves": [], "three_way": None}
    bare = Shown(browser, tmp_path / "bare.html", page(empty))
    assert bare.tab.locator("h1:visible, h2:visible").all_inner_texts() == ["Nothing", "Momentum workbench"]
    assert bare.problems == []
    bare.context.close()


# Figures


def smoothed(values, width):
    """A centred moving average whose window shrinks towards the ends, on both sides alike."""
    half, length = (width - 1) // 2, values.shape[-1]
    reaches = [min(half, i, length - 1 - i) for i in range(length)]
    return np.stack([values[:, i - r : i + r + 1].mean(axis=1) for i, r in enumerate(reaches)], axis=1)


def curves_of(given, group, width):
    """By label: the median and the band over the seeds."""
    summaries = {}
    for curve in given["curves"]:
        if curve["group"] == group:
            raw = np.frombuffer(base64.b64decode(curve["values"]["base64"]), "<f4")
            values = raw.reshape(curve["values"]["shape"]).astype(float)
            values = smoothed(np.where(np.isfinite(values), values, np.inf), width)
            with np.errstate(invalid="ignore"):
                summaries[curve["label"]] = np.percentile(values, [50, 10, 90], axis=0, method="linear")
    return summaries


@pytest.mark.parametrize(("group", "width"), [(SITUATIONS[0], 1), (SITUATIONS[1], 1), (SITUATIONS[2], 21)])
def test_curves_are_the_median_and_the_band_over_seeds_after_smoothing(view, given, group, width):
    view.tab.select_option("#curves-group", group)
    view.tab.fill("#curves-smoothing", str(width))
    medians, bands = view.traces("curves-plot", "median"), view.traces("curves-plot", "band")
    expected = curves_of(given, group, width)
    assert [trace["name"] for trace in medians] == list(expected) == OPTIMIZERS
    for line, band, (median, low, high) in zip(medians, bands, expected.values(), strict=True):
        np.testing.assert_allclose(line["y"], median, rtol=1e-12)
        count = len(median)
        # What is infinite, NumPy's NaN where it interpolates between infinities, is drawn as far above the picture.
        drawn = np.asarray(band["y"][:count])
        finite = np.isfinite(high) & (high < 1e3)
        np.testing.assert_allclose(drawn[finite], high[finite], rtol=1e-12)
        assert (drawn[~finite] > 1e3).all()
        np.testing.assert_allclose(band["y"][count:][::-1], low, rtol=1e-12)
        assert band["x"][:count] == line["x"]
    assert view.text("#curves-smoothing-value") == ("none" if width == 1 else f"{width} points")


def test_the_loss_has_a_linear_or_a_logarithmic_scale_with_all_curves_on_it(view, given):
    view.tab.select_option("#curves-group", SITUATIONS[1])
    view.tab.fill("#curves-smoothing", "1")
    lowest = min(median.min() for median, _, _ in curves_of(given, SITUATIONS[1], 1).values())
    axis = view.axis("curves-plot", "yaxis")
    assert (axis["type"], axis["range"][0], axis["title"]) == ("linear", 0, "Loss (nats)")
    view.tab.check("#curves-log")
    axis = view.axis("curves-plot", "yaxis")
    assert (axis["type"], axis["title"]) == ("log", "Loss (nats), logarithmic")
    assert 10 ** axis["range"][0] < lowest
    view.tab.uncheck("#curves-log")
    assert view.axis("curves-plot", "yaxis")["type"] == "linear"


def test_a_switch_of_the_legend_hides_an_optimizer_with_its_band(view):
    view.tab.uncheck("#curves-legend >> text=momentum")
    for meta in ("median", "band"):
        assert {t["name"]: t["visible"] for t in view.traces("curves-plot", meta)} == {
            "sgd": True,
            "momentum": False,
            "nesterov": True,
        }
    assert "momentum" not in view.text("#curves-caption")
    view.tab.check("#curves-legend >> text=momentum")
    assert all(trace["visible"] for trace in view.traces("curves-plot", "median"))


def test_protocols_are_compared_by_the_metric_chosen(view, given):
    for index, metric in enumerate(given["three_way"]["metrics"]):
        view.tab.select_option("#three-way-metric", label=metric["title"])
        arms = [arm for protocol in metric["protocols"] for arm in protocol["arms"]]
        drawn, dots = view.traces("three-way-plot", "interval"), view.traces("three-way-plot", "seeds")
        right = max(view.axis("three-way-plot", "xaxis")["range"])
        for arm, interval, seeds in zip(arms, drawn, dots, strict=True):
            expected = numbers([arm["low"], arm["value"], arm["high"]])
            values = numbers(arm["values"])
            # Infinity has its place within the right edge; a missing seed has none.
            edge = max(interval["x"] + seeds["x"])
            assert np.array_equal(interval["x"], np.where(np.isinf(expected), edge, expected))
            values = values[~np.isnan(values)]
            assert np.array_equal(seeds["x"], np.where(np.isinf(values), edge, values))
            assert edge < right
        assert view.axis("three-way-plot", "xaxis")["title"] == f"{metric['title']} ({metric['unit']})"
        caption = view.text("#three-way-caption")
        assert ("Less is better" in caption) == metric["less_is_better"]
        assert ("no evaluation on the test set" in caption) == (index == 1)


def test_a_heatmap_shows_the_losses_the_best_trial_and_what_failed(view, given):
    for i, heatmap in enumerate(given["heatmaps"]):
        read = "(id) => document.getElementById(id).data.filter((t) => t.type === 'heatmap').map((t) => t.z)"
        coloured, infinite = view.tab.evaluate(read, f"heatmap-{i}-plot")
        z = np.stack([numbers(row) for row in heatmap["z"]])
        with np.errstate(invalid="ignore"):
            expected = np.where(np.isfinite(z), np.log10(z), np.nan)
        np.testing.assert_allclose(np.asarray(coloured, float), expected, rtol=1e-12)
        np.testing.assert_array_equal(np.asarray(infinite, float) == 1, np.isinf(z))
        (frame,) = (s for s in view.layout(f"heatmap-{i}-plot", "shapes") if s.get("name") == "best")
        row, column = np.unravel_index(np.nanargmin(z), z.shape)
        assert [frame["x0"], frame["x1"], frame["y0"], frame["y1"]] == [
            column - 0.5,
            column + 0.5,
            row - 0.5,
            row + 0.5,
        ]
        (failed,) = view.traces(f"heatmap-{i}-plot", "failed")
        counts = dict(zip(zip(failed["x"], failed["y"], strict=True), map(int, failed["text"]), strict=True))
        assert counts == {(c, r): n for r, line in enumerate(heatmap["failed"]) for c, n in enumerate(line) if n}
        lines = view.traces(f"heatmap-{i}-plot", "effective")[0]
        rates, momenta = np.meshgrid(heatmap["x"]["values"], heatmap["y"]["values"])
        np.testing.assert_allclose(lines["z"], np.log10(rates / (1 - momenta)), atol=1e-12)
        assert lines["contours"]["size"] == 1


def test_trials_of_a_search_are_points_and_their_rates_no_line(browser, tmp_path, given):
    points = {"x": [0.001, 0.1, 1.0], "y": [0.0, 0.5, 0.9], "z": [0.5, 0.25, "inf"], "failed": [0, 1, 2]}
    axes = {
        "x": {"name": "learning_rate", "values": points["x"], "log": True},
        "y": {"name": "momentum", "values": points["y"], "log": False},
    }
    search = {"label": "momentum", **axes, "points": points, "effective": True, "best": [0.1, 0.5]}
    rates = {"label": "momentum", "rates": points["x"], "losses": points["z"], "joined": False}
    document = given | {"heatmaps": [search], "sensitivity": [rates], "sensitivity_note": "within 10 % of its best"}
    drawn = Shown(browser, tmp_path / "page.html", page(document))
    (trials,) = drawn.traces("heatmap-0-plot", "trials")
    assert (trials["x"], trials["y"], trials["marker"]["color"]) == ([0.001, 0.1], [0.0, 0.5], [0.5, 0.25])
    (failed,) = drawn.traces("heatmap-0-plot", "infinite")
    (best,) = drawn.traces("heatmap-0-plot", "best")
    assert (failed["x"], best["x"]) == ([1.0], [0.1])
    assert drawn.axis("heatmap-0-plot", "xaxis")["type"] == "log"
    # 0.001/(1 − 0) to 1/(1 − 0.9).
    curves = drawn.traces("heatmap-0-plot", "effective")
    effective = [np.asarray(curve["x"]) / (1 - np.asarray(curve["y"])) for curve in curves]
    assert [np.round(values.mean(), 12) for values in effective] == [0.001, 0.01, 0.1, 1, 10]
    np.testing.assert_allclose(np.concatenate([values / values[0] for values in effective]), 1, rtol=1e-12)
    assert drawn.traces("sensitivity-plot", "line")[0]["mode"] == "markers"
    assert "within 10 % of its best" in drawn.text("#sensitivity-caption")
    rows = drawn.tab.locator("#heatmaps-panels tbody tr").all_text_contents()
    assert len(rows) == 3
    assert drawn.problems == []
    drawn.context.close()


def test_sensitivity_and_budget_are_lines_that_say_where_they_are_infinite(view, given):
    for section, x, y in (("sensitivity", "rates", "losses"), ("budget", "trials", "best")):
        lines, infinite = (view.traces(f"{section}-plot", meta) for meta in ("line", "infinite"))
        for one, line, marks in zip(given[section], lines, infinite, strict=True):
            values, places = numbers(one[y]), numbers(one[x])
            np.testing.assert_array_equal(np.asarray(line["y"], float), np.where(np.isfinite(values), values, np.nan))
            assert np.array_equal(line["x"], places)
            assert np.array_equal(marks["x"], places[np.isinf(values)])
    assert "Hollow marks at the top are infinite" in view.text("#sensitivity-caption")
    assert view.axis("sensitivity-plot", "xaxis")["type"] == "log"


def test_each_figure_has_its_numbers_in_a_table(view, given):
    figures = view.tab.locator("details.numbers")
    assert figures.count() == 4 + len(given["heatmaps"])
    for i in range(figures.count()):
        assert figures.nth(i).locator("tbody tr").count() > 0
        assert figures.nth(i).locator("caption").count() == 1


# Runs


def rows_shown(view):
    return view.tab.evaluate(
        "[...document.querySelectorAll('#runs-table tbody tr')].map((row) => [...row.cells].map((c) => c.textContent))"
    )


def header(view, name):
    """The button that sorts by a column."""
    return view.tab.locator("#runs-table th button").nth(list(document()["table"]["rows"]).index(name))


def sorted_by(view):
    read = "[...document.querySelectorAll('#runs-table th')].map((th) => th.getAttribute('aria-sort'))"
    return view.tab.evaluate(read)


def test_runs_are_sorted_by_a_column_with_what_is_missing_last(view, given):
    rows = given["table"]["rows"]
    view.tab.fill("#runs-filter", "momentum")
    loss = header(view, "final_train_loss")
    wanted = [i for i, label in enumerate(rows["optimizer"]) if label == "momentum"]
    for direction in ("ascending", "descending"):
        loss.click()
        assert sorted_by(view)[4] == direction
        assert set(sorted_by(view)[:4]) == {"none"}
        expected = sorted((number(rows["final_train_loss"][i]) for i in wanted), reverse=direction == "descending")
        shown = [row[4].replace("∞", "inf") for row in rows_shown(view)]
        # Shown to five digits.
        np.testing.assert_allclose(np.asarray(shown, float), expected[:25], rtol=1e-4)
    view.tab.fill("#runs-filter", "")
    header(view, "momentum").click()
    assert {row[2] for row in rows_shown(view)} == {"0.9"}
    while view.tab.locator("#runs-more").is_visible():
        view.tab.click("#runs-more")
    assert [row[2] for row in rows_shown(view)] == ["0.9"] * 120 + [""] * 60


def test_more_rows_are_shown_step_by_step(view):
    view.tab.fill("#runs-filter", "sgd")
    assert len(rows_shown(view)) == 25
    assert view.text("#runs-count") == "60 runs of 180, the first 25 shown; 1200 more are not in this page."
    view.tab.click("#runs-more")
    assert len(rows_shown(view)) == 50
    # The reader goes on where the new rows begin.
    assert view.tab.evaluate("document.activeElement.rowIndex") == 26
    view.tab.click("#runs-more")
    assert len(rows_shown(view)) == 60
    assert not view.tab.locator("#runs-more").is_visible()
    view.tab.fill("#runs-filter", "no such run")
    assert view.text("#runs-count").startswith("0 runs of 180")


def test_the_file_has_exactly_the_runs_that_the_filter_leaves_in_the_order_shown(view, given):
    rows = given["table"]["rows"]
    view.tab.fill("#runs-filter", "  NESTEROV true ")
    seed = header(view, "seed")
    while sorted_by(view)[3] != "descending":
        seed.click()
    with view.tab.expect_download() as download:
        view.tab.click("#runs-csv")
    text = pathlib.Path(download.value.path()).read_bytes().decode()
    assert download.value.suggested_filename == "runs.csv"
    assert text.count("\r\n") == 1 + 10
    names, *lines = csv.reader(io.StringIO(text, newline=""))
    assert names == list(rows)
    exact = {None: "", True: "true", False: "false"}
    every = list(zip(*rows.values(), strict=True))
    left = [row for row in every if row[0] == "nesterov" and row[6] is True]
    left.sort(key=lambda row: -row[3])
    assert len(left) == 10

    def written(value):
        return exact[value] if value is None or isinstance(value, bool) else value

    for line, row in zip(lines, left, strict=True):
        for trial, value in zip(line, map(written, row), strict=True):
            # Numbers as JavaScript writes them, which is not how Python does; read back they are the same.
            assert trial == value if isinstance(value, str) else float(trial) == value
    assert {line[7] for line in lines} == {"", "plain", 'has "quotes", a comma', "two\nlines", "=1+1"}


# Names that are not text


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


def test_names_that_look_like_markup_or_formulas_stay_text_everywhere(hostile):
    tab = hostile.tab
    assert tab.title() == f"title {MARKUP} $x$"
    assert hostile.text("h1") == f"title {MARKUP} $x$"
    assert MARKUP in hostile.text("#verdicts")
    assert hostile.text("#command") == f"command {MARKUP} $x$"
    labels = ["$x$ %{x} <b>b</b> &amp;", HOSTILE, MARKUP]
    assert sorted(tab.locator("#curves-legend label").all_inner_texts()) == sorted(labels)
    assert set(labels) <= {row[0] for row in rows_shown_all(hostile)}
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


def rows_shown_all(view):
    while view.tab.locator("#runs-more").is_visible():
        view.tab.click("#runs-more")
    return rows_shown(view)


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


# Workbench


def rate(method, a, beta):
    """The spectral radius of the matrix that takes (w_k, w_{k−1}) to (w_{k+1}, w_k)."""
    if method == "gradient_descent":
        return abs(1 - a)
    trace, determinant = (1 + beta - a, beta) if method == "heavy_ball" else ((1 + beta) * (1 - a), beta * (1 - a))
    return float(np.abs(np.linalg.eigvals(np.array([[trace, -determinant], [1.0, 0.0]]))).max())


def path(method, alpha, beta, curvature, steps):
    """The iterates from 1 at rest, in float64."""
    w, v = 1.0, 0.0
    beta = 0.0 if method == "gradient_descent" else beta
    iterates = [w]
    with np.errstate(all="ignore"):
        for _ in range(int(steps)):
            gradient = np.float64(curvature) * w
            v = beta * v - alpha * gradient
            w = w + beta * v - alpha * gradient if method == "nesterov" else w + v
            iterates.append(w)
    return np.asarray(iterates)


def check_theory(view):
    """Against the closed forms and the recurrence that the package has."""
    alpha, beta, kappa, steps = view.setting().values()
    curvatures = np.array([1.0, kappa])
    with jax.enable_x64(True):
        for method in ("heavy_ball", "nesterov"):
            rates = getattr(theory, f"{method}_rate")(alpha * curvatures, beta)
            path = getattr(theory, f"{method}_path")(alpha, beta, curvatures, np.ones(2), int(steps))
            shown = [float(view.value(f"{method}-{name}")) for name in ("rate_mu", "rate_L", "distance")]
            np.testing.assert_allclose(shown, [*rates, np.linalg.norm(path[-1])], rtol=TOLERANCE, atol=TOLERANCE)


def check_numbers(view, *, rtol=TOLERANCE):
    alpha, beta, kappa, steps = view.setting().values()
    for method in METHODS:
        low, high = rate(method, alpha, beta), rate(method, alpha * kappa, beta)
        shown = {
            name: view.value(f"{method}-{name}") for name in ("rate_mu", "rate_L", "rate", "iterations", "distance")
        }
        shown = {name: float(value) for name, value in shown.items()}
        worst = max(low, high)
        with np.errstate(all="ignore"):
            end = np.hypot(path(method, alpha, beta, 1, steps)[-1], path(method, alpha, beta, kappa, steps)[-1])
        np.testing.assert_allclose(
            [shown["rate_mu"], shown["rate_L"], shown["rate"]], [low, high, worst], rtol=rtol, atol=rtol
        )
        assert (view.value(f"{method}-stable") == "true") == (worst < 1)
        iterations = np.log(1000) / -np.log(worst) if worst < 1 else np.inf
        np.testing.assert_allclose(shown["iterations"], iterations, rtol=1e3 * rtol)
        np.testing.assert_allclose(shown["distance"], np.inf if np.isnan(end) else end, rtol=TOLERANCE)


@pytest.mark.parametrize(
    "setting",
    [
        {"alpha": 0.02, "beta": 0.7, "kappa": 25.0, "steps": 40},
        # Real roots, no momentum, a round valley.
        {"alpha": 0.3, "beta": 0.0, "kappa": 1.0, "steps": 3},
        {"alpha": 0.0005, "beta": 0.95, "kappa": 1000.0, "steps": 500},
        # Heavy ball alone converges.
        {"alpha": 0.08, "beta": 0.7, "kappa": 30.0, "steps": 60},
        # All diverge, the last beyond the largest float.
        {"alpha": 0.5, "beta": 0.5, "kappa": 20.0, "steps": 30},
        {"alpha": 10.0, "beta": 0.999, "kappa": 1000.0, "steps": 500},
    ],
)
def test_the_numbers_are_those_of_the_recurrence_and_its_spectral_radius(view, setting):
    view.set(**setting)
    assert view.setting() == setting
    check_numbers(view)


def test_the_numbers_are_those_of_the_theory(view):
    view.set(alpha=0.02, beta=0.7, kappa=25.0, steps=40)
    check_theory(view)
    # Beyond both boundaries.
    view.set(alpha=0.5, beta=0.5, kappa=20.0, steps=40)
    check_theory(view)


def test_a_slider_moves_the_number_the_path_and_the_point_on_the_map(view):
    view.set(alpha=0.02, beta=0.7, kappa=25.0, steps=40)
    before = view.traces("wb-path", "heavy_ball")[0]["y"]
    for slider, at, field in (
        ("alpha", "-1.5", 0.0316),
        ("beta", "0.55", 0.55),
        ("kappa", "1", 10.0),
        ("steps", "70", 70),
    ):
        view.tab.fill(f"#wb-{slider}-slider", at)
        assert view.setting()[slider] == field
    view.tab.focus("#wb-steps-slider")
    view.tab.keyboard.press("ArrowRight")
    view.settle()
    assert view.setting() == {"alpha": 0.0316, "beta": 0.55, "kappa": 10.0, "steps": 71}
    check_numbers(view)
    after = view.traces("wb-path", "heavy_ball")[0]["y"]
    assert len(after) == 72
    assert after[1] != before[1]
    points = {shape["name"]: (shape["xanchor"], shape["yanchor"]) for shape in view.layout("wb-map", "shapes")[1:]}
    np.testing.assert_allclose(points["αμ"], [np.log10(0.0316), 0.55], rtol=1e-12)
    np.testing.assert_allclose(points["αL"], [np.log10(0.316), 0.55], rtol=1e-12)


def test_paths_are_the_iterates_and_those_that_diverge_end_at_the_edge(view):
    setting = {"alpha": 0.0801, "beta": 0.7, "kappa": 30.0, "steps": 60}
    view.set(**setting)
    (line,) = view.traces("wb-path", "heavy_ball")
    for key, curvature in (("x", 1.0), ("y", 30.0)):
        expected = path("heavy_ball", 0.0801, 0.7, curvature, 60)
        np.testing.assert_allclose(line[key], expected, rtol=TOLERANCE, atol=1e-15)
    half = [view.axis("wb-path", name)["range"][1] for name in ("xaxis", "yaxis")]
    for method in ("gradient_descent", "nesterov"):
        (line,), (exit_,) = (view.traces("wb-path", meta) for meta in (method, f"{method} leaves"))
        x, y = (path(method, 0.0801, 0.7, curvature, 60) for curvature in (1.0, 30.0))
        inside = int(np.argmax((np.abs(x) > half[0]) | (np.abs(y) > half[1])))
        assert len(line["x"]) == inside + 1 < 60
        np.testing.assert_allclose(line["y"][:-1], y[:inside], rtol=TOLERANCE)
        # The last point is where the line to the first iterate outside meets the edge.
        assert abs(line["y"][-1]) == pytest.approx(half[1], rel=1e-12)
        slope = (line["x"][-1] - x[inside - 1]) / (x[inside] - x[inside - 1])
        assert slope == pytest.approx((line["y"][-1] - y[inside - 1]) / (y[inside] - y[inside - 1]), rel=1e-9)
        assert exit_["visible"]
    assert "Not converging at this setting: gradient descent, Nesterov." in view.text("#wb-path-caption")
    assert view.text("#wb-gradient_descent-stable") == "no"
    assert view.text("#wb-gradient_descent-iterations") == "never"
    view.until("document.getElementById('wb-status').textContent.includes('does not converge')")


@pytest.mark.parametrize("kappa", [1.0, 20.0, 1000.0])
def test_the_buttons_give_the_best_hyperparameters_for_the_spectrum(view, kappa):
    best = {
        "gradient_descent": mj.optimizers.optimal_sgd(1, kappa),
        "heavy_ball": mj.optimizers.optimal_momentum(1, kappa),
        "nesterov": mj.optimizers.optimal_nesterov(1, kappa),
    }
    view.set(kappa=kappa)
    for method, tuning in best.items():
        view.tab.click(f"#wb-best-{method}")
        view.settle()
        setting = view.setting()
        np.testing.assert_allclose(setting["alpha"], float(tuning.learning_rate), rtol=1e-12)
        momentum = 0.0 if method == "gradient_descent" else float(tuning.momentum)
        np.testing.assert_allclose(setting["beta"], momentum, rtol=1e-12, atol=1e-12)
        # At these settings roots are double: a rounding of 1e-16 in α moves the rate by its square root.
        np.testing.assert_allclose(float(view.value(f"{method}-rate")), float(tuning.rate), atol=1e-7)


@pytest.mark.parametrize(("method", "momentum", "critical_rate"), [("heavy_ball", 0.64, 0.8), ("nesterov", 2 / 3, 0.8)])
def test_critical_damping_sets_the_best_momentum_for_the_flat_direction(view, method, momentum, critical_rate):
    # s = √(αμ) = 0.2: (1 − s)² and (1 − s)/(1 + s), both with the rate 1 − s.
    view.set(alpha=0.04, kappa=2.0, steps=10)
    view.tab.select_option("#wb-method", method)
    view.tab.click("#wb-critical")
    view.settle()
    assert view.setting()["beta"] == pytest.approx(momentum, rel=1e-12)
    assert float(view.value(f"{method}-rate_mu")) == pytest.approx(critical_rate, abs=1e-7)
    view.set(alpha=5.0)
    view.tab.click("#wb-critical")
    assert "no critical damping" in view.text("#wb-problem")


@pytest.mark.parametrize("method", ["heavy_ball", "nesterov"])
def test_the_map_has_the_rates_and_the_edge_of_stability_of_the_method_chosen(view, method):
    view.set(alpha=0.02, beta=0.5, kappa=10.0, steps=10)
    view.tab.select_option("#wb-method", method)
    view.settle()
    read = "(() => { const {x, y, z} = document.getElementById('wb-map').data[0]; return [x, y, z]; })()"
    logarithms, beta, z = view.tab.evaluate(read)
    a, z = 10 ** np.asarray(logarithms), np.asarray(z, float)
    for row, column in itertools.product(range(0, len(beta), 10), range(0, len(a), 10)):
        expected = rate(method, a[column], beta[row])
        # Near double roots, which the grid may touch, eigenvalues keep half of their digits.
        assert np.isnan(z[row, column]) if expected >= 1 else z[row, column] == pytest.approx(expected, abs=1e-7)
    (boundary,) = view.traces("wb-map", "boundary")
    for edge, b in zip(10 ** np.asarray(boundary["x"][::10]), boundary["y"][::10], strict=True):
        assert rate(method, edge * (1 - 1e-6), b) < 1 <= rate(method, edge * (1 + 1e-6), b)


def test_a_number_that_cannot_be_used_is_said_and_leaves_the_rest_as_it_is(view):
    view.set(alpha=0.02, beta=0.5, kappa=10.0, steps=10)
    before = view.value("heavy_ball-rate")
    for name, value in (("alpha", "0"), ("beta", "1"), ("steps", "2.5"), ("kappa", "")):
        view.tab.fill(f"#wb-{name}", value)
        view.settle()
        assert view.tab.locator(f"#wb-{name}").get_attribute("aria-invalid") == "true"
        assert "must be a" in view.text("#wb-problem")
        assert view.value("heavy_ball-rate") == before
        view.set(alpha=0.02, beta=0.5, kappa=10.0, steps=10)
    assert view.text("#wb-problem") == ""


# For everyone


def accessible(view):
    """Roles and names as a screen reader has them."""
    session = view.context.new_cdp_session(view.tab)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]


def test_every_control_and_every_figure_has_a_name(view):
    tree = accessible(view)
    controls = {"button", "checkbox", "slider", "spinbutton", "combobox", "searchbox", "link", "image", "img", "region"}
    assert [node for node in tree if node[0] in controls and not node[1].strip()] == []
    # The arrow beside it is not read out, as the header says how it is sorted.
    assert ("button", "Seed") in tree
    roles = [role for role, _ in tree]
    assert {"banner", "navigation", "main", "contentinfo"} <= set(roles)
    figures = view.tab.locator(".plot[role=img]")
    assert figures.count() == 8
    for i in range(figures.count()):
        described = figures.nth(i).get_attribute("aria-describedby")
        assert view.text(f"#{described}").strip()
    assert view.tab.locator("html").get_attribute("lang") == "en"
    names = [name for role, name in tree if role in {"slider", "spinbutton"}]
    assert len(names) == len(set(names)) == 9


def test_headings_leave_out_no_level(view):
    levels = view.tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(next_ - level <= 1 for level, next_ in itertools.pairwise(levels))


def test_the_keyboard_reaches_every_control_in_the_order_of_the_page_and_leaves_again(view):
    view.tab.fill("#runs-filter", "no such run")
    view.tab.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    focusable = view.tab.evaluate("""[...document.querySelectorAll('a, button, input, select, summary, [tabindex="0"]')]
        .filter((e) => e.checkVisibility()).map((e, i) => { e.dataset.order = i; return i; })""")
    view.tab.locator(".skip").focus()
    order = []
    for _ in focusable:
        place, outline, href = view.tab.evaluate("""(() => {
            const e = document.activeElement, s = getComputedStyle(e);
            const seen = s.outlineStyle !== 'none' && s.outlineWidth !== '0px';
            return [Number(e.dataset.order), seen, e.getAttribute('href')];
        })()""")
        order.append(place)
        assert outline, f"no visible focus on {place}"
        if not order[:-1]:
            assert href == "#main"
        view.tab.keyboard.press("Tab")
    assert order == focusable
    assert view.tab.evaluate(
        "document.activeElement.dataset.order === undefined || document.activeElement.dataset.order === '0'"
    )
    view.tab.fill("#runs-filter", "")


@pytest.mark.parametrize("clipboard", ["given", "refused"])
def test_the_command_is_copied_whole(view, given, clipboard):
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    refusal = "void (navigator.clipboard.writeText = () => Promise.reject(new Error('refused')))"
    view.tab.evaluate(refusal if clipboard == "refused" else "navigator.clipboard.writeText('nothing yet')")
    view.tab.click("#copy")
    view.until("document.getElementById('copied').textContent === 'Copied.'")
    view.tab.focus("#runs-filter")
    view.tab.keyboard.press("Control+V")
    assert view.tab.input_value("#runs-filter") == given["command"]
    view.tab.fill("#runs-filter", "")
    view.tab.evaluate("delete navigator.clipboard.writeText; document.getElementById('copied').textContent = ''")


def test_on_a_telephone_nothing_is_wider_than_the_screen(view):
    view.tab.set_viewport_size({"width": 360, "height": 740})
    view.settle()
    try:
        for details in view.tab.locator("details").all():
            details.evaluate("(e) => { e.open = true; }")
        # Resizing is slow to reach the last figure.
        view.until("[...document.querySelectorAll('.plot .main-svg')].every((s) => s.clientWidth <= 360)")
        assert view.tab.evaluate("document.documentElement.scrollWidth") == 360
        wide = """[...document.querySelectorAll('body *')]
            .filter((e) => e.checkVisibility() && !e.closest('.scroll *, .skip, .hidden, svg'))
            .filter((e) => e.getBoundingClientRect().right > 361)
            .map((e) => `${e.tagName} ${e.id} ${e.className}`)"""
        assert view.tab.evaluate(wide) == []
    finally:
        view.tab.set_viewport_size({"width": 1280, "height": 900})


def luminance(color):
    """Relative luminance of a colour such as rgb(1, 2, 3) (WCAG 2.2)."""
    channels = np.asarray([float(c) for c in color[color.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


TEXTS = (
    "h1",
    ".question",
    "#sections a",
    ".better .outcome",
    ".worse .outcome",
    ".metric",
    "#theme",
    "figcaption p",
    "th button",
    "td",
    "summary",
    "pre",
)


def colours(view):
    """The colours of texts, each with its ground, and of the lines and letters of a figure."""
    read = """(selectors) => {
        const own = (e) => getComputedStyle(e).backgroundColor;
        const ground = (e) => (own(e) === 'rgba(0, 0, 0, 0)' ? ground(e.parentElement) : own(e));
        const texts = selectors.map((s) => [s, document.querySelector(s)])
            .map(([s, e]) => [s, getComputedStyle(e).color, ground(e)]);
        const plot = document.getElementById('curves-plot');
        const lines = [...plot.querySelectorAll('.scatterlayer .js-line')].map((e) => getComputedStyle(e).stroke);
        const letters = getComputedStyle(plot.querySelector('.xtick text')).fill;
        return {texts, lines, letters, ground: getComputedStyle(document.body).backgroundColor};
    }"""
    return view.tab.evaluate(read, list(TEXTS))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_their_ground_in_both_themes(view, scheme):
    view.tab.emulate_media(color_scheme=scheme)
    view.settle()
    seen = colours(view)
    assert (luminance(seen["ground"]) > 0.5) == (scheme == "light")
    for selector, color, ground in seen["texts"]:
        # WCAG 2.2: 4.5 for text (1.4.3), 3 for what is needed to understand a figure (1.4.11).
        assert contrast(color, ground) >= 4.5, selector
    assert contrast(seen["letters"], seen["ground"]) >= 4.5
    strokes = {line for line in seen["lines"] if line.startswith("rgb(")}
    assert len(strokes) >= 3
    assert min(contrast(line, seen["ground"]) for line in strokes) >= 3
    view.tab.emulate_media(color_scheme="light")


def test_the_button_changes_the_theme_and_the_choice_outlives_a_reload(view):
    light = colours(view)["ground"]
    assert view.text("#theme") == "Dark theme"
    view.tab.click("#theme")
    assert view.text("#theme") == "Light theme"
    dark = colours(view)
    assert luminance(dark["ground"]) < 0.1
    assert contrast(dark["letters"], dark["ground"]) > 7
    view.open()
    assert colours(view)["ground"] == dark["ground"]
    # Paper is white.
    view.tab.emulate_media(media="print")
    view.tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert contrast(colours(view)["letters"], light) > 7
    assert not view.tab.locator("#theme").is_visible()
    # What says which line is whose stays, and the runs fit the sheet.
    assert view.tab.locator("#curves-legend svg").first.is_visible()
    assert view.tab.evaluate("document.querySelector('#runs-table table').clientWidth <= document.body.clientWidth")
    view.tab.evaluate("dispatchEvent(new Event('afterprint'))")
    view.tab.emulate_media(media="screen")
    view.tab.click("#theme")
    assert colours(view)["ground"] == light

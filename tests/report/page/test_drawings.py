"""What the figures of the page draw, against NumPy in float64."""

import base64
import itertools

import numpy as np
import pytest

from momentum_jax.report.page import page
from tests.report import synthetic
from tests.report.page.browsing import Shown, numbers
from tests.report.synthetic import OPTIMIZERS, PROTOCOLS


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


@pytest.mark.parametrize(
    ("group", "width"),
    [(PROTOCOLS[0], 1), pytest.param(PROTOCOLS[1], 1, marks=pytest.mark.exhaustive), (PROTOCOLS[2], 21)],
)
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
    view.tab.select_option("#curves-group", PROTOCOLS[1])
    view.tab.fill("#curves-smoothing", "1")
    lowest = min(median.min() for median, _, _ in curves_of(given, PROTOCOLS[1], 1).values())
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
        assert [t["name"] for t in view.traces("curves-plot", meta)] == ["sgd", "nesterov"]
    assert "momentum" not in view.text("#curves-caption")
    view.tab.check("#curves-legend >> text=momentum")
    assert [t["name"] for t in view.traces("curves-plot", "median")] == OPTIMIZERS


def test_the_curves_of_all_trials_lie_faintly_behind_the_best_and_say_where_they_leave(view):
    view.tab.select_option("#curves-group", PROTOCOLS[2])
    read = """(losses) => {
        const canvas = document.getElementById('curves-canvas'), figure = document.getElementById('curves-plot');
        const { xaxis, yaxis, _size: size } = figure._fullLayout, density = canvas.width / size.w;
        // A copy, since the browser complains of a canvas that is read often.
        const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
        const context = copy.getContext('2d', { willReadFrequently: true });
        context.drawImage(canvas, 0, 0);
        const column = context.getImageData(density * xaxis.d2p(1250), 0, 1, canvas.height).data;
        // The most opaque pixel within two of where the loss is on the axis.
        return losses.map((loss) => Math.max(...[-2, -1, 0, 1, 2].map((d) =>
            column[4 * (Math.round(density * yaxis.d2p(loss)) + d) + 3])));
    }"""
    # Of nesterov: trials at 0.625 and 1.125 plus 0.25; the one at 2.125 has failed before iteration 1250.
    drawn = view.tab.evaluate(read, [0.625, 1.125, 1.375, 0.3, 0.4, 2.125])
    assert all(0 < alpha < 128 for alpha in drawn[:3])
    assert drawn[3:] == [0, 0, 0]
    cut = [trace["x"] for trace in view.traces("curves-plot", "cut off")]
    assert cut == [[1000], [1000], [1000], [], [], []]
    (word,) = view.layout("curves-plot", "annotations")
    assert word["text"] == "△ cut off: 3 of 18 trials fail or go on above"
    assert "3 of 18 trials" in view.text("#curves-caption")
    view.tab.uncheck("#curves-trials")
    view.settle()
    assert set(view.tab.evaluate(read, [0.625, 1.125])) == {0}
    view.tab.check("#curves-trials")
    view.tab.select_option("#curves-group", PROTOCOLS[0])
    assert not view.tab.locator("#curves-trials").is_visible()


def test_parallel_axes_have_every_trial_with_the_failed_ones_above_the_loss(view, given):
    (part, _) = given["parallel"]
    # Logarithms from 0.001 to 10, momenta from 0 to 0.9 with a trial that has none below, no and yes.
    rates, momenta, nesterov = [0.5, 0.75, 0.25, 0, 1], [1, 5 / 9, 0, -0.1, 1], [1, 0, 0, 1, 1]
    # Losses from 0.1 to 1 on a logarithmic axis.
    losses = [*(np.log10(part["losses"][:4]) + 1), 1.1]
    expected = dict(enumerate(zip(rates, momenta, nesterov, losses, strict=True)))
    traces = view.traces("parallel-plot", "trials")
    lines = [line for trace in traces for line in np.reshape(np.asarray(trace["y"], float), (-1, 5))[:, :4]]
    np.testing.assert_allclose(sorted(map(tuple, lines)), sorted(expected[i] for i in range(4)), atol=1e-12)
    (failed,), (best,) = (view.traces("parallel-plot", meta) for meta in ("failed", "best"))
    np.testing.assert_allclose(failed["y"][:4], expected[4])
    np.testing.assert_allclose(best["y"][:4], expected[0])
    assert best["hovertext"][0] == "learning rate 0.1, momentum 0.9, nesterov yes: loss 0.1"
    words = [annotation["text"] for annotation in view.layout("parallel-plot", "annotations")]
    assert {"Learning rate", "Momentum", "Nesterov", "Loss", "failed", "yes", "none"} <= set(words)
    view.tab.fill("#parallel-best", "60")
    view.settle()
    assert view.text("#parallel-best-value") == "the best 60 %"
    assert view.traces("parallel-plot", "failed")[0]["y"] == []
    assert "the best 3 of 5 are drawn" in view.text("#parallel-caption")
    view.tab.fill("#parallel-best", "100")
    view.tab.evaluate("document.getElementById('parallel-numbers').open = true")
    view.until("document.querySelector('#parallel-numbers tbody')")
    rows = view.tab.locator("#parallel-numbers tbody tr")
    assert rows.first.locator("th, td").all_inner_texts() == ["1", "0.1", "0.9", "yes", "0.1", "0"]
    assert rows.last.locator("th, td").all_inner_texts() == ["5", "10", "0.9", "yes", "failed", "3"]
    view.tab.evaluate("document.getElementById('parallel-numbers').open = false")


def test_protocols_are_compared_by_the_metric_chosen(view, given):
    for index, metric in enumerate(given["three_way"]["metrics"]):
        view.tab.select_option("#three-way-metric", index=index)
        shown = [protocol for protocol in metric["protocols"] if not protocol["skipped"]]
        arms = [arm for protocol in shown for arm in protocol["arms"]]
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
        # The panels have one range.
        assert view.axis("three-way-plot", "xaxis")["range"] == view.axis("three-way-plot", "xaxis3")["range"]
        assert view.axis("three-way-plot", "xaxis")["title"] == f"{metric['title']} ({metric['unit']})"
        written = [a["text"] for a in view.layout("three-way-plot", "annotations")]
        assert [f"<b>{title}</b>" in written for title in PROTOCOLS] == [True] * 3
        # What is infinite has no number, but a word.
        assert ("never" in written) == (index == 2)
        caption = view.text("#three-way-caption")
        assert ("Less is better" in caption) == metric["less_is_better"]
        assert ("no evaluation on the test set" in caption) == (index == 1)
        assert ("no number: never" in caption) == (index == 2)
    view.tab.select_option("#three-way-metric", index=0)


@pytest.fixture(scope="module")
def apart(browser, tmp_path_factory):
    """A page whose protocols differ by far, with a small sweep in which nothing failed, and four notes."""
    document = synthetic.document() | {"notes": ["one", "two", "three", "four"]}
    (metric, *_) = document["three_way"]["metrics"]
    for factor, protocol in zip((1, 100, 1), metric["protocols"], strict=True):
        for arm in protocol["arms"]:
            arm |= {name: factor + arm[name] for name in ("value", "low", "high")}
            arm["values"] = [factor + value for value in arm["values"]]
    axes = {name: {"name": name, "values": [0.1, 1.0], "log": False} for name in ("x", "y")}
    one = {"label": "momentum", **axes, "z": [[0.25] * 2] * 2, "failed": [[0] * 2] * 2, "effective": False}
    few = {"label": "momentum", "trials": [1, 2], "best": [0.5, 0.25]}
    document |= {"heatmaps": [one | {"best": [0.1, 0.1]}], "budget": [few]}
    page_of = Shown(browser, tmp_path_factory.mktemp("page") / "apart.html", page(document))
    yield page_of
    assert page_of.problems == []


def test_protocols_whose_ranges_are_far_apart_have_a_scale_each_which_is_said(apart):
    ranges = [apart.axis("three-way-plot", f"xaxis{number}")["range"] for number in ("", 2, 3)]
    assert ranges[0][1] < ranges[1][0]
    assert "Each panel has its own scale" in apart.text("#three-way-caption")
    for number, own in zip(("", 2, 3), ranges, strict=True):
        x = [x for t in apart.traces("three-way-plot", "seeds") if t["xaxis"] == f"x{number}" for x in t["x"]]
        assert own[0] <= min(x)
        assert max(x) <= own[1]
    apart.tab.set_viewport_size({"width": 390, "height": 800})
    apart.until("document.getElementById('three-way-plot').layout.yaxis2.domain[1] < 0.9")
    # Below each panel is room for its ticks.
    domains = [apart.axis("three-way-plot", f"yaxis{number}")["domain"] for number in ("", 2, 3)]
    assert all(upper[0] > lower[1] for upper, lower in itertools.pairwise(domains))
    assert all(apart.axis("three-way-plot", f"xaxis{number}")["showticklabels"] for number in ("", 2, 3))


def test_a_small_sweep_explains_no_marks_that_it_has_not_and_has_numbers(apart):
    legend = apart.text("#heatmaps-legend")
    assert not any(word in legend for word in ("failed", "finished", "Dashed"))
    assert apart.tab.evaluate("document.getElementById('heatmap-0-plot').data[0].colorbar.ticktext") == ["0.25"]
    assert apart.axis("budget-plot", "xaxis")["dtick"] == 1


def test_up_to_three_notes_are_shown_and_more_are_counted(view, apart):
    assert view.tab.locator("#notes-list li").first.is_visible()
    assert not apart.tab.locator("#notes-list").is_visible()
    assert apart.text("#notes-count") == "4 notes"


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
        some = {(c, r): n for r, line in enumerate(heatmap["failed"]) for c, n in enumerate(line) if n}
        assert counts == {(c, r): n for (c, r), n in some.items() if np.isfinite(z[r, c])}
        (words,) = view.traces(f"heatmap-{i}-plot", "failed trials")
        assert set(zip(words["y"], words["x"], strict=True)) == set(map(tuple, np.argwhere(np.isinf(z)).tolist()))
        assert set(words["text"]) == {"failed"}
        assert view.axis(f"heatmap-{i}-plot", "xaxis")["title"] == "Learning rate"
        lines = view.traces(f"heatmap-{i}-plot", "effective")[0]
        rates, momenta = np.meshgrid(heatmap["x"]["values"], heatmap["y"]["values"])
        np.testing.assert_allclose(lines["z"], np.log10(rates / (1 - momenta)), atol=1e-12)
        assert lines["contours"]["size"] == 1


def test_trials_of_a_search_are_points_and_their_rates_no_line(search):
    (trials,) = search.traces("heatmap-0-plot", "trials")
    assert (trials["x"], trials["y"], trials["marker"]["color"]) == ([0.001, 0.1], [0.0, 0.5], [0.5, 0.25])
    (failed,) = search.traces("heatmap-0-plot", "infinite")
    (best,) = search.traces("heatmap-0-plot", "best")
    assert (failed["x"], best["x"]) == ([1.0], [0.1])
    assert search.axis("heatmap-0-plot", "xaxis")["type"] == "log"
    # 0.001/(1 − 0) to 1/(1 − 0.9).
    curves = search.traces("heatmap-0-plot", "effective")
    effective = [np.asarray(curve["x"]) / (1 - np.asarray(curve["y"])) for curve in curves]
    assert [np.round(values.mean(), 12) for values in effective] == [0.001, 0.01, 0.1, 1, 10]
    np.testing.assert_allclose(np.concatenate([values / values[0] for values in effective]), 1, rtol=1e-12)
    assert search.traces("sensitivity-plot", "line")[0]["mode"] == "markers"
    assert "within 10 % of its best" in search.text("#sensitivity-caption")
    search.tab.evaluate("document.querySelector('#heatmaps-panels details').open = true")
    search.until("document.querySelector('#heatmaps-panels tbody')")
    rows = search.tab.locator("#heatmaps-panels tbody tr").all_text_contents()
    assert len(rows) == 3
    assert search.problems == []


def test_sensitivity_and_budget_are_lines_that_say_where_they_are_infinite(view, given):
    for section, x, y in (("sensitivity", "rates", "losses"), ("budget", "trials", "best")):
        lines, infinite = (view.traces(f"{section}-plot", meta) for meta in ("line", "infinite"))
        for one, line, marks in zip(given[section], lines, infinite, strict=True):
            values, places = numbers(one[y]), numbers(one[x])
            np.testing.assert_array_equal(np.asarray(line["y"], float), np.where(np.isfinite(values), values, np.nan))
            assert np.array_equal(line["x"], places)
            assert np.array_equal(marks["x"], places[np.isinf(values)])
        (word,) = view.layout(f"{section}-plot", "annotations")
        assert word["text"] == {"sensitivity": "failed", "budget": "all may fail"}[section]
    assert "Hollow marks at the top are infinite" in view.text("#sensitivity-caption")
    assert view.axis("sensitivity-plot", "xaxis")["type"] == "log"


def test_each_figure_has_its_numbers_in_a_table(view, given):
    figures = view.tab.locator("section:visible details.numbers")
    assert figures.count() == 5 + len(given["heatmaps"])
    for i in range(figures.count()):
        figures.nth(i).evaluate("(details) => { details.open = true; }")
        figures.nth(i).locator("table").wait_for()
        assert figures.nth(i).locator("tbody tr").count() > 0
        assert figures.nth(i).locator("caption").count() == 1
        figures.nth(i).evaluate("(details) => { details.open = false; }")

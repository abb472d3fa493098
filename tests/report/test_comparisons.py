"""Figures of comparisons, from results made by hand."""

import dataclasses
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from momentum_jax.report import curves_figure, save_figure, three_way_figure, tuning_figure, writing
from momentum_jax.report.comparisons import COLUMN
from tests.report.judged import LABELS, comparison_of


@pytest.fixture(scope="module")
def compared():
    return comparison_of()


def texts_of(figure):
    return [text.get_text() for axes in figure.axes for text in (*axes.get_xticklabels(), axes.yaxis.label, axes.title)]


def test_the_three_ways_show_each_median_in_its_place_with_the_runs_around_it(compared):
    figure = three_way_figure(compared, ["test_loss", "failed"])
    axes = figure.axes[0]
    medians = [line for line in axes.lines if line.get_marker() in "vo" and len(line.get_xdata()) == 1]
    arms = [arm for name in ("same", "tuned") for arm in compared.protocols[name].arms.values()]
    assert [line.get_ydata()[0] for line in medians] == pytest.approx([np.median(a.values["test_loss"]) for a in arms])
    assert [round(line.get_xdata()[0], 9) for line in medians] == [-0.2, 0.2, 0.8, 1.2]
    runs = [line for line in axes.lines if line.get_marker() == "."]
    np.testing.assert_array_equal(runs[0].get_ydata(), arms[0].values["test_loss"])
    assert "loss on the test set (nats)" in texts_of(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(LABELS)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_titles_of_protocols_side_by_side_do_not_overlap(compared, count):
    titles = (
        "each at its best of 32 own and up to 32 shared trials",
        "same effective learning rate, 0.1",
        "each at its best of 32 own trials",
        "same learning rate, 0.01",
    )[:count]
    tuned = compared.protocols["tuned"]
    several = {title: tuned._replace(title=title) for title in titles}
    figure = three_way_figure(dataclasses.replace(compared, protocols=several), ["test_loss"])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) == count
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def failing(compared, metric, bad):
    """Only the tuned optimizers, with one run of sgd whose value is bad."""
    tuned = compared.protocols["tuned"]
    sgd = tuned.arms["sgd"]
    arms = tuned.arms | {
        "sgd": sgd._replace(values=sgd.values | {metric: np.array([bad, *sgd.values["test_loss"][1:]])})
    }
    return dataclasses.replace(compared, protocols={"tuned": tuned._replace(arms=arms)})


@pytest.mark.parametrize(
    ("metric", "bad", "word"),
    [
        ("test_loss", np.inf, "failed"),
        ("test_accuracy", -np.inf, "failed"),
        ("iterations_to_target", np.inf, "never"),
    ],
)
def test_runs_without_a_value_stand_in_a_row_of_their_own_that_says_what_became_of_them(compared, metric, bad, word):
    compared = failing(compared, metric, bad)
    figure = three_way_figure(compared, [metric])
    axes = figure.axes[0]
    runs = next(line for line in axes.lines if line.get_marker() == ".").get_ydata()
    ticks = dict(zip([text.get_text() for text in axes.get_yticklabels()], axes.get_yticks(), strict=True))
    assert runs[0] == ticks[word]
    # Apart from all other runs and numbers of the axis.
    others = [*runs[1:], *(tick for text, tick in ticks.items() if text != word)]
    assert runs[0] > max(others) if bad > 0 else runs[0] < min(others)
    (band,) = axes.patches
    low, high = sorted([band.get_y(), band.get_y() + band.get_height()])
    assert low < runs[0] < high
    assert all(other < low or other > high for other in others)
    assert [text.get_text() for text in axes.texts] == ["1/8"]


def test_where_every_run_has_a_value_no_row_is_drawn(compared):
    axes = three_way_figure(compared, ["test_loss"]).axes[0]
    assert not {"failed", "never"} & {text.get_text() for text in axes.get_yticklabels()}


def test_curves_have_a_panel_for_each_protocol_that_has_runs(compared):
    figure = curves_figure(compared)
    assert [axes.get_title() for axes in figure.axes] == ["same learning rate, 0.1", "each at its best"]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)


def test_a_curve_whose_runs_diverged_ends_with_a_cross_and_a_word(compared):
    same = compared.protocols["same"]
    sgd = same.arms["sgd"]
    losses = np.where(np.arange(60) < 30, sgd.losses_before, np.inf)
    protocols = {"same": same._replace(arms=same.arms | {"sgd": sgd._replace(losses_before=losses)})}
    (axes,) = curves_figure(dataclasses.replace(compared, protocols=protocols)).axes
    (cross,) = (line for line in axes.lines if line.get_marker() == "x")
    # The window of the smoothing reaches five iterations ahead.
    assert cross.get_xdata() == [24]
    assert [text.get_text() for text in axes.texts] == ["failed"]


def test_the_tuning_shows_each_trial_and_the_expected_best(compared):
    above, below = tuning_figure(compared).axes
    rates = above.lines[0].get_xdata()
    assert rates == pytest.approx(np.geomspace(0.001, 1, 6))
    # The rate 1 fails: it stands in a row of its own, and the expected best begins with two trials.
    assert above.get_yticks()[-1] == above.lines[0].get_ydata()[-1]
    assert above.get_yticklabels()[-1].get_text() == "failed"
    assert np.isfinite(below.lines[0].get_ydata()).tolist() == [False, True, True, True, True, True]


def test_figures_fit_a_column_and_are_written_for_screens_and_papers_the_same_each_time(compared, tmp_path):
    figures = [three_way_figure(compared, ["failed"]), curves_figure(compared), tuning_figure(compared)]
    assert {figure.get_figwidth() for figure in figures} == {COLUMN}
    first = save_figure(figures[0], tmp_path / "a", pdf=True)
    contents = [path.read_bytes() for path in first]
    assert [path.name for path in first] == ["a.png", "a.svg", "a.pdf"]
    again = save_figure(three_way_figure(compared, ["failed"]), tmp_path / "a", pdf=True)
    assert [path.read_bytes() for path in again] == contents
    # Text is text: names can be searched, and nothing in them is markup.
    assert "&lt;b&gt;momentum&lt;/b&gt;" in contents[1].decode()
    # The smallest letters are those of the ticks.
    assert min(text.get_size() for f in figures for axes in f.axes for text in axes.get_xticklabels()) >= 6


def test_no_tick_stands_between_two_numbers_of_trials():
    below = tuning_figure(comparison_of(trials=3)).axes[1]
    assert all(tick == int(tick) for tick in below.get_xticks())


def test_a_comparison_has_its_curves_three_metrics_a_figure_and_its_tuning_written(compared, monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(writing, "save_figure", lambda figure, path, *, pdf: written.append(path.name) or [path])
    assert writing.write_figures(compared, tmp_path / "paper") == [tmp_path / "paper" / name for name in written]
    assert written == ["curves", "three_way_1", "three_way_2", "tuning", "heatmap"]

"""Figures of comparisons, from results made by hand."""

import dataclasses

import numpy as np
import pytest

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


def test_runs_that_failed_stand_at_the_edge_of_the_panel(compared):
    tuned = compared.protocols["tuned"]
    values = np.array([np.inf, *tuned.arms["sgd"].values["test_loss"][1:]])
    failing = tuned.arms["sgd"]._replace(values=tuned.arms["sgd"].values | {"test_loss": values})
    protocols = {"tuned": tuned._replace(arms=tuned.arms | {"sgd": failing})}
    figure = three_way_figure(dataclasses.replace(compared, protocols=protocols), ["test_loss"])
    runs = next(line for line in figure.axes[0].lines if line.get_marker() == ".")
    assert runs.get_ydata()[0] == figure.axes[0].get_ylim()[1]


def test_curves_have_a_panel_for_each_protocol_that_has_runs(compared):
    figure = curves_figure(compared)
    assert [axes.get_title() for axes in figure.axes] == ["same learning rate, 0.1", "each at its best"]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)


def test_the_tuning_shows_each_trial_and_the_expected_best(compared):
    above, below = tuning_figure(compared).axes
    rates = above.lines[0].get_xdata()
    assert rates == pytest.approx(np.geomspace(0.001, 1, 6))
    # The rate 1 fails: it stands at the edge, and the expected best begins with two trials.
    assert above.lines[0].get_ydata()[-1] == above.get_ylim()[1]
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


def test_a_comparison_has_its_curves_three_metrics_a_figure_and_its_tuning_written(compared, monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(writing, "save_figure", lambda figure, path, *, pdf: written.append(path.name) or [path])
    assert writing.write_figures(compared, tmp_path / "paper") == [tmp_path / "paper" / name for name in written]
    assert written == ["curves", "three_way_1", "three_way_2", "tuning", "heatmap"]

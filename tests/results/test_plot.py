"""`Result.plot`: what it returns, where it draws and what it refuses."""

import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import momentum_jax as mj
from tests.report.test_figures import falling
from tests.report.test_figures import result_of as training_of
from tests.report.test_heatmaps import GRID
from tests.report.test_sensitivity import RATES
from tests.report.test_sensitivity import result_of as sweep_of

MOMENTA = [(trial, [1.0, 2.0, 3.0]) for trial in GRID]
TRAINING = training_of(falling())
SEVERAL = sweep_of({"momentum": MOMENTA, "other": MOMENTA})


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def given():
    return Figure().add_subplot()


def test_the_losses_of_a_training_are_drawn_by_pyplot_which_shows_them():
    axes = TRAINING.plot()
    assert plt.gca() is axes
    assert [line.get_label() for line in axes.lines] == ["sgd", "momentum"]


def test_a_sweep_over_two_hyperparameters_is_a_heatmap_with_its_colour_bar_and_over_one_a_curve():
    axes = sweep_of({"momentum": MOMENTA}).plot()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "momentum")
    assert len(axes.figure.axes) == 2
    axes = sweep_of({"sgd": RATES}).plot()
    assert axes.lines[0].get_xydata().tolist() == [[0.001, 5], [0.01, 3], [0.1, 2]]


@pytest.mark.parametrize(
    "result", [TRAINING, sweep_of({"sgd": RATES}), sweep_of({"momentum": MOMENTA})], ids=["losses", "curve", "heatmap"]
)
def test_axes_that_are_given_are_drawn_into_and_returned_and_pyplot_is_left_alone(result):
    axes = given()
    assert result.plot(axes) is axes
    assert axes.has_data()
    assert axes.get_xlabel()
    assert plt.get_fignums() == []


def test_a_figure_of_several_panels_is_returned_as_such_and_a_notebook_shows_it_once(monkeypatch):
    figure = SEVERAL.plot()
    assert isinstance(figure, Figure)
    assert plt.gcf() is figure
    plt.close(figure)
    # There the figure is the value of the cell, and pyplot's figures are shown too.
    monkeypatch.setattr(mpl, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    assert isinstance(SEVERAL.plot(), Figure)
    assert plt.get_fignums() == []
    TRAINING.plot()
    assert len(plt.get_fignums()) == 1


def test_an_optimizer_can_be_chosen():
    assert SEVERAL.plot(given(), label="other").get_title() == "other"
    (line,) = TRAINING.plot(label="momentum").lines
    assert line.get_label() == "momentum"
    # It looks as it does among all.
    assert line.get_color() == TRAINING.plot().lines[1].get_color()


def test_what_cannot_be_drawn_is_refused_with_what_is_needed():
    none = dataclasses.replace(TRAINING, iterations=np.arange(0), losses_after={}, losses_before={})
    for result, arguments, message in [
        (TRAINING, {"label": "momentun"}, "momentum"),
        (TRAINING, {"ax": "axes"}, "ax must be a matplotlib Axes, such as figure.add_subplot.., not str"),
        (SEVERAL, {"ax": given()}, "ax takes one panel and there are 2; choose one with label, or leave ax out"),
        (SEVERAL, {"log": True}, "log=True is for the losses of a training"),
        (none, {}, "there are no losses to draw"),
    ]:
        with pytest.raises(mj.InputError, match=message):
            result.plot(**arguments)


def test_labels_that_are_hostile_or_long_are_drawn_as_text():
    labels = [r"$\x_{", "<script>alert(1)</script>", "한" * 5000, "_hidden", *(f"{i}{'x' * 5000}" for i in range(200))]
    axes = training_of(falling(labels[:2] + labels[3:], iterations=20)).plot()
    # Fails for a formula that is none.
    axes.figure.draw_without_rendering()
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown[:3] == [labels[0], labels[1], labels[3]]

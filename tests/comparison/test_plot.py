"""`Comparison.plot`: which metrics it draws."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

import momentum_jax as mj
from tests.report.judged import LABELS, comparison_of

COMPARED = comparison_of()


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_without_axes_there_is_a_panel_for_each_of_three_metrics_the_decisive_one_first():
    figure = COMPARED.plot()
    assert plt.gcf() is figure
    assert [axes.get_ylabel().replace("\n", " ") for axes in figure.axes] == [
        "loss on the training set (nats)",
        "loss on the test set (nats)",
        "accuracy on the test set",
    ]


def test_axes_get_the_decisive_metric_or_the_one_that_is_chosen_with_a_legend():
    axes = Figure().add_subplot()
    assert COMPARED.plot(axes) is axes
    assert axes.get_ylabel().replace("\n", " ") == "loss on the training set (nats)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(LABELS)
    assert plt.get_fignums() == []
    assert COMPARED.plot(metrics=["test_accuracy"]).get_ylabel() == "accuracy on the test set"


def test_metrics_that_were_not_judged_or_too_many_for_the_axes_are_refused():
    with pytest.raises(mj.InputError, match="test_accuracy"):
        COMPARED.plot(metrics=["test_acuracy"])
    with pytest.raises(mj.InputError, match="ax takes one panel and there are 2; choose one with metrics"):
        COMPARED.plot(Figure().add_subplot(), metrics=["train_loss", "test_loss"])

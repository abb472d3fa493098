"""The figure of a sweep over one hyperparameter, from results made by hand."""

import dataclasses

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.report import sensitivity_figure, sweep_figure
from momentum_jax.space import Trial
from tests.report.test_heatmaps import GRID, record
from tests.report.test_heatmaps import result_of as sweep_of
from tests.results.made import NATS, from_records


def result_of(trials):
    """A sweep: by label, each trial's hyperparameters and the losses of its seeds, inf where a run failed."""
    seeds = len(next(iter(trials.values()))[0][1])
    optimizers = {label: mj.OptimizerConfig("momentum", learning_rate=0.01) for label in trials}
    cfg = mj.Config(iterations=2, seeds=seeds, optimizers=optimizers)
    own = {label: tuple(Trial(mj.OptimizerConfig("momentum", **h), 128) for h, _ in of) for label, of in trials.items()}
    runs = {
        label: [[record(float(loss), failed=bool(np.isinf(loss))) for loss in losses] for _, losses in of]
        for label, of in trials.items()
    }
    return from_records(cfg, runs, np.arange(2), [2], NATS, own)


RATES = [
    ({"learning_rate": 0.1}, [1, 2, 9]),
    ({"learning_rate": 0.001}, [4, 5, 6]),
    ({"learning_rate": 0.01}, [2, 3, 4]),
]


def axes_of(trials):
    (axes,) = sensitivity_figure(result_of(trials)).axes
    return axes


def bars_of(axes):
    """The ends of the ranges, by trial."""
    return [segment[:, 1].tolist() for bars in axes.containers for segment in bars[2][0].get_segments()]


def test_the_medians_are_joined_in_the_order_of_the_hyperparameter_with_the_range_over_seeds():
    axes = axes_of({"sgd": RATES})
    assert axes.lines[0].get_xydata().tolist() == [[0.001, 5], [0.01, 3], [0.1, 2]]
    assert bars_of(axes) == [[4, 6], [2, 4], [1, 9]]
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "learning rate")
    assert axes.get_ylabel() == "Final training loss\n(nats, median and range of 3 seeds)"
    # One optimizer needs no legend.
    assert axes.get_legend() is None


def test_where_no_trial_that_varies_is_finished_the_others_are_drawn():
    result = result_of({"varies": RATES, "alone": RATES[:1]})
    result.missing["varies"][:] = True
    (axes,) = sensitivity_figure(result).axes
    assert (len(axes.lines), axes.get_xlabel()) == (1, "learning rate")


def test_trials_of_which_most_runs_failed_stand_in_a_row_of_their_own_to_which_the_ranges_of_others_reach():
    failing = [({"learning_rate": 1.0}, [1, np.inf, np.inf]), ({"learning_rate": 0.5}, [1, 2, np.inf])]
    axes = axes_of({"sgd": [*RATES, *failing]})
    row = axes.get_yticks()[-1]
    assert axes.get_yticklabels()[-1].get_text() == "failed"
    joined, points, *_ = (line.get_ydata() for line in axes.lines)
    np.testing.assert_array_equal(joined, [5, 3, 2, 2, np.nan])
    np.testing.assert_array_equal(points, [5, 3, 2, 2, row])
    # All others lie below the row.
    assert row > 9
    assert bars_of(axes)[-2:] == [[1, row], [1, row]]


def test_an_optimizer_with_one_trial_is_a_line_across():
    axes = axes_of({"sgd": RATES, "momentum": [({"learning_rate": 0.02}, [1, 2, 3])]})
    (across,) = (line for line in axes.lines if list(line.get_xdata()) == [0, 1])
    assert list(across.get_ydata()) == [2, 2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["sgd", "momentum"]


def test_of_trials_with_the_same_value_the_best_is_drawn():
    several = [
        ({"learning_rate": rate, "momentum": m}, [loss])
        for m, loss in ((0.1, 3), (0.5, 1), (0.9, 2))
        for rate in (0.1, 1)
    ]
    axes = axes_of({"momentum": several})
    assert axes.lines[0].get_xydata().tolist() == [[0.1, 1], [1, 1]]


def test_words_stand_side_by_side_and_are_not_joined():
    words = [({"learning_rate": 0.1, "convention": word}, [1.0, 2.0]) for word in ("inside", "outside")]
    axes = axes_of({"sgd": words})
    assert [text.get_text() for text in axes.get_xticklabels()] == ["inside", "outside"]
    assert axes.lines[0].get_xydata().tolist() == [[0, 1.5], [1, 1.5]]
    assert axes.lines[0].get_linestyle() == "None"


def test_without_a_hyperparameter_that_varies_each_optimizer_has_its_place():
    axes = axes_of({label: [({"learning_rate": 0.1}, [i])] for i, label in enumerate(("sgd", "momentum"), 1)})
    assert [text.get_text() for text in axes.get_xticklabels()] == ["sgd", "momentum"]
    assert [line.get_xydata().tolist() for line in axes.lines if line.get_linestyle() == "None"] == [[[0, 1]], [[1, 2]]]


def test_optimizers_that_vary_in_different_hyperparameters_have_a_panel_for_each():
    momenta = [({"learning_rate": 0.1, "momentum": m}, [1.0]) for m in (0.5, 0.9)]
    figure = sensitivity_figure(result_of({"sgd": [(h, losses[:1]) for h, losses in RATES], "momentum": momenta}))
    assert [axes.get_xlabel() for axes in figure.axes] == ["learning rate", "momentum"]


def test_trials_that_are_not_finished_are_left_out():
    result = result_of({"sgd": RATES})
    result.missing["sgd"][0] = True
    (axes,) = sensitivity_figure(result).axes
    assert axes.lines[0].get_xdata().tolist() == [0.001, 0.01]
    result.missing["sgd"][:] = True
    (axes,) = sensitivity_figure(result).axes
    assert [text.get_text() for text in axes.texts] == ["no run is finished"]


def test_where_no_training_loss_was_evaluated_the_last_loss_before_an_update_is_drawn():
    result = dataclasses.replace(result_of({"sgd": RATES}), evaluations={})
    (axes,) = sensitivity_figure(result).axes
    assert axes.get_ylabel() == "Loss before the last update\n(nats, median and range of 3 seeds)"
    assert axes.lines[0].get_ydata().tolist() == [5, 3, 2]


@pytest.mark.parametrize("losses", [[np.inf] * 3, [0, 0, 0], [-1, -2, 1]], ids=["all failed", "all zero", "negative"])
def test_there_is_a_figure_whatever_came_of_the_sweep(losses, tmp_path):
    figure = sensitivity_figure(result_of({r"$\x$": [({"learning_rate": rate}, losses) for rate in (0.1, 0.2)]}))
    figure.savefig(tmp_path / "figure.png")


def test_a_sweep_is_a_heatmap_if_two_numbers_vary_and_else_the_loss_against_one():
    assert sweep_figure(sweep_of(GRID, range(6)))[0] == "heatmap"
    assert sweep_figure(result_of({"sgd": RATES}))[0] == "sensitivity"

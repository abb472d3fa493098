"""Heatmaps of sweeps, from results made by hand."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

import momentum_jax as mj
from momentum_jax.report import heatmap_figure
from momentum_jax.results.record import Record
from momentum_jax.results.result import from_records
from momentum_jax.space import Trial

RATES, MOMENTA = [0.01, 0.1, 1.0], [0.0, 0.9]
BEST = "#d55e00"


def record(loss, *, failed=False):
    histories = np.full(2, loss, np.float32)
    return Record(histories, histories, {}, -1, {"train_loss": np.asarray([loss])}, failed, None)


def result_of(trials, losses, failed=(), *, seeds=1, label="momentum"):
    """A sweep of one optimizer: hyperparameters of each trial, its final training loss, the positions that failed."""
    optimizers = {label: mj.OptimizerConfig("momentum", learning_rate=0.01)}
    cfg = mj.Config(iterations=2, seeds=seeds, optimizers=optimizers)
    own = tuple(Trial(mj.OptimizerConfig("momentum", **trial), 128) for trial in trials)
    runs = [[record(loss, failed=i in failed)] * seeds for i, loss in enumerate(losses)]
    return from_records(cfg, {label: runs}, np.arange(2), [2], {}, {label: own})


GRID = [{"learning_rate": rate, "momentum": momentum} for rate, momentum in itertools.product(RATES, MOMENTA)]


def panel_of(result):
    return heatmap_figure(result).axes[0]


def patches(axes, color):
    """Where rectangles of a colour are, by the centres of the trials."""
    return [
        (patch.get_x() + 0.5, patch.get_y() + 0.5)
        for patch in axes.patches
        if isinstance(patch, Rectangle) and color in (to_hex(patch.get_edgecolor()), to_hex(patch.get_facecolor()))
    ]


def test_the_axes_are_the_hyperparameters_and_their_ticks_the_values():
    axes = panel_of(result_of(GRID, [3, 2, 1, 4, 5, 6]))
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("learning_rate", "momentum", "momentum")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.01", "0.1", "1"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0", "0.9"]


def test_each_place_has_the_loss_of_its_trial_and_the_best_is_framed():
    axes = panel_of(result_of(GRID, [3, 2, 1, 4, 5, 6]))
    (mesh,) = (c for c in axes.collections if type(c).__name__ == "QuadMesh")
    assert mesh.get_array().tolist() == [[3, 1, 5], [2, 4, 6]]
    assert patches(axes, BEST) == [(1, 0)]


def test_the_colour_bar_says_what_and_in_what_unit():
    figure = heatmap_figure(result_of(GRID, [3, 2, 1, 4, 5, 6], seeds=3))
    assert figure.axes[-1].get_ylabel() == "Final training loss (nats, median of 3 seeds)"


def test_failed_trials_are_hatched_and_grey():
    axes = panel_of(result_of(GRID, [3, 2, 1, 4, 5, 6], failed={2, 5}))
    assert patches(axes, "#dddddd") == [(1, 0), (2, 1)]
    # Not the lowest number, but the lowest of a run that did not fail.
    assert patches(axes, BEST) == [(0, 1)]


def test_lines_join_places_of_the_same_effective_learning_rate():
    axes = panel_of(result_of(GRID, [3, 2, 1, 4, 5, 6]))
    # From 0.01 at momentum 0 to 10 at learning rate 1 and momentum 0.9: a decade apart.
    assert {"0.1", "1"} <= {text.get_text() for text in axes.texts}
    sgd_only = [{"learning_rate": rate} for rate in RATES]
    assert len(panel_of(result_of(sgd_only, [3, 2, 1])).texts) == 0


def test_the_trials_of_a_search_are_points_where_they_are():
    trials = [{"learning_rate": 10.0**-i, "momentum": 0.1 * i} for i in range(6)]
    axes = panel_of(result_of(trials, [6, 5, 4, 1, 2, 3], failed={0}))
    assert axes.get_xscale() == "log"
    points = np.concatenate([c.get_offsets() for c in axes.collections if len(c.get_offsets())])
    for trial in trials:
        assert np.isclose(points, [[trial["learning_rate"], trial["momentum"]]]).all(axis=1).any()


@pytest.mark.parametrize(
    "trials", [GRID, [{"learning_rate": 10.0**-i, "momentum": 0.1 * i} for i in range(6)]], ids=["grid", "search"]
)
def test_trials_that_are_not_finished_are_not_shown_as_failed(trials):
    result = result_of(trials, [3, 2, 1, 4, 5, 6])
    result.missing["momentum"][1:] = True
    axes = panel_of(result)
    assert patches(axes, "#dddddd") == []
    points = [c for c in axes.collections if len(c.get_offsets()) and len(c.get_facecolor())]
    assert all(to_hex(color) != "#dddddd" for c in points for color in c.get_facecolor())
    result.missing["momentum"][:] = True
    assert [text.get_text() for text in panel_of(result).texts] == ["no run is finished"]


def test_the_legend_tells_of_lines_only_where_there_are_some():
    def entries(trials, losses):
        (legend,) = heatmap_figure(result_of(trials, losses)).legends
        return [text.get_text() for text in legend.get_texts()]

    assert "same lr/(1 − momentum)" in entries(GRID, [3, 2, 1, 4, 5, 6])
    assert "same lr/(1 − momentum)" not in entries([{"learning_rate": rate} for rate in RATES], [3, 2, 1])


def test_of_more_than_two_hyperparameters_a_place_shows_the_best():
    trials = [{**trial, "dampening": dampening} for trial in GRID for dampening in (0.0, 0.5)]
    axes = panel_of(result_of(trials, [3, 9, 2, 9, 9, 1, 4, 9, 5, 9, 6, 9]))
    (mesh,) = (c for c in axes.collections if type(c).__name__ == "QuadMesh")
    assert mesh.get_array().tolist() == [[3, 1, 5], [2, 4, 6]]


@pytest.mark.parametrize(
    ("trials", "losses", "failed"),
    [
        ([{"learning_rate": 0.1}], [1], ()),
        ([{"learning_rate": rate} for rate in RATES], [3, 2, 1], ()),
        (GRID, [1] * 6, ()),
        (GRID, [1] * 6, range(6)),
        (GRID, [0] * 6, ()),
        ([{"learning_rate": 0.1, "convention": c} for c in ("inside", "outside")], [1, 2], ()),
    ],
    ids=["one trial", "one axis", "all equal", "all failed", "all zero", "words"],
)
def test_there_is_a_figure_whatever_came_of_the_sweep(trials, losses, failed, tmp_path):
    heatmap_figure(result_of(trials, losses, failed)).savefig(tmp_path / "figure.png")


def test_a_label_with_a_dollar_sign_is_no_formula(tmp_path):
    figure = heatmap_figure(result_of(GRID, [3, 2, 1, 4, 5, 6], label=r"$\x$"))
    figure.savefig(tmp_path / "figure.svg")
    assert figure.axes[0].get_title() == r"$\x$"

"""Heatmaps of sweeps, from results made by hand."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

import momentum_jax as mj
from momentum_jax.report import heatmap_figure
from momentum_jax.report.document import sweep_document
from momentum_jax.report.heatmaps import draw_heatmap
from momentum_jax.results.record import Record
from momentum_jax.space import Trial
from tests.results.made import NATS, from_records

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
    return from_records(cfg, {label: runs}, np.arange(2), [2], NATS, {label: own})


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
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("learning rate", "momentum", "momentum")
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


def guides_of(axes):
    """The lines of equal effective learning rates, by that rate."""
    lines = [line.get_xydata() for line in axes.lines if line.get_color() == "white"]
    return dict(zip([float(text.get_text()) for text in axes.texts], lines, strict=True))


def test_lines_join_the_squares_of_a_grid_whose_effective_learning_rates_are_equal_and_have_no_kinks():
    momenta = [0.0, 0.5, 0.9, 0.99]
    grid = [{"learning_rate": rate, "momentum": momentum} for rate in RATES for momentum in momenta]
    guides = guides_of(panel_of(result_of(grid, range(12))))
    # From 0.01 at momentum 0 to 100 at learning rate 1 and momentum 0.99, a decade apart; the corners are points.
    assert list(guides) == [0.1, 1, 10]
    # The square of 0.1 and momentum 0.9 is at 1 from the left and 2 from below, and so on.
    for effective, squares in {0.1: [(0, 2), (1, 0)], 1: [(0, 3), (1, 2), (2, 0)], 10: [(1, 3), (2, 2)]}.items():
        for square in squares:
            # A line has some hundred points over at most 3 rows.
            assert np.abs(guides[effective] - square).max(axis=1).min() < 0.02
        steps = np.diff(guides[effective], axis=0)
        turns = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
        # Straight lines from row to row turn by 0.2 rad and more at a row.
        assert np.abs(turns).max() < 0.05
    sgd_only = [{"learning_rate": rate} for rate in RATES]
    assert len(panel_of(result_of(sgd_only, [3, 2, 1])).texts) == 0


def test_lines_among_the_points_of_a_search_are_the_equation_itself_on_a_linear_axis_of_momentum():
    trials = [{"learning_rate": 10.0**-i, "momentum": 0.02 + 0.19 * i} for i in range(6)]
    axes = panel_of(result_of(trials, range(6)))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    for effective, line in guides_of(axes).items():
        np.testing.assert_allclose(line[:, 0] / (1 - line[:, 1]), effective, rtol=1e-9)


def test_the_legend_of_the_lines_is_the_dashed_line_on_black_that_is_drawn():
    (legend,) = heatmap_figure(result_of(GRID, [3, 2, 1, 4, 5, 6])).legends
    lines = [(line.get_color(), line.is_dashed()) for line in legend.findobj(Line2D)]
    assert lines[-2:] == [("black", False), ("white", True)]


def test_of_two_hundred_optimizers_a_dozen_are_drawn_and_the_figure_says_so():
    labels = [f"{i}{'x' * 5000}" for i in range(200)]
    optimizers = {label: mj.OptimizerConfig("momentum", learning_rate=0.01) for label in labels}
    cfg = mj.Config(iterations=2, optimizers=optimizers)
    own = tuple(Trial(mj.OptimizerConfig("momentum", **trial), 128) for trial in GRID[:2])
    runs = {label: [[record(1)], [record(2)]] for label in labels}
    figure = heatmap_figure(from_records(cfg, runs, np.arange(2), [2], {}, dict.fromkeys(labels, own)))
    # Twelve panels and the colour bar.
    assert len(figure.axes) == 13
    assert figure.get_suptitle() == "The first 12 of 200 optimizers"
    assert max(len(axes.get_title()) for axes in figure.axes) < 40


def test_the_trials_of_a_search_are_points_where_they_are():
    trials = [{"learning_rate": 10.0**-i, "momentum": 0.1 * i} for i in range(6)]
    axes = panel_of(result_of(trials, [6, 5, 4, 1, 2, 3], failed={0}))
    assert axes.get_xscale() == "log"
    points = np.concatenate([c.get_offsets() for c in axes.collections if len(c.get_offsets())])
    for trial in trials:
        assert np.isclose(points, [[trial["learning_rate"], trial["momentum"]]]).all(axis=1).any()


def test_the_page_has_the_same_names_and_scales_of_the_axes():
    peaks = [
        {"learning_rate": mj.Schedule("warmup_cosine", peak_value=10.0**-i, warmup_steps=i, decay_steps=9)}
        for i in range(3)
    ]
    # These rates span a factor of 15.
    rates = [{"learning_rate": 0.01 * 15 ** (i / 3), "momentum": 0.01 * 15 ** (i / 3)} for i in range(4)]
    for trials in (rates, peaks):
        result = result_of(trials, range(len(trials)))
        axes, (shown,) = panel_of(result), sweep_document(result, "")["heatmaps"]
        assert (axes.get_xlabel(), axes.get_ylabel()) == (shown["x"]["name"], shown["y"]["name"])
        assert [axes.get_xscale() == "log", axes.get_yscale() == "log"] == [shown["x"]["log"], shown["y"]["log"]]


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


def test_the_legend_has_no_entry_for_failed_runs_where_none_failed():
    def entries(failed):
        figure = heatmap_figure(result_of(GRID, [3, 2, 1, 4, 5, 6], failed))
        axes = Figure().add_subplot()
        draw_heatmap(axes, result_of(GRID, [3, 2, 1, 4, 5, 6], failed), "momentum")
        own = [[text.get_text() for text in legend.get_texts()] for legend in (*figure.legends, axes.get_legend())]
        assert own[0] == own[1]
        return own[0]

    assert "runs failed (grey: most)" in entries([5])
    assert entries([]) == ["best", "same lr/(1 − momentum)"]


def test_the_colour_bar_of_one_loss_has_its_number():
    # Of trials that failed and one that did not, and of equal losses.
    for losses, failed in (([0.25, 1.0, 1.0, 1.0, 1.0, 1.0], range(1, 6)), ([0.25] * 6, ())):
        figure = heatmap_figure(result_of(GRID, losses, failed))
        figure.draw_without_rendering()
        bar = figure.axes[-1]
        assert [text.get_text() for text in bar.get_yticklabels()] == ["0.25"]
        assert bar.yaxis.get_offset_text().get_text() == ""

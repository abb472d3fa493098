"""The figure of the losses, from results made by hand."""

import dataclasses
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

import momentum_jax as mj
from momentum_jax.analysis import smooth_curve
from momentum_jax.report import losses_figure, save_figure

# From Okabe and Ito, Color Universal Design, 2008.
from tests.results.made import NATS

OKABE_ITO = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}


def result_of(losses):
    """A result with these losses by label, arrays [seeds, iterations], and nothing else of interest."""
    seeds, iterations = next(iter(losses.values())).shape
    return mj.Result(
        config=mj.Config(
            seeds=seeds,
            iterations=iterations,
            optimizers={label: mj.OptimizerConfig("sgd", learning_rate=0.01) for label in losses},
        ),
        iterations=np.arange(iterations),
        losses_after=losses,
        losses_before=losses,
        metrics={},
        evaluation_iterations=np.array([iterations]),
        evaluations={},
        failed={label: np.zeros(seeds, bool) for label in losses},
        diverged_at={label: np.full(seeds, -1) for label in losses},
        params={},
        provenance=NATS,
    )


def falling(labels=("sgd", "momentum"), seeds=1, iterations=500):
    rng = np.random.default_rng(0)
    curve = np.exp(-np.arange(iterations) / 100)
    return {label: curve + 0.1 * rng.random((seeds, iterations)) for label in labels}


def axes_of(losses):
    (axes,) = losses_figure(result_of(losses)).axes
    return axes


def test_the_axes_say_what_they_show_and_in_what_unit():
    axes = axes_of(falling())
    assert axes.get_xlabel() == "Iterations (parameter updates)"
    assert "Loss on the batch" in axes.get_ylabel()
    assert "nats" in axes.get_ylabel()
    assert axes.get_ylim() == (0, 1)
    assert axes.get_xlim() == (0, 499)
    assert axes.get_title() == "sgd, momentum on mnist"
    own = dataclasses.replace(result_of(falling()), provenance={"functions": {"loss": "mine:loss"}})
    assert losses_figure(own).axes[0].get_ylabel() == "Loss on the batch just used (smoothed)"


def test_every_optimizer_has_one_line_in_the_order_and_under_the_name_of_its_label():
    labels = ["sgd", "momentum", "optax"]
    axes = axes_of(falling(labels))
    assert [line.get_label() for line in axes.lines] == labels
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels


def test_a_line_is_the_median_of_the_smoothed_curves():
    losses = falling(seeds=5)
    for line, runs in zip(axes_of(losses).lines, losses.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(500))
        # The same numbers in another order of summation.
        median = sorted(smooth_curve(run)[250] for run in runs)[2]
        assert line.get_ydata()[250] == pytest.approx(median, abs=1e-12)


def test_markers_stand_every_100_iterations_and_differ_between_lines_in_place_and_shape():
    lines = axes_of(falling(["a", "b", "c"])).lines
    starts, steps = zip(*(line.get_markevery() for line in lines), strict=True)
    assert starts == (0, 33, 66)
    assert steps == (100, 100, 100)
    assert len({line.get_marker() for line in lines}) == 3


def test_a_band_is_drawn_for_several_seeds_only_and_holds_the_middle_80_percent():
    losses = falling(seeds=11)
    axes = axes_of(losses)
    assert len(axes.collections) == 2
    assert "11 seeds" in axes.get_title()
    # Of 11 ordered values the 10th and 90th percentiles are the second and the tenth.
    ordered = sorted(smooth_curve(run)[250] for run in losses["sgd"])
    (path,) = axes.collections[0].get_paths()
    at_250 = path.vertices[path.vertices[:, 0] == 250][:, 1]
    assert [at_250.min(), at_250.max()] == pytest.approx([ordered[1], ordered[9]], abs=1e-12)
    assert len(axes_of(falling(seeds=1)).collections) == 0


def test_colours_differ_and_are_those_of_okabe_and_ito():
    colors = [to_hex(line.get_color()) for line in axes_of(falling("abcdefg")).lines]
    assert len(set(colors)) == 7
    assert set(colors) <= OKABE_ITO


def test_a_band_has_the_colour_of_its_line():
    axes = axes_of(falling(seeds=3))
    for line, band in zip(axes.lines, axes.collections, strict=True):
        assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color())


def test_more_optimizers_than_styles_still_have_a_line_each():
    assert len(axes_of(falling("abcdefghi")).lines) == 9


DIVERGED = [(seeds, bad) for seeds in (1, 2, 3) for bad in (np.inf, np.nan, -np.inf)]
REPRESENTATIVE = DIVERGED[0], DIVERGED[7]


# Warnings are errors in these tests.
@pytest.mark.parametrize(
    ("seeds", "bad"),
    [pytest.param(*c, marks=[] if c in REPRESENTATIVE else pytest.mark.exhaustive) for c in DIVERGED],
)
def test_diverged_runs_are_drawn_without_a_warning(bad, seeds, tmp_path):
    losses = falling(seeds=seeds)
    losses["sgd"][0, 200:] = bad
    losses["momentum"][:, :] = bad
    figure = losses_figure(result_of(losses))
    save_figure(figure, tmp_path / "losses")
    sgd = figure.axes[0].lines[0].get_ydata()
    assert np.isfinite(sgd[:195]).all()
    if seeds == 1:
        assert not np.isfinite(sgd[195:]).any()


@pytest.mark.parametrize("iterations", [1, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (2, 10, 11))])
def test_runs_of_few_iterations_are_drawn(iterations, tmp_path):
    save_figure(losses_figure(result_of(falling(iterations=iterations))), tmp_path / "losses")


def test_labels_are_shown_as_they_are_written(tmp_path):
    labels = ["a_b", "x^2", r"$\x$", "$5", "_hidden", "<&>", "η=0.1"]
    figure = losses_figure(result_of(falling(labels)))
    save_figure(figure, tmp_path / "losses")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == labels
    text = (tmp_path / "losses.svg").read_text()
    for label in labels:
        assert f">{label.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}<" in text


def test_figures_are_left_out_of_pyplot_which_would_keep_them():
    losses_figure(result_of(falling()))
    assert plt.get_fignums() == []


def test_a_figure_is_saved_as_png_and_svg_in_the_same_bytes_every_time(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths = save_figure(losses_figure(result_of(falling(seeds=3))), tmp_path / folder / "losses")
        assert paths == [tmp_path / folder / "losses.png", tmp_path / folder / "losses.svg"]
        assert sorted((tmp_path / folder).iterdir()) == paths
    assert paths[0].read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert b"</svg>" in paths[1].read_bytes()
    for path in paths:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_a_dot_in_the_name_of_a_figure_stays(tmp_path):
    paths = save_figure(losses_figure(result_of(falling())), tmp_path / "lr0.1")
    assert [path.name for path in paths] == ["lr0.1.png", "lr0.1.svg"]


def test_a_figure_that_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "losses.png").write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("momentum_jax._base.files.os.fsync", full)
    with pytest.raises(mj.InputError, match=r"cannot write '.*losses\.png': No space left on device"):
        save_figure(losses_figure(result_of(falling())), tmp_path / "losses")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("losses.png", b"old")]


def test_the_start_that_the_range_cuts_is_shown_in_an_inset_where_no_curve_is_in_its_way():
    steps = np.arange(2000)
    losses = {"sgd": 2.4 * np.exp(-steps[None] / 100), "momentum": 2.4 * np.exp(-steps[None] / 20)}
    axes = axes_of(losses)
    (inset,) = axes.child_axes
    low, high = inset.get_ylim()
    assert low == 0
    assert high > 2.3
    # SGD crosses 1 at 100 · ln 2.4 = 88.
    assert 88 < inset.get_xlim()[1] < 130
    for line, shown in zip(axes.lines, inset.lines, strict=False):
        np.testing.assert_array_equal(shown.get_ydata(), line.get_ydata())
    assert "cut off" not in axes.get_ylabel()


@pytest.mark.parametrize(
    "losses",
    [
        {"slow": 2.4 * np.exp(-np.arange(500)[None] / 300)},
        {"a label that is wide": 2.4 * np.exp(-np.arange(500)[None] / 20)},
    ],
    ids=["a curve in the way", "a legend in the way"],
)
def test_a_start_that_is_cut_and_has_no_inset_is_told_on_the_axis(losses):
    axes = axes_of(losses)
    assert axes.child_axes == []
    # Smoothing takes up to a tenth from the 2.4 at the start.
    assert re.search(r"cut off at 1; the curves come from 2\.[1-4]", axes.get_ylabel())


def test_a_logarithmic_axis_has_the_whole_range():
    losses = {"sgd": 2.4 * np.exp(-np.arange(500)[None] / 100)}
    (axes,) = losses_figure(result_of(losses), log=True).axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert low < axes.lines[0].get_ydata().min() < axes.lines[0].get_ydata().max() < high


def test_runs_that_failed_are_told_in_the_legend_and_the_end_of_a_curve_is_marked():
    losses = falling(seeds=3)
    losses["sgd"][:2, 200:] = np.inf
    result = result_of(losses)
    result.failed["sgd"][:2] = True
    (axes,) = losses_figure(result).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["sgd (2 of 3 failed)", "momentum"]
    (cross,) = (line for line in axes.lines if line.get_marker() == "x")
    # The window of the smoothing reaches five iterations ahead.
    assert cross.get_xdata() == [194]
    assert [text.get_text() for text in axes.texts] == ["failed"]


def test_where_no_loss_is_finite_the_figure_says_so():
    (axes,) = losses_figure(result_of({"sgd": np.full([2, 50], np.nan)})).axes
    assert [text.get_text() for text in axes.texts] == ["No loss is finite: the runs failed at once"]


def test_labels_of_thousands_of_letters_are_shortened_and_hundreds_of_them_counted():
    losses = falling([f"{i}{'x' * 5000}" for i in range(200)], iterations=20)
    (axes,) = losses_figure(result_of(losses)).axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(texts) == 17
    assert texts[-1] == "and 184 more"
    assert max(map(len, texts)) <= 40
    assert axes.get_title() == "200 optimizers on mnist"


def test_a_curve_that_stays_above_one_is_drawn_all_the_same():
    losses = {"slow": np.full([1, 50], 2.2, np.float32), "fast": np.full([1, 50], 0.5, np.float32)}
    assert axes_of(losses).get_ylim() == (0, pytest.approx(2.42))

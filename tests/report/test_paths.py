"""Figures of paths over landscapes."""

import io
import itertools

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from momentum_jax.report import animate_paths, draw_contours, paths_figure
from momentum_jax.tasks.landscapes import make_landscape
from momentum_jax.trajectories import Trajectory


def path(points, values=None, *, diverged=False):
    points = jnp.asarray(points)
    values = jnp.ones(len(points)) if values is None else jnp.asarray(values)
    return Trajectory(points, values, jnp.zeros_like(points), jnp.asarray(diverged))


def drawn(landscape, shown):
    axes = Figure().add_subplot()
    draw_contours(axes, make_landscape(landscape), [shown])
    (line,) = (line for line in axes.lines if line.get_gid() == "path")
    return line.get_xydata()


def test_a_path_that_diverged_is_drawn_to_where_it_leaves_the_window_for_good():
    # The window is |x| ≤ 10, |y| ≤ 5; from (8, 0) towards (16, 8) the edge x = 10 comes first.
    points = [[0.0, 0.0], [20.0, 0.0], [8.0, 0.0], [16.0, 8.0], [1e30, -1e30]]
    np.testing.assert_allclose(drawn("valley", path(points, diverged=True)), [*points[:3], [10, 2]])


def test_what_is_not_finite_ends_a_path_that_diverged_and_a_start_outside_leaves_nothing_to_draw():
    points = [[0.0, 0.0], [1.0, 1.0], [jnp.nan, jnp.inf]]
    np.testing.assert_array_equal(drawn("valley", path(points, diverged=True)), points[:2])
    assert len(drawn("valley", path([[11.0, 0.0], [99.0, 0.0]], diverged=True))) == 0


def test_a_path_that_comes_back_is_drawn_whole():
    points = [[0.0, 0.0], [20.0, 0.0], [8.0, 0.0]]
    np.testing.assert_array_equal(drawn("valley", path(points)), points)


@pytest.mark.parametrize(("landscape", "n"), [("lessard", 1), ("monkey_saddle", 2), ("chain", 50)])
def test_axes_are_named_in_any_number_of_dimensions_and_labels_are_shown_as_they_are(landscape, n):
    figure = paths_figure(make_landscape(landscape), {"_a$b": path(np.zeros([3, n]), diverged=True)})
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_a$b (diverged)"]


def test_paths_that_begin_at_height_0_of_a_saddle_or_at_a_minimum_are_drawn_without_a_warning():
    start = [[0.0, 0.0], [0.1, 0.2]]
    for landscape in ("monkey_saddle", "valley"):
        figure = paths_figure(make_landscape(landscape), {"a": path(start, [0.0, -0.1])})
        low, high = figure.axes[1].get_ylim()
        assert low < high


def test_an_animation_has_a_frame_for_each_iteration_the_last_of_the_whole_path():
    gif = PIL.Image.open(io.BytesIO(animate_paths(make_landscape("valley"), {"a": path([[-7.0, 2], [0, 1], [1, 0]])})))
    assert gif.n_frames == 3
    frames = []
    for i in range(3):
        gif.seek(i)
        frames.append(np.asarray(gif.convert("RGB")))
    assert all((one != other).any() for one, other in itertools.pairwise(frames))

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
from momentum_jax.training.trajectories import Trajectory


def path(points, values=None, *, diverged=False):
    points = jnp.asarray(points)
    values = jnp.ones(len(points)) if values is None else jnp.asarray(values)
    return Trajectory(points, values, jnp.zeros_like(points), jnp.asarray(diverged))


def contours(landscape, shown):
    axes = Figure().add_subplot()
    draw_contours(axes, make_landscape(landscape), [shown])
    return axes


def line_of(axes):
    (line,) = (line for line in axes.lines if line.get_gid() == "path")
    return line.get_xydata()


def drawn(landscape, shown):
    return line_of(contours(landscape, shown))


def test_a_path_that_diverged_is_drawn_to_where_it_leaves_the_window_for_good():
    # The window is |x| ≤ 10, |y| ≤ 5; from (8, 0) towards (16, 8) the edge x = 10 comes first.
    points = [[0.0, 0.0], [20.0, 0.0], [8.0, 0.0], [16.0, 8.0], [1e30, -1e30]]
    np.testing.assert_allclose(drawn("valley", path(points, diverged=True)), [*points[:3], [10, 2]])


def test_a_path_that_leaves_by_the_lower_edges_is_drawn_to_them():
    points = [[0.0, 0.0], [-8.0, 0.0], [-16.0, -8.0]]
    np.testing.assert_allclose(drawn("valley", path(points, diverged=True)), [*points[:2], [-10, -2]])


def test_a_contour_lies_where_the_function_has_its_value_and_a_star_at_each_minimum():
    axes = contours("valley", path([[0.0, 0.0]]))
    (lines,) = (shown for shown in axes.collections if not shown.filled)
    for level, shown in zip(lines.levels, lines.get_paths(), strict=True):
        x, y = shown.vertices.T
        # Straight between the points of the grid, 0.1 and 0.05 apart: h²/8 of curvatures of 0.1 and 2.
        np.testing.assert_allclose(x**2 / 20 + y**2, level, rtol=0, atol=1e-3)
    axes = contours("beale", path([[0.0, 0.0]]))
    stars = [line.get_xydata() for line in axes.lines if line.get_marker() == "*" and line.get_gid() is None]
    np.testing.assert_array_equal(stars, [[[3, 0.5]]])


def test_in_one_dimension_a_path_lies_on_the_graph():
    axes = paths_figure(make_landscape("lessard"), {"a": path([[3.0], [0.5], [-1.0]])}).axes[0]
    # 25x²/2 − 24x + 36 from 2 on, 25x²/2 below 1: exact.
    np.testing.assert_array_equal(line_of(axes), [[3, 76.5], [0.5, 3.125], [-1, 12.5]])


def test_in_many_dimensions_the_distance_is_that_to_the_nearest_minimum_or_to_the_origin():
    points = [[0.25, 0.0, 0.0], [0.0, 0.5, 0.0]]
    for name, parameters in (("rastrigin", {"dimensions": 3}), ("quadratic", {"curvatures": (1.0, 1.0, -1.0)})):
        axes = paths_figure(make_landscape(name, **parameters), {"a": path(points)}).axes[0]
        distances = line_of(axes)[:, 1]
        # Rastrigin's minima are half a percent nearer than the whole numbers, and the other one is as far away.
        np.testing.assert_allclose(distances, [0.25, 0.5], rtol=0.02)


def test_heights_are_above_the_lowest_minimum_which_need_not_be_at_0():
    axes = paths_figure(make_landscape("double_well"), {"a": path([[2.0, 1.0], [1.0, 0.0]], [3.0, 1.0])}).axes[1]
    # f = (x² − 1)² + 0.3x has its minimum −0.3054 at −1.0354; four digits.
    np.testing.assert_allclose(line_of(axes)[:, 1], [3.3054, 1.3054], rtol=1e-4)


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


@pytest.mark.parametrize(
    ("landscape", "parameters", "points"),
    [
        ("rosenbrock", {}, [[1e15, 1e15], [1e30, 1e30]]),
        ("quadratic", {"curvatures": (0.0, 0.0)}, [[1.0, 1.0], [1.0, 1.0]]),
    ],
    ids=["higher than can be drawn", "a plain"],
)
def test_where_heights_are_none_that_can_be_drawn_a_figure_is_drawn(landscape, parameters, points):
    landscape = make_landscape(landscape, **parameters)
    values = [float(landscape.function(jnp.array(point))) for point in points]
    paths_figure(landscape, {"a": path(points, values, diverged=True)}).draw_without_rendering()


def test_where_nothing_is_above_the_minimum_heights_are_drawn_on_a_plain_axis():
    heights = paths_figure(make_landscape("valley"), {"a": path([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0])}).axes[1]
    assert heights.get_yscale() == "linear"
    np.testing.assert_array_equal(line_of(heights)[:, 1], [0, 0])


def test_ticks_within_a_decade_are_numbers_and_not_their_markup():
    figure = paths_figure(make_landscape("rastrigin"), {"a": path([[3.0, 0.0], [3.0, 0.0]], [40.0, 20.0])})
    figure.draw_without_rendering()
    ticks = [text for text in figure.axes[1].get_yticklabels(which="both") if "math" in text.get_text()]
    assert ticks
    assert all(text.get_parse_math() for text in ticks)


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
        # Milliseconds: the whole path stays.
        assert gif.info["duration"] == (3000 if i == 2 else 150)
        frames.append(np.asarray(gif.convert("RGB")))
    assert all((one != other).any() for one, other in itertools.pairwise(frames))

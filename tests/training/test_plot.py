"""`Trajectory.plot`: what is drawn in one, two and many dimensions, with a landscape and without."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import momentum_jax as mj
from momentum_jax.tasks.landscapes import make_landscape


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def trajectory(points, *, diverged=False):
    points = np.asarray(points, float)
    leading = points.shape[:-2]
    return mj.Trajectory(points, np.ones(points.shape[:-1]), np.zeros_like(points), np.full(leading, diverged))


def paths_of(axes):
    return [line.get_xydata().tolist() for line in axes.lines if line.get_gid() == "path"]


def names_in(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


PLANE = [[-7.0, 2.0], [0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("landscape", ["valley", make_landscape("valley")], ids=["name", "landscape"])
def test_a_path_lies_over_the_contours_of_a_landscape(landscape):
    axes = trajectory(PLANE).plot(landscape)
    assert plt.gca() is axes
    assert paths_of(axes) == [PLANE]
    assert len(axes.collections) == 2
    assert axes.get_legend() is None


def test_without_a_landscape_two_dimensions_are_a_plane_and_others_coordinates_against_iterations():
    axes = Figure().add_subplot()
    assert trajectory(PLANE).plot(ax=axes) is axes
    assert paths_of(axes) == [PLANE]
    assert plt.get_fignums() == []
    axes = trajectory([[3.0], [0.5]]).plot()
    assert (paths_of(axes), axes.get_ylabel()) == ([[[0, 3], [1, 0.5]]], "Position")
    axes = trajectory([np.arange(50), np.arange(50) + 1]).plot()
    assert paths_of(axes) == [[[0, i], [1, i + 1]] for i in range(6)]
    assert axes.get_title() == "The first 6 of 50 coordinates"


def test_several_paths_have_their_index_or_a_label_and_what_diverged_says_so():
    both = trajectory([[PLANE, PLANE]], diverged=True)
    assert names_in(both.plot("valley")) == ["[0, 0] (diverged)", "[0, 1] (diverged)"]
    axes = both.plot(labels=["a", r"$\x$"])
    assert names_in(axes) == ["a (diverged)", r"$\x$ (diverged)"]
    # Fails for a formula that is none.
    axes.figure.draw_without_rendering()


def test_of_thousands_of_paths_a_hundred_are_drawn_and_the_title_says_so():
    axes = trajectory(np.zeros([4000, 2, 2])).plot("valley")
    assert len(paths_of(axes)) == 100
    assert axes.get_title() == "100 of 4,000 paths"


def test_without_a_landscape_a_path_that_diverged_is_drawn_as_far_as_ten_times_its_start():
    axes = trajectory([[1.0, 1.0], [5.0, 5.0], [1e30, 1.0], [np.nan, np.inf]], diverged=True).plot()
    np.testing.assert_array_equal(paths_of(axes), [[[1, 1], [5, 5], [np.nan, np.nan], [np.nan, np.nan]]])


def test_what_does_not_fit_the_paths_is_refused():
    path = trajectory(PLANE)
    for arguments, message in [
        ({"landscape": "vally"}, "valley"),
        ({"landscape": "lessard"}, "landscape lessard has 1 dimensions and the path has 2"),
        ({"landscape": 3}, "landscape must be a Landscape, its name or None, not 3"),
        ({"labels": ["a", "b"]}, "labels must be a list of one text for each of 1 paths"),
        ({"ax": 3}, "ax must be a matplotlib Axes"),
    ]:
        with pytest.raises(mj.InputError, match=message):
            path.plot(**arguments)

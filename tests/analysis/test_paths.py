"""Measures of a path: on paths made by hand, on drawn ones whose measures must agree, and on those of optimizers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_jax.analysis import descent_cosines, energy, nearest_minimum, overshoot, path_length, zigzag

EPS = np.finfo(float).eps
seeds = st.integers(0, 2**32 - 1)


def draw_paths(seed, dimensions=3):
    """Two paths of 20 points."""
    return np.random.default_rng(seed).normal(size=(2, 20, dimensions))


def heavy_ball(alpha, beta, curvatures, start, iterations):
    """Values of ½·Σλw² and points."""
    w, v, points = np.array(start), np.zeros(len(start)), []
    for _ in range(iterations + 1):
        points.append(w)
        v = beta * v - alpha * np.array(curvatures) * w
        w = w + v
    points = np.array(points)
    return points**2 @ curvatures / 2, points


def test_the_length_of_a_path_is_that_of_its_steps():
    path = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [-2.0, -8.0]])
    assert path_length(path) == 5 + 0 + 13
    assert path_length(path[:1]) == 0
    np.testing.assert_array_equal(path_length(np.stack([path, -2 * path])[None]), [[18, 36]])


@given(seeds)
def test_turned_shifted_and_scaled_paths_have_the_same_turns_and_lengths_that_scale(seed):
    path = draw_paths(seed)
    axes, _ = np.linalg.qr(draw_paths(seed)[0, :3])
    moved = 1e6 * (path @ axes + [1.0, -2.0, 0.5])
    # Sums of 19 terms, whose differences have lost a digit or two to the shift; two steps all but opposite make it the
    # square root of that, which random ones are not.
    np.testing.assert_allclose(path_length(moved), 1e6 * path_length(path), rtol=1e-12)
    np.testing.assert_allclose(zigzag(moved), zigzag(path), rtol=1e-9)
    # Exact, as powers of 2.
    for power in (40, -40):
        np.testing.assert_array_equal(zigzag(2.0**power * path), zigzag(path))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_only_rounding_moves_does_not_turn(dtype):
    ends = np.full([1000, 2], 3.0, dtype)
    # To the next number and back, for ever.
    ends[::2] = np.nextafter(dtype(3), dtype(4))
    path = np.concatenate([np.array([[0.0, 0.0]], dtype), ends])
    assert zigzag(path) == 0
    # Steps of twice ten roundings do.
    path[1::2] += 20 * np.finfo(dtype).eps
    assert zigzag(path) > 900 * np.pi


@pytest.mark.parametrize("corners", [3, 4, 100])
def test_a_regular_polygon_turns_by_its_exterior_angles(corners):
    angles = 2 * np.pi * np.arange(corners + 1) / corners
    polygon = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    # As many sides as corners, between which the path turns one time less.
    np.testing.assert_allclose(zigzag(polygon), (corners - 1) * 2 * np.pi / corners, rtol=1e-12)
    np.testing.assert_allclose(path_length(polygon), 2 * corners * np.sin(np.pi / corners), rtol=1e-12)


def test_a_straight_path_does_not_turn_and_a_step_back_turns_by_pi_to_the_last_digit():
    direction = np.array([0.1, 0.7, -0.3])
    straight = np.cumsum(np.random.default_rng(0).uniform(0.1, 1, 50))[:, None] * direction
    # Directions are rounded, and the angle is exact near 0 (an arc cosine would be off by √EPS = 1.5e-8).
    assert zigzag(straight) < 50 * 40 * EPS
    there_and_back = np.array([0.0, 1.0, 0.0, 0.0, 1.0, 0.5])[:, None] * direction
    np.testing.assert_allclose(zigzag(there_and_back), 3 * np.pi, rtol=4 * EPS)
    assert zigzag(straight[:1]) == zigzag(straight[:2]) == zigzag(np.ones([5, 2])) == 0


def test_overshoot_is_how_far_beyond_the_minimum_as_a_fraction_of_the_way_there():
    minimum = np.array([1.0, 1.0])
    for far, fraction in ((0.0, 0.0), (1.5, 1.5), (-0.5, 0.0)):
        path = np.array([[-1.0, 1.0], [1.0 + 2 * far, 7.0], [-0.5, 1.0]])
        assert overshoot(path, minimum) == fraction
    # Whose start is on the other side, of several with a minimum each.
    paths = np.array([[[0.0], [3.0]], [[6.0], [2.0]]])
    np.testing.assert_array_equal(overshoot(paths, np.array([[2.0], [4.0]])), [0.5, 1.0])


@given(seeds)
def test_overshoot_is_at_least_0_and_the_same_for_turned_shifted_and_scaled_paths(seed):
    paths = draw_paths(seed)
    axes, _ = np.linalg.qr(draw_paths(seed)[0, :3])
    minimum = np.array([0.3, 0.2, 0.1])
    moved = [100 * (w @ axes + [1.0, -2.0, 0.5]) for w in (paths, minimum)]
    assert (overshoot(paths, minimum) >= 0).all()
    np.testing.assert_allclose(overshoot(*moved), overshoot(paths, minimum), rtol=1e-9, atol=1e-12)


def test_the_cosines_of_a_path_by_hand():
    path = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 3.0], [5.0, 3.0], [6.0, 4.0], [6.0, 4.0], [7.0, 4.0]])
    gradients = np.array([[-9.0, 0.0], [5.0, 0.0], [1.0, 0.0], [0.0, -2.0], [1.0, 1.0], [0.0, 0.0], [8.0, 8.0]])
    expected = [1, 0, -1, np.sqrt(0.5), np.nan, np.nan]
    np.testing.assert_allclose(descent_cosines(path, gradients), expected, rtol=0, atol=4 * EPS)


def test_gradient_descent_goes_straight_down_and_momentum_does_not():
    curvatures, start = np.array([0.3, 5.0]), [-4.0, 1.0]
    (_, descent), (_, ball) = (heavy_ball(0.1, beta, curvatures, start, 50) for beta in (0.0, 0.9))
    # The steps are differences of points of size 4, down to 0.03.
    np.testing.assert_allclose(descent_cosines(descent, descent * curvatures), 1, rtol=0, atol=1e-12)
    cosines = descent_cosines(ball, ball * curvatures)
    assert cosines[0] == pytest.approx(1, abs=1e-12)
    assert cosines.min() < 0


@given(st.floats(0, 0.99), st.floats(0.01, 1), seeds)
def test_the_energy_never_rises_along_a_heavy_ball_while_no_curvature_exceeds_its_limit(beta, fraction, seed):
    alpha = 0.3
    curvatures = np.random.default_rng(seed).uniform(-1, 1, 3) * fraction * (1 - beta**2) / alpha
    values, points = heavy_ball(alpha, beta, curvatures, draw_paths(seed)[0, 0], 100)
    energies = energy(values, points, alpha)
    # The rounding of its largest terms.
    assert (np.diff(energies) <= 20 * EPS * (np.abs(values) + np.abs(energies)).max()).all()


def test_beyond_that_limit_the_energy_can_rise():
    values, points = heavy_ball(0.3, 0.9, [2 * (1 - 0.81) / 0.3], [1.0], 100)
    assert np.diff(energy(values, points, 0.3)).max() > 0.05 * values[0]


def test_without_friction_the_energy_stays_with_the_learning_rate_in_it_and_not_without():
    alpha, curvature = 1e-4, 1.0
    values, points = heavy_ball(alpha, 1.0, [curvature], [1.0], 2000)
    # Three swings, of 2π/√(αλ) = 628 iterations. The velocity is that of half a step ago: √(αλ)/2 = 0.5 % at most.
    energies = energy(values, points, alpha)
    np.testing.assert_allclose(energies, values[0], rtol=0.0051)
    assert (energies > 1.004 * values[0]).any()
    # ½‖v‖² is 1e-4 of the potential energy at most, so that at the bottom of each swing all but nothing would be left.
    wrong = energy(values, points, 1.0)
    assert wrong.min() < 2e-4 * wrong.max()


@pytest.mark.parametrize(("beta", "rate"), [(0.99, 0.99), (0.9, 0.9), (0.5, 0.9596)])
def test_the_energy_falls_by_the_momentum_an_iteration_while_the_ball_swings_and_no_faster_when_it_creeps(beta, rate):
    values, points = heavy_ball(0.01, beta, [1.0], [1.0], 200)
    energies = energy(values, points, 0.01)
    # Up to a factor of 130 or less that comes and goes with the swings; 0.9596 is the square of the root that is left.
    assert (energies[200] / energies[0]) ** (1 / 200) == pytest.approx(rate, rel=130 ** (1 / 200) - 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_paths_that_overflow_have_measures_that_say_so_and_spoil_no_other(bad):
    paths = draw_paths(0)
    values, gradients = (paths**2).sum(axis=-1), 2 * paths
    spoilt = paths.copy()
    spoilt[1, 7] = bad
    minimum = np.full(3, 9.0)
    for measure in (path_length, zigzag, lambda p: overshoot(p, minimum), lambda p: energy(values, p, 0.1)):
        expected, found = measure(paths), measure(spoilt)
        np.testing.assert_array_equal(found[0], expected[0])
        assert np.isfinite(expected).all()
    assert not np.isfinite(path_length(spoilt)[1])
    cosines = descent_cosines(spoilt, gradients)
    np.testing.assert_array_equal(
        np.delete(cosines, [6, 7], axis=1), np.delete(descent_cosines(paths, gradients), [6, 7], axis=1)
    )


def test_each_of_many_points_has_its_nearest_minimum_and_one_that_overflowed_is_infinitely_far_away():
    minima = np.array([[0.0, 0.0], [3.0, 4.0], [-6.0, 8.0]])
    points = np.array([[[1.0, 0.0], [3.0, 3.0]], [[-6.0, 5.0], [1e200, 0.0]]])
    which, apart = nearest_minimum(points, minima)
    assert which.shape == (2, 2)
    assert which.ravel()[:3].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(apart, [[1, 1], [3, np.inf]])


@pytest.mark.parametrize(
    "measure",
    [
        path_length,
        zigzag,
        lambda points: overshoot(points, np.full(3, np.float32(1e25), points.dtype)),
        lambda points: nearest_minimum(points, np.zeros([1, 3], points.dtype))[1],
        lambda points: descent_cosines(points, points[:, ::-1]),
        lambda points: energy(np.zeros(points.shape[:-1], points.dtype), points, 0.1),
    ],
    ids=["length", "zigzag", "overshoot", "distance", "cosines", "energy"],
)
def test_paths_in_float32_are_measured_in_float64(measure):
    # Whose squares float32 could not hold.
    paths = (1e25 * draw_paths(0)).astype(np.float32)
    expected = measure(paths.astype(np.float64))
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(measure(paths), expected)

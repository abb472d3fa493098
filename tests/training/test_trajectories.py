"""Paths over landscapes against a loop in NumPy, and what is said of those that diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax._base.weak import cached, weak_handle
from momentum_jax.tasks.landscapes import make_landscape
from momentum_jax.training import trajectories
from tests.compilations import compilations
from tests.compiling import jit

EPS = np.finfo(float).eps
ITERATIONS = 60
RULES = {
    "sgd": mj.OptimizerConfig("sgd", learning_rate=2e-4),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=2e-4, momentum=0.9),
    "nesterov": mj.OptimizerConfig("nesterov", learning_rate=2e-4, momentum=0.9),
}
KEY = jax.random.key(7)


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly():
    """What the paths are does not depend on XLA's optimisations, up to rounding."""
    function = trajectories._of_structure
    with pytest.MonkeyPatch.context() as patch:
        quick = cached(lambda landscape: jit(function(landscape).__wrapped__, static_argnums=(0, 1, 2)))
        patch.setattr(trajectories, "_of_structure", quick)
        yield


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def sgd(learning_rate):
    return mj.OptimizerConfig("sgd", learning_rate=learning_rate)


def rosenbrock(w):
    x, y = w
    slope = np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2, slope


def walk(name, w, learning_rate, momentum=0.0):
    """The points, values and gradients of a loop over Rosenbrock's function."""
    v, found = np.zeros(2), []
    for _ in range(ITERATIONS + 1):
        value, gradient = rosenbrock(w)
        found.append((w, value, gradient))
        v = momentum * v - learning_rate * gradient
        w = w + (momentum * v - learning_rate * gradient if name == "nesterov" else v)
    return map(np.array, zip(*found, strict=True))


@pytest.fixture(scope="module")
def found(compiled_quickly):
    """All rules, from two starts."""
    with jax.enable_x64(True):
        return mj.trajectory(list(RULES.values()), "rosenbrock", [[-1.2, 1.0], [0.5, 2.0]], ITERATIONS)


@pytest.mark.parametrize("name", RULES)
def test_a_path_is_that_of_a_loop_over_the_rule(name, found):
    i = list(RULES).index(name)
    for j, start in enumerate([[-1.2, 1.0], [0.5, 2.0]]):
        points, values, gradients = walk(name, np.array(start), **RULES[name].hyperparameters)
        # The loop is contractive but in the valley, along which nothing grows: some rounding of each iteration.
        np.testing.assert_allclose(found.points[i, j], points, rtol=0, atol=ITERATIONS * 20 * EPS)
        # A slope changes a thousand times as fast as a point, a value, where the slope is up to 500, 500 times.
        np.testing.assert_allclose(found.values[i, j], values, rtol=0, atol=500 * ITERATIONS * 20 * EPS)
        np.testing.assert_allclose(found.gradients[i, j], gradients, rtol=0, atol=2000 * ITERATIONS * 20 * EPS)
    assert not found.diverged.any()


def test_optax_sgd_goes_the_same_way_and_mixed_optimizers_come_back_in_the_order_given(found):
    witness = mj.OptimizerConfig("optax.sgd", learning_rate=2e-4, momentum=0.9)
    # Put together by method, their places are 0, 1, 4, 2, 3: no permutation that undoes itself.
    mixed = [RULES["momentum"], sgd(1e-4), witness, RULES["nesterov"], RULES["sgd"]]
    paths = mj.trajectory(mixed, "rosenbrock", [[-1.2, 1.0], [0.5, 2.0]], ITERATIONS)
    for i, name in ((0, "momentum"), (2, "momentum"), (3, "nesterov"), (4, "sgd")):
        expected = found.points[list(RULES).index(name)]
        np.testing.assert_allclose(paths.points[i], expected, rtol=0, atol=ITERATIONS * 20 * EPS)
    first_steps = paths.points[:, :, 1] - paths.points[:, :, 0]
    np.testing.assert_allclose(first_steps[1], first_steps[4] / 2, rtol=1e-12)


def test_leading_axes_are_those_of_the_optimizers_and_of_the_starts(found):
    starts = jnp.array([[-1.2, 1.0], [0.5, 2.0]])
    one = mj.trajectory(RULES["sgd"], "rosenbrock", starts[None, :, None], ITERATIONS)
    assert one.points.shape == (1, 2, 1, ITERATIONS + 1, 2)
    assert one.values.shape == (1, 2, 1, ITERATIONS + 1)
    assert one.diverged.shape == (1, 2, 1)
    assert (found.points.shape, found.diverged.shape) == ((3, 2, ITERATIONS + 1, 2), (3, 2))
    np.testing.assert_array_equal(one.points[0, :, 0, 0], starts)
    # The same program.
    np.testing.assert_array_equal(one.points[0, :, 0], found.points[0])
    alone = mj.trajectory(RULES["sgd"], "valley", iterations=2)
    assert (alone.points.shape, alone.values.shape, alone.diverged.shape) == ((3, 2), (3,), ())
    np.testing.assert_array_equal(alone.points[0], [-7.0, 2.0])


def test_what_differs_in_numbers_only_runs_as_one_program():
    def follow(rates, start=(-1.0, 1.0)):
        optimizers = [mj.OptimizerConfig("momentum", learning_rate=r, momentum=m) for r, m in rates]
        mj.trajectory(optimizers, make_landscape("valley"), start, iterations=3)

    programs = trajectories._of_structure(weak_handle(make_landscape("valley")))._cache_size()
    follow([(0.1, 0.5), (0.2, 0.9)])
    assert trajectories._of_structure(weak_handle(make_landscape("valley")))._cache_size() == programs + 1
    # The number 1 is the number 1.0; the start is an argument too.
    assert compilations(lambda: follow([(0.3, 0.25), (1, 0)], (2.0, 0.5))) == 0


def test_a_transformation_with_traced_hyperparameters_is_vmapped_jitted_and_differentiated(found):
    def end_and_path(learning_rate):
        path = mj.trajectory(mj.momentum(learning_rate, 0.9), "rosenbrock", [-1.2, 1.0], ITERATIONS)
        return path.values[-1], path

    def with_slope(learning_rate):
        return jax.jvp(end_and_path, (learning_rate,), (jnp.ones_like(learning_rate),), has_aux=True)

    step = 1e-9
    rates = jnp.array([2e-4, 2e-4 - step, 2e-4 + step])
    ends, slopes, paths = jit(jax.vmap(with_slope))(rates)
    np.testing.assert_allclose(paths.points[0], found.points[1, 0], rtol=0, atol=ITERATIONS * 20 * EPS)
    np.testing.assert_array_equal(ends, paths.values[:, -1])
    # A central difference is off by step²·f‴/6, (step/rate)² of the slope or so, and by rounding, EPS·f/step.
    np.testing.assert_allclose(slopes[0], (ends[2] - ends[1]) / (2 * step), rtol=1e-5)


def test_floating_point_starts_keep_their_dtype_others_get_the_default_one():
    for start, dtype in (([1, 1], jnp.float64), (jnp.ones(2, jnp.bfloat16), jnp.bfloat16)):
        path = mj.trajectory(RULES["sgd"], "valley", start, 2)
        assert {a.dtype for a in path[:3]} == {jnp.dtype(dtype)}


@pytest.fixture(scope="module")
def noisy(compiled_quickly):
    """One step at learning rates 1 and 2 from many starts at the minimum, on which the gradient is the noise alone."""
    with jax.enable_x64(True):
        starts = jnp.zeros([2000, 2])
        return mj.trajectory([sgd(1.0), sgd(2.0)], "valley", starts, 1, noise=0.5, key=KEY)


def test_noise_is_normal_with_the_standard_deviation_asked_for(noisy):
    gradients = -np.asarray(noisy.points[0, :, 1]).ravel()
    n = len(gradients)
    # Four standard errors: of a mean, of a variance, and of a fourth moment (σ⁴·√96/√n).
    np.testing.assert_allclose(gradients.mean(), 0, atol=4 * 0.5 / np.sqrt(n))
    np.testing.assert_allclose(gradients.var() / 0.25, 1, atol=4 * np.sqrt(2 / n))
    np.testing.assert_allclose((gradients**4).mean() / 0.0625, 3, atol=4 * np.sqrt(96 / n))
    # The correlation of the two coordinates of a gradient.
    correlation = np.corrcoef(noisy.points[0, :, 1].T)[0, 1]
    np.testing.assert_allclose(correlation, 0, atol=4 / np.sqrt(n / 2))


def test_the_gradients_that_are_returned_are_those_of_the_landscape_without_the_noise(noisy):
    np.testing.assert_array_equal(noisy.gradients[0, :, 0], np.zeros([2000, 2]))
    expected = np.asarray(noisy.points[..., 1, :]) * [0.1, 2]
    np.testing.assert_allclose(noisy.gradients[..., 1, :], expected, rtol=4 * EPS)


def test_each_start_has_noise_of_its_own_the_same_for_all_optimizers_and_again_from_the_same_key(noisy):
    # Twice as large a rate, and the same noise: exact, as 2 is.
    np.testing.assert_array_equal(noisy.points[1, :, 1], 2 * noisy.points[0, :, 1])
    assert len(np.unique(noisy.points[0, :, 1])) == 4000

    starts, options = jnp.zeros([2000, 2]), {"iterations": 1, "noise": 0.5}
    again = mj.trajectory([sgd(1.0), sgd(2.0)], "valley", starts, key=jax.random.key(7), **options)
    np.testing.assert_array_equal(again.points, noisy.points)
    other = mj.trajectory([sgd(1.0), sgd(2.0)], "valley", starts, key=jax.random.key(8), **options)
    assert (other.points[0, :, 1] != noisy.points[0, :, 1]).all()


def test_each_iteration_has_noise_of_its_own_and_the_first_step_is_along_the_noisy_gradient():
    path = mj.trajectory(RULES["sgd"], "valley", iterations=20, noise=0.5, key=KEY)
    noise = -np.diff(path.points, axis=0) / 2e-4 - path.gradients[:-1]
    assert len(np.unique(noise.round(6))) == 40
    assert 0.2 < noise.std() < 1


def test_diverged_is_a_path_that_is_not_finite_or_ends_outside_and_higher():
    starts = np.array([[-20.0, 0.0], [1.0, 1.0]])
    path = mj.trajectory([sgd(0.1), sgd(1.2), sgd(1e9)], "valley", starts, 40)
    x, y = np.moveaxis(np.asarray(path.points[:, :, -1]), -1, 0)
    # Slowly into the window, but not there yet; across the valley and back, further each time; beyond all numbers.
    assert -20 < x[0, 0] < -10
    assert 5 < abs(y[1, 1]) < np.inf
    assert not np.isfinite(x[2]).any()
    np.testing.assert_array_equal(path.diverged, [[False, False], [False, True], [True, True]])


def test_a_path_diverges_on_either_side_of_the_window():
    path = mj.trajectory(sgd(1.2), "valley", [[1.0, 1.0], [1.0, -1.0]], 40)
    assert path.points[0, -1, 1] > 5
    assert path.points[1, -1, 1] < -5
    assert path.diverged.all()


def test_a_path_whose_points_are_finite_and_whose_values_are_not_has_diverged_uphill_and_not_downhill():
    # What is not at rest grows tenfold each time, to 5e199 whose square is beyond float64.
    bowl, saddle = (
        make_landscape("quadratic", curvatures=(1.0, 1.0)),
        make_landscape("quadratic", curvatures=(1.0, -1.0)),
    )
    for landscape, rate, end in ((bowl, 11.0, np.inf), (saddle, 9.0, -np.inf)):
        path = mj.trajectory(sgd(rate), landscape, [0.0, 0.5], 200)
        assert np.isfinite(path.points).all()
        assert path.values[-1] == end
        assert path.diverged == (end > 0)


def test_down_a_saddle_is_no_divergence_however_far_and_a_jump_from_inside_beyond_all_numbers_is():
    saddle = make_landscape("quadratic", curvatures=(1.0, -1.0))
    path = mj.trajectory([sgd(0.5), sgd(1e308)], saddle, [0.0, 1.5], 4000)
    assert not np.isfinite(path.points[:, -1]).any()
    assert path.diverged.tolist() == [False, True]


def test_higher_is_higher_than_the_start_not_than_what_came_after():
    # To the minimum in one step, and by 0.9 of that step beyond: outside of |w| ≤ 2, and lower than it began.
    ball = mj.OptimizerConfig("momentum", learning_rate=1.0, momentum=0.9)
    path = mj.trajectory(ball, make_landscape("quadratic", curvatures=(1.0,)), [-4.0], 2)
    np.testing.assert_allclose(path.points[:, 0], [-4, 0, 3.6], rtol=4 * EPS)
    assert not path.diverged


def test_a_path_that_leaves_the_window_downhill_has_not_diverged():
    saddle = make_landscape("quadratic", curvatures=(1.0, -1.0))
    path = mj.trajectory(sgd(0.1), saddle, [0.5, 0.5], 40)
    assert path.points[-1, 1] > saddle.window[1, 1]
    assert not path.diverged


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"optimizer": mj.OptimizerConfig("momentun", learning_rate=1.0)},
            "unknown 'momentun'; did you mean 'momentum'",
        ),
        ({"optimizer": sgd(-0.1)}, "learning_rate must be finite and at least 0, not -0.1"),
        ({"optimizer": []}, "there is no optimizer to follow"),
        ({"landscape": "valey"}, "unknown 'valey'; did you mean 'valley'?"),
        ({"start": [1.0, 2.0, 3.0]}, "start on valley must have 2 coordinates, not the shape (3,)"),
        ({"start": 1.0}, "start on valley must have 2 coordinates, not the shape ()"),
        ({"start": np.zeros([0, 2])}, "start on valley must have 2 coordinates, not the shape (0, 2)"),
        ({"start": [[0.0, 0.0], [np.nan, 1.0]]}, "start on valley must be finite in float64, not (nan, 1.0)"),
        ({"landscape": "rastrigin", "start": [[0, 0], [6, 1]]}, "[-5.12, 5.12] × [-5.12, 5.12], not at (6.0, 1.0)"),
        ({"landscape": "rastrigin", "start": [0, -6]}, "[-5.12, 5.12] × [-5.12, 5.12], not at (0.0, -6.0)"),
        ({"noise": 0.1}, "noise needs a key"),
        ({"noise": -0.1, "key": KEY}, "noise must be finite and at least 0, not -0.1"),
        ({"noise": np.nan, "key": KEY}, "noise must be finite and at least 0, not nan"),
        ({"iterations": 0}, "iterations must be an integer of at least 1, not 0"),
        ({"noise": 0.1, "key": 0}, "key must be one such as jax.random.key(0), not 0"),
        ({"key": jax.random.split(KEY)}, "key must be one such as jax.random.key(0), not "),
        ({"optimizer": "momentum"}, "optimizer must be an OptimizerConfig, a list of them or an Optax transformation"),
        ({"optimizer": [mj.sgd(0.1)]}, "optimizer must be an OptimizerConfig, a list of them or an Optax"),
        ({"landscape": None}, "landscape must be a Landscape, such as make_landscape(name), or a name, not None"),
        ({"iterations": 2.0}, "iterations must be an integer of at least 1, not 2.0"),
    ],
)
def test_what_makes_no_path_is_refused(change, said):
    with pytest.raises(InputError) as error:
        mj.trajectory(**{"optimizer": RULES["sgd"], "landscape": "valley"} | change)
    assert said in str(error.value)


def test_a_start_may_lie_on_the_edge_of_the_domain():
    corners = [[-5.12, 5.12], [5.12, -5.12]]
    np.testing.assert_array_equal(trajectories.check_start(make_landscape("rastrigin"), corners), corners)


@pytest.mark.parametrize("transform", [jax.grad, jax.jit], ids=["grad", "jit"])
def test_a_description_with_a_traced_value_is_refused_instead_of_having_no_slope(transform):
    def end(rate):
        return mj.trajectory(mj.OptimizerConfig("sgd", learning_rate=rate), "valley").values[-1]

    with pytest.raises(InputError, match="learning_rate of 'sgd' is traced, and a description holds numbers"):
        transform(end)(0.1)


def test_a_start_that_float32_cannot_hold_is_named_as_it_was_given():
    with jax.enable_x64(False), pytest.raises(InputError, match=r"finite in float32, not \(1e\+300, 0.5\)"):
        mj.trajectory(sgd(0.1), "valley", [1e300, 0.5])


def test_noise_that_is_traced_needs_a_key_too():
    with pytest.raises(InputError, match="noise needs a key"):
        jax.eval_shape(lambda noise: mj.trajectory(mj.sgd(0.1), "valley", noise=noise), 0.1)


def test_a_path_has_a_hundred_iterations_if_nothing_else_is_said():
    assert jax.eval_shape(lambda: mj.trajectory(mj.sgd(0.1), "valley")).points.shape == (101, 2)

"""YellowFin: its single step, what it measures, clipping and gradients of 0."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.optimizers._yellowfin import WINDOW, _single_step
from tests.compiling import jit
from tests.optimizers.factories import message


def states(optimizer, gradients):
    """The state after each of the gradients, stacked."""

    def step(state, g):
        state = optimizer.update(g, state)[1]
        return state, state

    return jit(lambda start: jax.lax.scan(step, start, gradients)[1])(optimizer.init(gradients[0]))


@pytest.mark.parametrize("x64", [False, True])
def test_the_single_step_is_the_minimum_on_the_bound_or_where_the_cubic_has_its_root(x64):
    with jax.enable_x64(x64):
        for log_p in np.linspace(-24, 24, 13):
            # D = h = 1 and C = 1/(2p).
            step = float(_single_step(*(jnp.asarray(v, float) for v in (1.0, 1.0, 0.5 / 10.0**log_p, 1.0))))
            x, p = 1 - step, 10.0**log_p
            if log_p > 0:
                # x is near 1/p. What is left of it is the rounding of 1 − x, and it is squared to the momentum.
                assert x == pytest.approx(
                    min(np.roots([1, -3, 3 + p, -1]), key=lambda root: abs(root.imag)).real, abs=1e-6
                )
            else:
                # Here 1 − x is small and has all its digits.
                assert step**3 == pytest.approx(p * (1 - step), rel=1e-14 if x64 else 1e-5)
        for kappa in (1.0, 4.0, 1e6):
            root = (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
            no_noise = float(_single_step(*(jnp.asarray(v, float) for v in (kappa, 1.0, 0.0, 1.0))))
            assert 1 - no_noise == pytest.approx(root, abs=1e-15 if x64 else 1e-6)


def test_its_derivatives_are_finite_without_noise_curvature_or_distance():
    for values in ((1.0, 1.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 1.0, 0.0), (1.0, 1.0, 1.0, 0.0)):
        assert np.isfinite(jax.grad(_single_step, argnums=(0, 1, 2, 3))(*map(jnp.float32, values))).all()


def test_the_measurements_of_noise_around_a_mean_are_its_own():
    # 4,000 gradients of mean 2 and deviation 1 in each of 50 entries, all with nearly the same weight.
    gradients = 2 + jax.random.normal(jax.random.key(0), (4000, 50))
    state = jax.tree.map(lambda leaf: leaf[-1], states(mj.yellowfin(smoothing=0.9999), gradients))
    squares = np.sum(np.asarray(gradients) ** 2, axis=1)
    # Of 4,000 means the errors are some 1/√4000 of the deviation; twice that.
    assert float(state.square) == pytest.approx(squares.mean(), rel=0.01)
    assert float(state.square) == pytest.approx(50 * (4 + 1), rel=0.01)
    variance = float(state.square - state.average @ state.average)
    assert variance == pytest.approx(50, rel=0.1)
    windows = np.lib.stride_tricks.sliding_window_view(squares, WINDOW)
    assert float(state.largest) == pytest.approx(windows.max(axis=1).mean(), rel=0.02)
    assert float(state.smallest) == pytest.approx(windows.min(axis=1).mean(), rel=0.02)
    assert float(state.distance) == pytest.approx(1 / math.sqrt(250), rel=0.02)


def test_scaling_the_loss_scales_the_learning_rate_back_and_leaves_the_momentum():
    gradients = 1 + jax.random.normal(jax.random.key(0), (300, 5))
    once, tenfold = (states(mj.yellowfin(), scale * gradients) for scale in (1.0, 8.0))
    # ‖g‖² is taken for a curvature, so α falls by the square of the scale. A power of two: nothing is rounded.
    np.testing.assert_allclose(tenfold.learning_rate * 64, once.learning_rate, rtol=1e-5)
    np.testing.assert_allclose(tenfold.momentum, once.momentum, rtol=1e-5)


def test_a_gradient_that_is_larger_than_those_before_is_clipped_for_the_step_and_less_for_what_is_measured():
    gradients = jnp.concatenate([jnp.ones((30, 4)), 100 * jnp.ones((1, 4))])
    clipped = states(mj.yellowfin(clip=True), gradients)
    # Measured is a gradient of tens, whose ‖g‖² = 400 is 100 times h_max = 4. The direction is kept.
    measured = states(mj.yellowfin(), jnp.concatenate([jnp.ones((30, 4)), 10 * jnp.ones((1, 4))]))
    for field in ("average", "window", "largest", "smallest", "square", "norm", "learning_rate", "momentum"):
        # float32, thirty equal numbers in averages.
        np.testing.assert_allclose(getattr(clipped, field), getattr(measured, field), rtol=1e-5, err_msg=field)
    # The step is that of a gradient of ones.
    last = jax.tree.map(lambda leaf: leaf[-1], clipped)
    step = last.momentum * clipped.velocity[-2] - last.learning_rate
    np.testing.assert_allclose(last.velocity, step, rtol=1e-5)


def test_a_largest_curvature_that_grows_is_followed_with_clipping_too():
    # Each gradient is twice the one before, so that what is measured is never clipped.
    gradients = jnp.asarray(2.0 ** np.arange(30)[:, None] * np.ones(4), float)
    clipped, plain = (states(mj.yellowfin(clip=clip), gradients) for clip in (True, False))
    np.testing.assert_array_equal(clipped.largest, plain.largest)
    # Clipped before it was measured none would exceed the first, 4.
    assert float(clipped.largest[-1]) > 1e16


def test_with_clipping_a_gradient_whose_square_is_infinite_is_measured_as_ten_times_the_largest():
    after = [
        states(mj.yellowfin(clip=True), jnp.concatenate([jnp.ones((5, 2)), jnp.full((1, 2), size)]))
        for size in (10.0, 1e30)
    ]
    # float32: a quotient of 1e31 is rounded.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *after)


@pytest.mark.parametrize("accumulator_dtype", [None, "bfloat16"])
def test_an_average_gradient_of_bfloat16_parameters_is_that_of_float32_ones(accumulator_dtype):
    optimizer = mj.yellowfin(accumulator_dtype=accumulator_dtype)
    # After 600 gradients of 1 the weight of the newest is some 0.002: of a difference of 2 bfloat16 would lose it.
    gradients = jnp.concatenate([jnp.ones((600, 2)), 3 * jnp.ones((600, 2))])
    narrow, wide = (states(optimizer, gradients.astype(dtype)) for dtype in ("bfloat16", "float32"))
    assert narrow.average.dtype == jnp.float32
    assert narrow.velocity.dtype == jnp.bfloat16
    # 1 and 3 are exact in bfloat16, so that the two are the same sums.
    np.testing.assert_array_equal(narrow.average, wide.average)


@pytest.mark.parametrize("clip", [False, True])
def test_gradients_of_0_make_no_step_and_nothing_that_is_not_finite(clip):
    gradients = jnp.concatenate([jnp.zeros((3, 2)), jnp.ones((30, 2)), jnp.zeros((30, 2))])
    all_states = states(mj.yellowfin(clip=clip), gradients)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(all_states))
    np.testing.assert_array_equal(all_states.velocity[:3], 0)
    assert np.any(all_states.velocity[-1])


def test_it_trains_a_noisy_quadratic_without_a_learning_rate():
    curvatures = jnp.geomspace(0.1, 1, 8)
    optimizer = mj.yellowfin()

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(curvatures * params + 0.1 * jax.random.normal(key, 8), state)
        return (params + updates, state), jnp.sum(curvatures * params**2) / 2

    start = 3 * jnp.ones(8)
    keys = jax.random.split(jax.random.key(0), 4000)
    losses = jit(lambda first: jax.lax.scan(step, first, keys)[1])((start, optimizer.init(start)))
    assert float(losses[-500:].mean()) < 0.01 * float(losses[0])


def test_what_it_does_not_take_is_refused():
    for name, value, words in (
        ("learning_rate", -1.0, "learning_rate must be finite and at least 0, not -1.0"),
        ("smoothing", 1.0, "smoothing must be in [0, 1), not 1.0"),
        ("smoothing", -0.1, "smoothing must be in [0, 1), not -0.1"),
        ("smoothing", math.nan, "smoothing must be in [0, 1), not nan"),
        ("smoothing", True, "smoothing must be in [0, 1), not True"),
        ("smoothing", lambda count: 0.9, "smoothing must be a number: its averages are not those of a schedule"),
        ("clip", 1, "clip must be True or False, not 1"),
        ("clip", None, "clip must be True or False, not None"),
    ):
        assert message(mj.yellowfin, **{name: value}) == words

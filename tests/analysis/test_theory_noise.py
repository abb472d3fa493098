"""Noise floors and escapes from saddles against Lyapunov's equation and runs of the recurrence, in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from momentum_jax.analysis import theory
from tests.analysis.recurrences import LIMITS, STEPS, each_method, formula, matrix, simulate
from tests.compiling import jit

pytestmark = pytest.mark.usefixtures("float64")


@each_method
def test_the_noise_floor_solves_lyapunovs_equation(method):
    rng = np.random.default_rng(2)
    n = 200
    beta = np.append(0.0, rng.uniform(0, 0.99, n - 1))
    a = LIMITS[method](beta) * rng.uniform(0.001, 0.999, n)
    alpha, variance = 10 ** rng.uniform(-3, 1, n), 10 ** rng.uniform(-2, 2, n)
    noise = np.array(formula(method, "noise")(alpha, beta, a / alpha, variance))
    for i, step in enumerate(matrix(method, a, beta)):
        # What the step adds when the gradient is the noise alone.
        kick = np.array(STEPS[method](0.0, 0.0, 1.0, alpha[i], beta[i]))
        solution = scipy.linalg.solve_discrete_lyapunov(step, variance[i] * np.outer(kick, kick))
        # Of the system's condition, some 1/(1 − ρ)² ≤ 1e8 in a sample that comes this near the limits.
        expected = [solution[0, 0], solution[1, 1], solution[0, 1]]
        np.testing.assert_allclose(noise[:, i], expected, rtol=1e-7)


@each_method
def test_the_noise_floor_is_where_runs_hover(method):
    rng = np.random.default_rng(3)
    alpha, beta, curvature, variance = 0.2, 0.8, 1.5, 4.0
    w, v = np.zeros((2, 100_000))
    # At the rate 0.894 and less the start is forgotten after 100 steps, to 2e-10 of the variance.
    for _ in range(100):
        w, v = STEPS[method](w, v, curvature * w + 2.0 * rng.normal(size=len(w)), alpha, beta)
    moments = [np.mean(w * w), np.mean(v * v), np.mean(w * v)]
    noise = formula(method, "noise")(alpha, beta, curvature, variance)
    # Four standard errors of a variance estimated from 100,000 draws: 4·√(2/1e5) = 1.8%, and no more of a covariance.
    scale = [noise.var_w, noise.var_v, np.sqrt(noise.var_w * noise.var_v)]
    assert (np.abs(np.array(moments) - np.array(noise)) <= 0.018 * np.array(scale)).all()


@each_method
def test_where_nothing_settles_the_noise_is_infinite(method):
    limit = LIMITS[method](0.5)
    curvature = np.array([limit * (1 - 1e-6), limit, limit * (1 + 1e-6), 1e-6, 0.0, -1e-6])
    for moment in formula(method, "noise")(1.0, 0.5, curvature, 1.0):
        np.testing.assert_array_equal(np.isinf(moment), [False, True, True, False, True, True])
        assert (np.asarray(moment) > 0).all()
    # A momentum of 1 and more, at which no heavy ball settles, although two negative factors make a positive one.
    np.testing.assert_array_equal(theory.heavy_ball_noise(np.array([0.1, 5.0]), 1.1, 1.0, 1.0).var_w, np.inf)


@each_method
def test_where_the_noise_is_infinite_without_curvature_it_has_derivatives_of_0(method):
    def moments(alpha, beta, curvature):
        return jnp.stack(formula(method, "noise")(alpha, beta, curvature, 1.0))

    for slopes in jit(jax.jacobian(moments, (0, 1, 2)))(0.1, 0.5, 0.0):
        np.testing.assert_array_equal(slopes, np.zeros(3))


@each_method
def test_the_noise_ratio_is_that_of_the_noise_floors_at_the_same_effective_rate(method):
    a, beta = np.array([0.001, 0.1, 0.15, 0.3, 5.0, 0.4]), np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.0])
    ratio = np.asarray(formula(method, "noise_ratio")(a, beta))
    momentum = np.asarray(formula(method, "noise")(a, beta, 1.0, 1.0).var_w)
    descent = np.asarray(theory.heavy_ball_noise(a / (1 - beta), 0.0, 1.0, 1.0).var_w)
    settle = np.isfinite(descent)
    assert settle.tolist() == [True, True, True, False, False, True]
    np.testing.assert_allclose(ratio[settle], momentum[settle] / descent[settle], rtol=1e-12)
    # Gradient descent diverges first, then both.
    assert (ratio[3], np.isfinite(momentum[3]), descent[3]) == (0, True, np.inf)
    assert (np.isnan(ratio[4]), momentum[4]) == (True, np.inf)
    if method == "heavy_ball":
        np.testing.assert_allclose(ratio[:2], [0.995, 0.51], atol=0.005)


def test_growth_on_a_saddle_has_the_printed_rates_and_steps():
    c, beta = np.array([0.1, 0.1, 0.01]), np.array([0.0, 0.9, 0.9])
    for method, printed, steps in (
        ("heavy_ball", [1.1, 1.3162, 1.0647], [73, 27, 115]),
        ("nesterov", [1.1, 1.3644, 1.0674], [73, 24, 110]),
    ):
        growth = formula(method, "saddle_growth")(c, beta)
        np.testing.assert_allclose(growth.rate, printed, atol=5e-5)
        assert np.ceil(theory.steps_to_grow(growth, 1000.0)).tolist() == steps
        # The same by steps from rest on the saddle itself.
        path = simulate(method, c, beta, -1.0, np.ones(3), 120)
        assert (path >= 1000).argmax(0).tolist() == steps


@each_method
def test_on_a_saddle_a_run_is_the_growing_term_and_the_decaying_one(method):
    rng = np.random.default_rng(4)
    c, beta = 10 ** rng.uniform(-3, 0, 3), rng.uniform(0, 0.95, 3)
    rate, amplitude = (np.asarray(part) for part in formula(method, "saddle_growth")(c, beta))
    path = simulate(method, c, beta, -1.0, np.ones(3), 60)
    k = np.arange(61)[:, None]
    other = beta * (1 + c * (method == "nesterov")) / rate
    # 60 steps of some roundings each.
    np.testing.assert_allclose(path, amplitude * rate**k + (1 - amplitude) * other**k, rtol=1e-12)


def test_momentum_leaves_a_saddle_faster_at_the_same_rate_and_more_slowly_at_the_matched_one():
    beta = np.linspace(0.001, 0.999, 60)[:, None]
    c = np.geomspace(1e-4, 10, 50)
    same = np.asarray(theory.heavy_ball_saddle_growth(c[None, :], beta).rate)
    matched = np.asarray(theory.heavy_ball_saddle_growth(c * (1 - beta), beta).rate)
    assert (same > 1 + c).all()
    assert (matched < 1 + c).all()

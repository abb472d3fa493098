"""Momentum under noise against Lyapunov's equation, spectral radii and runs of the recurrence, in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from momentum_jax.analysis.noise import (
    heavy_ball_mean_square_limit,
    heavy_ball_noise,
    mean_square_rate,
    nesterov_mean_square_limit,
    stationary_covariance,
)
from tests.analysis.recurrences import LIMITS, STEPS, each_method, formula, matrix
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
    np.testing.assert_array_equal(heavy_ball_noise(np.array([0.1, 5.0]), 1.1, 1.0, 1.0).var_w, np.inf)


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
    descent = np.asarray(heavy_ball_noise(a / (1 - beta), 0.0, 1.0, 1.0).var_w)
    settle = np.isfinite(descent)
    assert settle.tolist() == [True, True, True, False, False, True]
    np.testing.assert_allclose(ratio[settle], momentum[settle] / descent[settle], rtol=1e-12)
    # Gradient descent diverges first, then both.
    assert (ratio[3], np.isfinite(momentum[3]), descent[3]) == (0, True, np.inf)
    assert (np.isnan(ratio[4]), momentum[4]) == (True, np.inf)
    if method == "heavy_ball":
        np.testing.assert_allclose(ratio[:2], [0.995, 0.51], atol=0.005)


def moment_matrix(method, alpha, beta, curvatures):
    """E[A ⊗ A] over equally likely curvatures, by steps from the unit vectors."""
    steps = matrix(method, alpha * np.asarray(curvatures), np.full(len(curvatures), beta))
    return np.mean([np.kron(step, step) for step in steps], axis=0)


def radius(operator):
    return np.abs(np.linalg.eigvals(operator)).max()


@each_method
def test_at_the_limit_in_mean_square_the_moments_neither_grow_nor_shrink(method):
    rng = np.random.default_rng(5)
    for _ in range(100):
        beta, mean, s = rng.uniform(0, 0.99), 10 ** rng.uniform(-2, 2), 10 ** rng.uniform(-4, 4)
        limit = float(formula(method, "mean_square_limit")(beta, mean, s * mean**2))
        curvatures = mean * (1 + np.sqrt(s) * np.array([-1, 1]))
        # A root of the characteristic polynomial that is nearly double loses half of the digits.
        assert abs(radius(moment_matrix(method, limit, beta, curvatures)) - 1) < 1e-6
        assert radius(moment_matrix(method, limit * 0.99, beta, curvatures)) < 1
        assert radius(moment_matrix(method, limit * 1.01, beta, curvatures)) > 1


@each_method
def test_without_noise_the_limit_is_that_of_the_mean_and_with_much_that_of_gradient_descent(method):
    beta, mean = np.linspace(0, 0.99, 40), 0.3
    limit = formula(method, "mean_square_limit")
    np.testing.assert_allclose(limit(beta, mean, 0.0), LIMITS[method](beta) / mean, rtol=1e-13)
    s = 1e9
    # The rest is smaller by λ²/s times up to (1 + β)/(1 − β).
    np.testing.assert_allclose(limit(beta, mean, s), 2 * (1 - beta) * mean / s, rtol=1e-6)


def test_the_limits_in_mean_square_are_those_printed():
    assert abs(heavy_ball_mean_square_limit(0.9, 1.0, 1.0) - 0.190) < 5e-4
    assert abs(nesterov_mean_square_limit(0.9, 1.0, 1.0) - 0.4239) < 5e-5


@each_method
def test_at_the_crossover_batch_the_limit_is_half_of_that_of_the_full_batch(method):
    beta, mean, variance = np.linspace(0, 0.99, 40), 0.3, 7.0
    batch = formula(method, "crossover_batch")(beta, mean, variance)
    limit = formula(method, "mean_square_limit")
    np.testing.assert_allclose(limit(beta, mean, variance / batch), limit(beta, mean, 0.0) / 2, rtol=1e-12)


@each_method
def test_the_noise_floor_with_a_noisy_curvature_solves_lyapunovs_equation(method):
    rng = np.random.default_rng(6)
    for _ in range(100):
        beta, mean, s, variance = rng.uniform(0, 0.95), 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-2, 2), 3.0
        alpha = rng.uniform(0.01, 0.98) * float(formula(method, "mean_square_limit")(beta, mean, s))
        curvatures = mean + np.sqrt(s) * np.array([-1, 1])
        kick = np.array(STEPS[method](0.0, 0.0, 1.0, alpha, beta))
        added = variance * np.outer(kick, kick).ravel()
        solution = np.linalg.solve(np.eye(4) - moment_matrix(method, alpha, beta, curvatures), added)
        moments = np.array(formula(method, "noise")(alpha, beta, mean, variance, s))
        np.testing.assert_allclose(moments, solution[[0, 3, 1]], rtol=1e-8)
    beyond = formula(method, "noise")(1.01 * formula(method, "mean_square_limit")(0.9, 1.0, 1.0), 0.9, 1.0, 1.0, 1.0)
    assert np.isinf(beyond).all()


@each_method
def test_coupled_directions_have_the_rate_and_the_covariance_of_the_kronecker_product(method):
    rng = np.random.default_rng(7)
    nesterov, alpha, beta = method == "nesterov", 0.05, 0.8
    factors = rng.normal(size=(5, 3, 3))
    hessians, root = factors @ factors.mT / 3, rng.normal(size=(3, 3))
    # The columns are the steps of (w, v) from the unit vectors, with the gradient H·w.
    steps = []
    for hessian in hessians:
        w, v = STEPS[method](np.eye(3, 6), np.eye(3, 6, 3), hessian @ np.eye(3, 6), alpha, beta)
        steps.append(np.concatenate([w, v]))
    operator = np.mean([np.kron(step, step) for step in steps], axis=0)
    rate = mean_square_rate(alpha, beta, jnp.asarray(hessians), nesterov=nesterov)
    np.testing.assert_allclose(rate, radius(operator), rtol=1e-12)
    assert rate < 1
    kick = np.concatenate(STEPS[method](np.zeros((3, 3)), np.zeros((3, 3)), root, alpha, beta))
    expected = np.linalg.solve(np.eye(36) - operator, (kick @ kick.T).ravel()).reshape(6, 6)
    found = stationary_covariance(alpha, beta, jnp.asarray(hessians), jnp.asarray(root @ root.T), nesterov=nesterov)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@each_method
def test_with_a_noisy_curvature_runs_hover_at_the_noise_floor(method):
    rng = np.random.default_rng(8)
    alpha, beta, runs = 0.04, 0.7, 40_000
    w, v = np.zeros((2, runs))
    for _ in range(300):
        curvature = 1.5 + rng.choice([-1.0, 1.0], runs)
        w, v = STEPS[method](w, v, curvature * w + 2.0 * rng.normal(size=runs), alpha, beta)
    expected = formula(method, "noise")(alpha, beta, 1.5, 4.0, 1.0)
    for moment, of_runs in zip(expected, (w * w, v * v, w * v), strict=True):
        # 3.5 standard errors: of six intervals at once, one fails by chance in 350.
        assert abs(of_runs.mean() - float(moment)) < 3.5 * of_runs.std() / np.sqrt(runs)

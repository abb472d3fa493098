"""Nesterov's chain and its lower bound, in float64 NumPy."""

import math

import jax
import numpy as np
import pytest

from momentum_jax.analysis import theory
from momentum_jax.optimizers import optimal_momentum, optimal_nesterov, standard_nesterov
from momentum_jax.tasks.landscapes import make_landscape
from tests.analysis.recurrences import STEPS
from tests.compiling import jit

pytestmark = pytest.mark.usefixtures("float64")

MU, L, N = 1.0, 100.0, 50


def chain(mu, L, n):
    """Hessian and gradient at 0 of Nesterov's chain, by its definition."""
    q = (math.sqrt(L / mu) - 1) / (math.sqrt(L / mu) + 1)
    second = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    second[-1, -1] = 2 - q
    return (L - mu) / 4 * second + mu * np.eye(n), -(L - mu) / 4 * np.eye(n)[0], q


def test_the_chain_is_the_quadratic_of_its_definition():
    hessian, gradient, _ = chain(MU, L, N)
    w = np.random.default_rng(5).normal(size=N)
    landscape = make_landscape("chain", dimensions=N, mu=MU, L=L)
    value, derivative = jit(jax.value_and_grad(landscape.function))(w)
    # Sums of 50 terms.
    np.testing.assert_allclose(value, w @ hessian @ w / 2 + gradient @ w, rtol=1e-13)
    np.testing.assert_allclose(derivative, hessian @ w + gradient, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(landscape.minima, [np.linalg.solve(hessian, -gradient)], rtol=1e-11)
    curvatures = np.linalg.eigvalsh(hessian)
    assert ((curvatures >= MU) & (curvatures <= L)).all()
    # κ is L/μ, not that of the Hessian.
    np.testing.assert_allclose(curvatures[-1] / curvatures[0], 92.5, atol=0.05)


def conjugate_gradients(hessian, gradient, steps):
    w, residual = np.zeros(len(gradient)), -gradient
    direction, path = residual, [w]
    for _ in range(steps):
        image = hessian @ direction
        step = residual @ residual / (direction @ image)
        w, old, residual = w + step * direction, residual, residual - step * image
        direction = residual + residual @ residual / (old @ old) * direction
        path.append(w)
    return np.array(path)


def test_conjugate_gradients_attain_the_chains_lower_bound_and_momentum_respects_it():
    hessian, gradient, q = chain(MU, L, N)
    bound = np.asarray(theory.chain_lower_bound(MU, L, N, np.arange(N + 1)))
    np.testing.assert_allclose(bound[:N], q ** np.arange(1, N + 1), rtol=1e-13)
    assert bound[N] == 0
    minimizer = q ** np.arange(1, N + 1)

    def error(path):
        return np.abs(np.array(path) - minimizer).max(1)

    exact = error(conjugate_gradients(hessian, gradient, N))
    # Rounding of some steps on a matrix of condition 92.5, relative to an error that has shrunk by 2e4.
    np.testing.assert_allclose(exact[:N], bound[:N], rtol=1e-9)
    assert exact[N] < 1e-9 * bound[N - 1], "the bound ends where the space does"
    for method, tune in (
        ("heavy_ball", optimal_momentum),
        ("nesterov", optimal_nesterov),
        ("nesterov", standard_nesterov),
    ):
        alpha, beta, _ = tune(MU, L)
        w, v, path = np.zeros(N), np.zeros(N), [np.zeros(N)]
        for _ in range(N):
            w, v = STEPS[method](w, v, hessian @ w + gradient, alpha, beta)
            path.append(w)
        # Coordinates not yet reached are 0 exactly; qᵏ is rounded.
        assert (error(path) >= bound * (1 - 1e-12)).all()

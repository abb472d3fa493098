"""One step of the heavy ball and of Nesterov on a quadratic, in NumPy: the oracle for `analysis.theory`."""

import numpy as np
import pytest

from momentum_jax.analysis import noise, theory

EPS = np.finfo(float).eps


def heavy_ball_step(w, v, gradient, alpha, beta):
    v = beta * v - alpha * gradient
    return w + v, v


def nesterov_step(w, v, gradient, alpha, beta):
    v = beta * v - alpha * gradient
    return w + beta * v - alpha * gradient, v


STEPS = {"heavy_ball": heavy_ball_step, "nesterov": nesterov_step}
each_method = pytest.mark.parametrize("method", STEPS)
# The stability limit of a as a function of β.
LIMITS = {"heavy_ball": lambda beta: 2 * (1 + beta), "nesterov": lambda beta: (2 + 2 * beta) / (1 + 2 * beta)}
# w_k/w₀ from rest with the critical momentum, as a function of s = √a and k.
CRITICAL_PATHS = {
    "heavy_ball": lambda s, k: (1 + k * s) * (1 - s) ** k,
    "nesterov": lambda s, k: (1 + k * s / (1 + s)) * (1 - s) ** k,
}


def formula(method, name):
    name = f"{method}_{name}"
    return getattr(theory, name, None) or getattr(noise, name)


def matrix(method, a, beta):
    """The matrix of one step on the state (w, v), whose columns are the steps from (1, 0) and (0, 1)."""
    one, zero = np.ones_like(a), np.zeros_like(a)
    columns = [STEPS[method](w, v, a * w, 1.0, beta) for w, v in ((one, zero), (zero, one))]
    return np.stack([np.stack(column, -1) for column in columns], -1)


def simulate(method, alpha, beta, curvatures, w, steps):
    v, path = np.zeros_like(w), [w]
    for _ in range(steps):
        w, v = STEPS[method](w, v, curvatures * w, alpha, beta)
        path.append(w)
    return np.array(path)

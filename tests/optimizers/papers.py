"""The methods of QHM's family as their papers write them, in float64 NumPy, with every sequence that a paper has.

Each takes `gradient(t, point)`, the start, the number of steps and the paper's parameters under this package's names,
and returns the sequence of the points at which gradients are taken first, then the others, all (steps + 1, n).
"""

import numpy as np


def sequences(points):
    return [np.array(sequence) for sequence in zip(*points, strict=True)]


def accelerated_sgd(gradient, start, steps, learning_rate, gamma, alpha, beta):
    """Jain et al. 2018, algorithm 1: y, x, v."""
    x = v = start
    points = [(start, x, v)]
    for t in range(steps):
        y = alpha * x + (1 - alpha) * v
        g = gradient(t, y)
        x = y - learning_rate * g
        z = beta * y + (1 - beta) * v
        v = z - gamma * g
        points.append((alpha * x + (1 - alpha) * v, x, v))
    return sequences(points)


def accsgd(gradient, start, steps, learning_rate, kappa, xi):
    """Kidambi et al. 2018, algorithm 1: w, w̄."""
    alpha = 1 - 0.7**2 * xi / kappa
    w = w_bar = start
    points = [(w, w_bar)]
    for t in range(steps):
        g = gradient(t, w)
        w_bar = alpha * w_bar + (1 - alpha) * (w - kappa * learning_rate / 0.7 * g)
        w = 0.7 / (0.7 + (1 - alpha)) * (w - learning_rate * g) + (1 - alpha) / (0.7 + (1 - alpha)) * w_bar
        points.append((w, w_bar))
    return sequences(points)


def mass(gradient, start, steps, learning_rate, eta2, gamma):
    """Liu and Belkin 2020, equation 4: u, w."""
    u = w = start
    points = [(u, w)]
    for t in range(steps):
        g = gradient(t, u)
        w_next = u - learning_rate * g
        u = (1 + gamma) * w_next - gamma * w + eta2 * g
        w = w_next
        points.append((u, w))
    return sequences(points)


def synthesized_nesterov(gradient, start, steps, learning_rate, beta1, beta2):
    """Lessard et al. 2016, equation 6.1, in the letters of Ma and Yarats 2019, appendix C: y, ξ."""
    y = xi = before = start
    points = [(y, xi)]
    for t in range(steps):
        xi, before = xi + beta1 * (xi - before) - learning_rate * gradient(t, y), xi
        y = xi + beta2 * (xi - before)
        points.append((y, xi))
    return sequences(points)


def primal_averaging(gradient, start, steps, learning_rate, c):
    """Defazio 2020: x, z."""
    x = z = start
    points = [(x, z)]
    for t in range(steps):
        z = z - learning_rate * gradient(t, x)
        x = (1 - c) * x + c * z
        points.append((x, z))
    return sequences(points)


def mars(gradient, start, steps, learning_rate, gamma, beta1, *, same_start=False):
    """Yuan et al. 2024, algorithm 2 with H = I and without clipping: x, m.

    `same_start`: x₁ = x₀ as in the paper, so that the first correction is 0; else g₀ = 0, as in its code.
    """
    x, m, g_before = start, np.zeros_like(start), np.zeros_like(start)
    points = [(x, m)]
    for t in range(steps):
        g = gradient(t, x)
        if same_start and t == 0:
            g_before = g
        rate, beta = (value[t] if np.ndim(value) else value for value in (learning_rate, beta1))
        c = g + gamma * (beta / (1 - beta)) * (g - g_before)
        m = beta * m + (1 - beta) * c
        x, g_before = x - rate * m, g
        points.append((x, m))
    return sequences(points)


def grokfast(gradient, start, steps, learning_rate, alpha, lamb, *, first=False):
    """Lee et al. 2024, Grokfast-EMA before a step of gradient descent: p, e. `first`: e₀ = g₁, as in its code."""
    p, e = start, np.zeros_like(start)
    points = [(p, e)]
    for t in range(steps):
        g = gradient(t, p)
        if first and t == 0:
            e = g
        rate, keep, times = (value[t] if np.ndim(value) else value for value in (learning_rate, alpha, lamb))
        e = keep * e + (1 - keep) * g
        p = p - rate * (g + times * e)
        points.append((p, e))
    return sequences(points)


def outer_nesterov(gradient, start, steps, learning_rate, outer_learning_rate, momentum, *, every=1):
    """Kallusky et al. 2025, algorithm 1 with gradient descent inside: w after each outer step, b."""
    w, b = start, np.zeros_like(start)
    points = [(w, b)]
    for t in range(steps):
        fast = w
        for k in range(every):
            fast = fast - learning_rate * gradient(t * every + k, fast)
        s = w - fast
        b = momentum * b + s
        w = w - (outer_learning_rate[t] if np.ndim(outer_learning_rate) else outer_learning_rate) * (momentum * b + s)
        points.append((w, b))
    return sequences(points)


PAPERS = {
    function.__name__: function
    for function in (
        accelerated_sgd,
        accsgd,
        mass,
        synthesized_nesterov,
        primal_averaging,
        mars,
        grokfast,
        outer_nesterov,
    )
}
# Of each method: its defaults or the numbers of its paper, then others, the last with the largest ν or the smallest.
EXAMPLES = {
    "accelerated_sgd": [
        {"learning_rate": 0.05, "gamma": 0.5, "alpha": 0.9, "beta": 0.1},
        {"learning_rate": 0.02, "gamma": 0.1, "alpha": 0.3, "beta": 0.7},
        {"learning_rate": 0.1, "gamma": 0.1, "alpha": 0.5, "beta": 0.5},
        {"learning_rate": 0.0, "gamma": 0.1, "alpha": 0.8, "beta": 0.2},
    ],
    "accsgd": [
        {"learning_rate": 0.02, "kappa": 1000.0, "xi": 10.0},
        {"learning_rate": 0.05, "kappa": 20.0, "xi": 4.0},
        {"learning_rate": 0.05, "kappa": 20.0, "xi": 1 / 0.7},
    ],
    "mass": [
        # α = 0.05 and κ̃ = 12, the defaults of the authors' code.
        {"learning_rate": 0.1, "eta2": 0.1 * (1 - 1 / 12) / 1.05, "gamma": 0.95 / 1.05},
        {"learning_rate": 0.05, "eta2": 0.01, "gamma": 0.7},
        {"learning_rate": 0.05, "eta2": 0.0, "gamma": 0.9},
        {"learning_rate": 0.1, "eta2": 0.09, "gamma": 0.9},
    ],
    "synthesized_nesterov": [
        {"learning_rate": 0.05, "beta1": 0.9, "beta2": 0.5},
        {"learning_rate": 0.05, "beta1": 0.5, "beta2": 0.9},
        {"learning_rate": 0.05, "beta1": 0.9, "beta2": 0.9},
        {"learning_rate": 0.05, "beta1": 0.9, "beta2": 0.0},
    ],
    "primal_averaging": [
        {"learning_rate": 0.3, "c": 0.1},
        {"learning_rate": 0.2, "c": 0.7},
        {"learning_rate": 0.2, "c": 1.0},
    ],
    "mars": [
        {"learning_rate": 0.1, "gamma": 0.025, "beta1": 0.95},
        {"learning_rate": 0.1, "gamma": 0.6, "beta1": 0.5},
        {"learning_rate": 0.1, "gamma": 0.0, "beta1": 0.9},
        {"learning_rate": 0.1, "gamma": 1.0, "beta1": 0.9},
    ],
    "grokfast": [
        {"learning_rate": 0.05, "alpha": 0.98, "lamb": 2.0},
        {"learning_rate": 0.02, "alpha": 0.5, "lamb": 5.0},
        {"learning_rate": 0.05, "alpha": 0.9, "lamb": 0.0},
    ],
    "outer_nesterov": [
        {"learning_rate": 0.1, "outer_learning_rate": 0.7, "momentum": 0.9},
        {"learning_rate": 0.2, "outer_learning_rate": 0.5, "momentum": 0.3},
        {"learning_rate": 0.1, "outer_learning_rate": 0.7, "momentum": 0.0},
    ],
}

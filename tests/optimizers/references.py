"""The methods as their papers write them, in float64 NumPy.

A reference is given `gradient(t, w)` on flat vectors, the start and the number of steps, and returns all iterates, of
the shape (steps + 1, n). Its hyperparameters have the package's names; each is a number or an array with a value for
every step.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Gradient = Callable[[int, np.ndarray], np.ndarray]


def per_step(value, steps):
    return np.broadcast_to(np.asarray(value, float), (steps,))


def walk(gradient, start, steps, move, learning_rate, weight_decay, decoupled, mask):
    """From w to w + move(t, g); decay by ω·w, with the w before the step, is part of g or, times η, beside the move."""
    eta, omega = per_step(learning_rate, steps), per_step(weight_decay, steps)
    path = [np.asarray(start, float)]
    for t in range(steps):
        w = path[-1]
        decay = omega[t] * np.where(mask, w, 0.0)
        if decoupled:
            path.append(w + move(t, gradient(t, w)) - eta[t] * decay)
        else:
            path.append(w + move(t, gradient(t, w) + decay))
    return np.array(path)


def sgd(gradient: Gradient, start, steps, learning_rate, *, weight_decay=0.0, mask=True):
    eta = per_step(learning_rate, steps)
    return walk(gradient, start, steps, lambda t, g: -eta[t] * g, eta, weight_decay, False, mask)


def momentum(
    gradient: Gradient,
    start,
    steps,
    learning_rate,
    momentum=0.9,
    *,
    nesterov=False,
    convention="inside",
    dampening=0.0,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    mask=True,
):
    """Heavy ball and Nesterov without a velocity: a step is a sum over all gradients so far, each with its weight.

    Gradient s comes with the weight 1 − d_s, the very first with 1 (PyTorch's dampening), and each later step t
    multiplies it by m_t. The sum is multiplied by the rate of the step ("outside"), or each gradient by the rate of
    its own step ("inside"), which a change of the rate then rescales by η_t/η_{t−1} ("corrected": Goyal et al. 2017,
    equation 10; after a rate of 0 nothing is left to rescale). Nesterov's step is m_t times this one, and −η_t·g
    once more.
    """
    eta, m, d = (per_step(value, steps) for value in (learning_rate, momentum, dampening))
    gradients, weights = np.zeros((steps, len(start))), np.zeros(0)

    def move(t, g):
        nonlocal weights
        rescale = 1.0
        if convention == "corrected" and t > 0:
            rescale = eta[t] / eta[t - 1] if eta[t - 1] > 0 else 0.0
        gain = 1.0 if t == 0 else 1 - d[t]
        weights = np.append(m[t] * rescale * weights, gain if convention == "outside" else eta[t] * gain)
        gradients[t] = g
        total = weights @ gradients[: t + 1]
        if convention == "outside":
            total = eta[t] * total
        return -(m[t] * total + eta[t] * g) if nesterov else -total

    return walk(gradient, start, steps, move, eta, weight_decay, decoupled_weight_decay, mask)


def nesterov(*arguments, **hyperparameters):
    return momentum(*arguments, nesterov=True, **hyperparameters)


def polyak(gradient: Gradient, start, steps, learning_rate, momentum):
    """Polyak 1964, equation 9: w_{t+1} = w_t − η_t·g + m_t·(w_t − w_{t−1}), w_{−1} = w_0."""
    eta, m = per_step(learning_rate, steps), per_step(momentum, steps)
    path = [np.asarray(start, float)] * 2
    for t in range(steps):
        path.append(path[-1] - eta[t] * gradient(t, path[-1]) + m[t] * (path[-1] - path[-2]))
    return np.array(path[1:])


def sutskever_nesterov(gradient: Gradient, start, steps, learning_rate, momentum: float):
    """Sutskever et al. 2013, equations 3 and 4, v ← m·v − η_t·∇f(θ + m·v) and θ ← θ + v: the points θ + m·v."""
    eta = per_step(learning_rate, steps)
    theta, v = np.asarray(start, float), np.zeros(len(start))
    path = [theta]
    for t in range(steps):
        v = momentum * v - eta[t] * gradient(t, theta + momentum * v)
        theta = theta + v
        path.append(theta + momentum * v)
    return np.array(path)


def keras_sgd(gradient: Gradient, start, steps, learning_rate, momentum: float, *, nesterov=False, weight_decay=0.0):
    """The formulas in the documentation of `keras.optimizers.SGD`; its weight decay comes before the update."""
    eta = per_step(learning_rate, steps)
    w, velocity = np.array(start, float), np.zeros(len(start))
    path = [w.copy()]
    for t in range(steps):
        g = gradient(t, w)
        w -= w * weight_decay * eta[t]
        velocity = momentum * velocity - eta[t] * g
        w += momentum * velocity - eta[t] * g if nesterov else velocity
        path.append(w.copy())
    return np.array(path)


def qhm(
    gradient: Gradient,
    start,
    steps,
    learning_rate,
    momentum,
    nu,
    *,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    mask=True,
):
    """Ma and Yarats 2019, equations 3 and 4: a ν-weighted mean of a step of momentum and one of gradient descent."""
    alpha, beta, nu = (per_step(value, steps) for value in (learning_rate, momentum, nu))
    buffer = np.zeros(len(start))

    def move(t, g):
        nonlocal buffer
        buffer = beta[t] * buffer + (1 - beta[t]) * g
        return nu[t] * (-alpha[t] * buffer) + (1 - nu[t]) * (-alpha[t] * g)

    return walk(gradient, start, steps, move, alpha, weight_decay, decoupled_weight_decay, mask)


def aggmo(
    gradient: Gradient,
    start,
    steps,
    learning_rate,
    betas,
    weights=None,
    *,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    mask=True,
):
    """Lucas et al. 2019, equation 4: v⁽ⁱ⁾ ← β⁽ⁱ⁾·v⁽ⁱ⁾ − g, θ ← θ + γ/K·Σ v⁽ⁱ⁾; or with other weights than 1/K."""
    gamma, betas = per_step(learning_rate, steps), np.stack([per_step(beta, steps) for beta in betas])
    v = np.zeros((len(betas), len(start)))

    def move(t, g):
        nonlocal v
        v = betas[:, t, None] * v - g
        if weights is None:
            return gamma[t] * v.sum(0) / len(v)
        return gamma[t] * sum(per_step(w, steps)[t] * of_beta for w, of_beta in zip(weights, v, strict=True))

    return walk(gradient, start, steps, move, gamma, weight_decay, decoupled_weight_decay, mask)


def adaptive_restart(
    gradient: Gradient, start, steps, learning_rate, q=0.0, *, scheme="gradient", value=None, restarts=True, log=None
):
    """O'Donoghue and Candès 2012, algorithm 1 and section 3.2: x and y apart, and y, where gradients are taken, out.

    `value` is f, for the scheme "function". `log` receives for every step how clearly the condition of a restart
    holds, from −1, clearly not, to 1; `restarts=False` is the algorithm alone.
    """
    eta, q = per_step(learning_rate, steps), per_step(q, steps)
    x = y = np.asarray(start, float)
    f_of_x = np.inf
    theta = 1.0
    path = [y]
    for k in range(steps):
        g = gradient(k, y)
        x_next = y - eta[k] * g
        # θ_{k+1} is the positive root of θ² = (1 − θ)·θ_k² + q·θ.
        theta_next = max(np.roots([1.0, theta**2 - q[k], -(theta**2)]).real)
        beta = theta * (1 - theta) / (theta**2 + theta_next)
        y = x_next + beta * (x_next - x)
        theta = theta_next
        if scheme == "gradient":
            step = x_next - x
            uphill = g @ step / max(np.linalg.norm(g) * np.linalg.norm(step), 1e-300)
        else:
            f_before, f_of_x = f_of_x, value(x_next)
            uphill = -1.0 if k == 0 else (f_of_x - f_before) / max(f_of_x, f_before)
        x = x_next
        if log is not None:
            log.append(uphill)
        if restarts and uphill > 0:
            theta, y = 1.0, x
        path.append(y)
    return np.array(path)


def normalized_momentum(
    gradient: Gradient,
    start,
    steps,
    learning_rate,
    momentum=0.9,
    *,
    transported=False,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    mask=True,
):
    """Cutkosky and Mehta 2020, algorithm 1, and algorithm 2 (NIGT), whose x and w are apart here; w out.

    The look-ahead has the momentum with which the gradient there is averaged; after the last step that is anything.
    """
    eta, beta = per_step(learning_rate, steps), per_step(momentum, steps)
    beta = np.append(beta, beta[-1])
    x = w = np.asarray(start, float)
    m = None

    def move(t, g):
        nonlocal x, w, m
        m = g if m is None else beta[t] * m + (1 - beta[t]) * g
        x_next = x - eta[t] * m / (np.linalg.norm(m) or 1.0)
        ahead = beta[t + 1] / (1 - beta[t + 1]) * (x_next - x) if transported else 0.0
        w_next = x_next + ahead
        moved, x, w = w_next - w, x_next, w_next
        return moved

    return walk(gradient, start, steps, move, eta, weight_decay, decoupled_weight_decay, mask)


def cautious(gradient: Gradient, start, steps, learning_rate, momentum, xi: float, code=False):
    """Liang et al. 2024, algorithm 1, φ and α of each array by itself, around the heavy ball in the paper's signs.

    With `code` it is divided by the mean of the mask, as in the authors' program, which takes ξ for 0.
    """
    eta, m = per_step(learning_rate, steps), per_step(momentum, steps)
    b, arrays = np.zeros(len(start)), (slice(0, 10), slice(10, 11))
    path = [np.asarray(start, float)]
    for t in range(steps):
        g, w = gradient(t, path[-1]), path[-1].copy()
        b = m[t] * b + eta[t] * g
        for array in arrays:
            mask = (b[array] * g[array] > 0).astype(float)
            mask *= 1 / max(mask.mean(), 1e-3) if code else mask.size / (mask.sum() + xi)
            w[array] -= b[array] * mask
        path.append(w)
    return np.array(path)


def outer_momentum(gradient: Gradient, start, steps, learning_rate, momentum, inner_rate, *, every: int):
    """SNOO (2510.15830): slow and fast weights apart, around the heavy ball of momentum 0.9; the fast ones out."""
    eta, mu, rate = (per_step(value, steps) for value in (learning_rate, momentum, inner_rate))
    slow = fast = np.asarray(start, float)
    b = v = np.zeros(len(start))
    path = [fast]
    for t in range(steps):
        v = 0.9 * v - rate[t] * gradient(t, fast)
        fast = fast + v
        if (t + 1) % every == 0:
            k = t // every
            delta = slow - fast
            b = mu[k] * b + delta
            slow = fast = slow - eta[k] * (delta + mu[k] * b)
        path.append(fast)
    return np.array(path)


def yellowfin(gradient: Gradient, start, steps, learning_rate, *, smoothing: float, clip=False):
    """Zhang and Mitliagkas 2017, algorithms 1 to 4, averages debiased, and the slow start of the authors' program.

    With `clip`, as there, no gradient moves the parameters that exceeds √h_max, and none is measured that exceeds ten
    times that, of those before.
    """
    eta, beta = per_step(learning_rate, steps), smoothing
    averages: dict[str, Any] = {}
    window: list[float] = []
    x_before = x = np.asarray(start, float)
    h_max = math.inf
    path = [x]

    def average(name, value, t):
        averages[name] = beta * averages.get(name, 0.0) + (1 - beta) * value
        return averages[name] / (1 - beta ** (t + 1))

    for t in range(steps):
        g = moving = gradient(t, x)
        if clip:
            moving = g * min(1.0, h_max**0.5 / np.linalg.norm(g))
            g = g * min(1.0, (100 * h_max) ** 0.5 / np.linalg.norm(g))
        window = [*window, g @ g][-20:]
        h_max, h_min = average("max", max(window), t), average("min", min(window), t)
        c = max(np.sum(average("square", g * g, t) - average("gradient", g, t) ** 2), 0.0)
        d = average("distance", average("norm", np.linalg.norm(g), t) / average("h", g @ g, t), t)
        root = 0.0
        if c > 0:
            # Stationary points of x²·D² + (1 − x)⁴·C/h_min² in x = √μ.
            p = d**2 * h_min**2 / (2 * c)
            root = min(np.roots([1.0, -3.0, 3.0 + p, -1.0]), key=lambda z: abs(z.imag)).real
            # One step of Newton's: NumPy's roots have some digits less than float64.
            root -= (p * root - (1 - root) ** 3) / (p + 3 * (1 - root) ** 2)
        ratio = (h_max / h_min) ** 0.5
        mu = max(root**2, ((ratio - 1) / (ratio + 1)) ** 2)
        alpha = (1 - mu**0.5) ** 2 / h_min * min(1.0, (t + 1) / 200)
        mu, alpha = average("mu", mu, t), average("alpha", alpha, t)
        x_before, x = x, x + mu * (x - x_before) - eta[t] * alpha * moving
        path.append(x)
    return np.array(path)


def dana(gradient: Gradient, start, steps, learning_rate, gamma3, *, delta: float, kappa3: float):
    """Ferbach et al. 2025, its general momentum with Δ(t) = δ/(δ + t) and γ₁ = 1."""
    gamma2, gamma3 = per_step(learning_rate, steps), per_step(gamma3, steps)
    theta, y = np.asarray(start, float), np.zeros(len(start))
    path = [theta]
    for t in range(steps):
        g = gradient(t, theta)
        y = (1 - delta / (delta + t)) * y + g
        theta = theta - gamma2[t] * g - gamma3[t] * (1 + t) ** -kappa3 * y
        path.append(theta)
    return np.array(path)


def one_cycle(transition_steps, base_value, max_value, pct_start, steps):
    """The heights of `np.interp` along the two half cosines of PyTorch's `OneCycleLR`."""
    phase = np.interp(np.arange(steps), [0, pct_start * transition_steps, transition_steps], [0, np.pi, 2 * np.pi])
    return base_value + (max_value - base_value) / 2 * (1 + np.cos(phase))


def log_time(delta, steps):
    return 1 - delta / (delta + np.arange(steps))


def demon(init_value, decay_steps, steps):
    """Chen et al. 2019: m/(1 − m), the weight of a gradient in all later steps, falls linearly, in T steps, to 0."""
    odds = init_value / (1 - init_value) * np.clip(1 - np.arange(steps) / decay_steps, 0, None)
    return odds / (1 + odds)


def sutskever(max_value, transition_steps, steps):
    """Sutskever et al. 2013, equation 5."""
    return np.minimum(1 - 2.0 ** (-1 - np.log2(np.arange(steps) // transition_steps + 1)), max_value)

"""Each library's momentum in float64 NumPy, as the library documents it, and hyperparameters in each convention.

Gradients are given rather than taken at the iterates: all rules are linear in them, so that equal paths under given
gradients are equal paths on any loss, and rounding is not amplified.
"""

import itertools

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

STEPS = 12
# No entry is near 0, so that what enters with another factor is seen at once.
GRADS = np.random.default_rng(0).uniform(0.5, 1.5, (STEPS, 3)) * np.array([1, -1, 1])
INSIDE = ("momentum_jax", "keras")
OUTSIDE = ("optax", "torch", "ema", "qhm")
AVERAGES = ("ema", "qhm")
NAMES = (*INSIDE, *OUTSIDE, "effective")
RATE = dict.fromkeys(NAMES, "learning_rate") | {"torch": "lr", "effective": "effective_learning_rate"}
MOMENTUM = dict.fromkeys(NAMES, "momentum") | {"ema": "decay"}
PAIRS = list(itertools.product(NAMES, NAMES))
every_pair = pytest.mark.parametrize(("source", "target"), PAIRS)
few = settings(deadline=None, max_examples=6)


def at(value, t):
    return float(value(t)) if callable(value) else value


def momentum_jax(grads, *, learning_rate, momentum, nesterov=False, dampening=0.0, convention="inside"):
    """The three rules in the docstring of `momentum_jax.momentum`, and of `nesterov`."""
    p = velocity = np.zeros_like(grads[0])
    before = None
    for t, g in enumerate(grads):
        eta, m = at(learning_rate, t), at(momentum, t)
        gain = 1 - at(dampening, t) if t and m else 1
        if convention == "outside":
            velocity = m * velocity + gain * g
            p = p - eta * (m * velocity + g if nesterov else velocity)
        else:
            if convention == "corrected" and t:
                velocity = eta / before * velocity if before else 0 * velocity
            velocity = m * velocity - eta * gain * g
            p = p + (m * velocity - eta * g if nesterov else velocity)
        before = eta
        yield p


def keras(grads, *, learning_rate, momentum, nesterov=False):
    """The update rules in the documentation of `keras.optimizers.SGD`."""
    w = velocity = np.zeros_like(grads[0])
    for t, g in enumerate(grads):
        velocity = at(momentum, t) * velocity - at(learning_rate, t) * g
        w = w + (at(momentum, t) * velocity - at(learning_rate, t) * g if nesterov else velocity)
        yield w


def optax_sgd(grads, *, learning_rate, momentum, nesterov=False):
    """`optax.trace`, trace = decay * trace + t, with Nesterov applied once more; then `scale_by_learning_rate`."""
    p = trace = np.zeros_like(grads[0])
    for t, g in enumerate(grads):
        trace = at(momentum, t) * trace + g
        p = p - at(learning_rate, t) * (at(momentum, t) * trace + g if nesterov else trace)
        yield p


def torch(grads, *, lr, momentum, nesterov=False, dampening=0.0):
    """The algorithm in the documentation of `torch.optim.SGD`: without momentum dampening does nothing."""
    assert not (nesterov and at(dampening, 0)), "torch refuses it"
    theta, b = np.zeros_like(grads[0]), None
    for t, g in enumerate(grads):
        mu = at(momentum, t)
        if mu != 0:
            b = g if b is None else mu * b + (1 - at(dampening, t)) * g
            g = g + mu * b if nesterov else b
        theta = theta - at(lr, t) * g
        yield theta


def ema(grads, *, learning_rate, decay):
    """`optax.ema(decay, debias=False)`, then `scale_by_learning_rate`."""
    p = average = np.zeros_like(grads[0])
    for t, g in enumerate(grads):
        average = at(decay, t) * average + (1 - at(decay, t)) * g
        p = p - at(learning_rate, t) * average
        yield p


def qhm(grads, *, learning_rate, momentum, nu):
    """Ma and Yarats 2019, equations 3 and 4."""
    p = buffer = np.zeros_like(grads[0])
    for t, g in enumerate(grads):
        beta = at(momentum, t)
        buffer = (1 - beta) * g + beta * buffer
        p = p - at(learning_rate, t) * ((1 - nu) * g + nu * buffer)
        yield p


def effective(grads, *, effective_learning_rate, momentum, nesterov=False, reading=keras):
    """The rule `reading` at the learning rate effective·(1 − m); with constants every reading gives the same."""

    def rate(t):
        return at(effective_learning_rate, t) * (1 - at(momentum, t))

    return reading(grads, learning_rate=rate, momentum=momentum, nesterov=nesterov)


SIMULATORS = {
    "momentum_jax": momentum_jax,
    "keras": keras,
    "optax": optax_sgd,
    "torch": torch,
    "ema": ema,
    "qhm": qhm,
    "effective": effective,
}


def path(convention, hyperparameters, **further):
    return np.array(list(SIMULATORS[convention](GRADS, **hyperparameters, **further)))


def same(a, b):
    """Equal but for rounding: a conversion rounds twice, and so few steps some 1e2 times, of 1e-16 each."""
    return np.abs(a - b).max() <= 1e-13 * np.abs(a).max()


def assert_same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(a).max())


def table(values):
    """A schedule with these values."""
    values = np.array(values)
    return lambda t: values[t]


def naively(hyperparameters, source, target):
    """The conversion of constants applied to the values at each iteration, whether or not it is exact."""
    rate, m = hyperparameters[RATE[source]], hyperparameters[MOMENTUM[source]]
    nu = hyperparameters.get("nu", 1)
    nesterov = hyperparameters.get("nesterov", False) or nu == m

    def converted(t):
        plain = at(rate, t) * (1 - at(m, t) if source in (*AVERAGES, "effective") else 1)
        return plain / (1 - at(m, t) if target in (*AVERAGES, "effective") else 1)

    further = {
        "ema": {},
        "qhm": {"nu": m if nesterov else 1.0},
        "momentum_jax": {"nesterov": nesterov, "convention": "inside"},
    }
    return {RATE[target]: converted, MOMENTUM[target]: m} | further.get(target, {"nesterov": nesterov})


rates = st.floats(1e-4, 10)
momenta = st.floats(0, 0.99)
# For tests of a difference, which a small momentum would make small.
real_momenta = st.floats(0.1, 0.99)
rate_tables = st.builds(
    # Each rate is at least a tenth off the one before.
    lambda first, seed: table(
        first * np.cumprod([1, *np.random.default_rng(seed).choice([0.5, 0.9, 1.25], STEPS - 1)])
    ),
    rates,
    st.integers(0, 99),
)
momentum_tables = st.builds(
    # Each momentum is at least 0.05 off the one before.
    lambda seed: table(np.random.default_rng(seed).uniform(0.1, 0.5, STEPS) + 0.45 * (np.arange(STEPS) % 2)),
    st.integers(0, 99),
)


def written(convention, rate, m, *, nesterov=False, dampening=0.0, place="inside"):
    """The hyperparameters under a convention's names, the optional ones only if they are not the default."""
    values = {RATE[convention]: rate, MOMENTUM[convention]: m}
    if convention == "qhm":
        return values | {"nu": m if nesterov else 1.0}
    if convention == "ema":
        return values
    values |= {"nesterov": True} if nesterov else {}
    values |= {"dampening": dampening} if not isinstance(dampening, float) or dampening else {}
    return values | ({"convention": place} if convention == "momentum_jax" and place != "inside" else {})

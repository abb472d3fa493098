"""The methods as their papers write them, in float64 NumPy, and the comparison of this package with them.

A reference is given `gradient(t, w)` on flat vectors, the start and the number of steps, and returns all iterates, of
the shape (steps + 1, n). Its hyperparameters have the package's names; each is a number or an array with a value for
every step.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from tests.compiling import jit

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
    *,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    mask=True,
):
    """Lucas et al. 2019, equation 4: v⁽ⁱ⁾ ← β⁽ⁱ⁾·v⁽ⁱ⁾ − g, θ ← θ + γ/K·Σ v⁽ⁱ⁾."""
    gamma, betas = per_step(learning_rate, steps), np.stack([per_step(beta, steps) for beta in betas])
    v = np.zeros((len(betas), len(start)))

    def move(t, g):
        nonlocal v
        v = betas[:, t, None] * v - g
        return gamma[t] * v.sum(0) / len(v)

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


def demon(init_value, decay_steps, steps):
    """Chen et al. 2019: m/(1 − m), the weight of a gradient in all later steps, falls linearly, in T steps, to 0."""
    odds = init_value / (1 - init_value) * np.clip(1 - np.arange(steps) / decay_steps, 0, None)
    return odds / (1 + odds)


def sutskever(max_value, transition_steps, steps):
    """Sutskever et al. 2013, equation 5."""
    return np.minimum(1 - 2.0 ** (-1 - np.log2(np.arange(steps) // transition_steps + 1)), max_value)


N = 11
CURVATURES = np.geomspace(1.0, 0.02, N)
MASK = {"matrix": False, "deep": True}
"""A prefix of the tree of parameters."""


def tree(vectors):
    """Flat vectors, in the last axis, as parameters of two shapes."""
    return {"matrix": vectors[..., :10].reshape(*vectors.shape[:-1], 5, 2), "deep": (vectors[..., 10],)}


def flat(params):
    """The inverse, with one axis of a batch."""
    leaves = [params["matrix"], *params["deep"]]
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in leaves], axis=1)


def flat_mask(mask):
    zeros = tree(np.zeros((1, N)))
    decays = jax.tree.map(lambda decays, x: np.full(x.shape, decays), jax.tree.broadcast(mask, zeros), zeros)
    return flat(decays)[0]


def value(w, curvatures=CURVATURES):
    """The curved function Σ λ·(√(1 + w²) − 1), written so that it is exact near its minimum, where it is 0."""
    return (curvatures * w**2 / (1 + (1 + w**2) ** 0.5)).sum()


def slope(w, curvatures=CURVATURES):
    """Its gradient. The curvature λ/(1 + w²)^1.5 is anything from 0 to λ, and λ at most 1."""
    return curvatures * w / (1 + w**2) ** 0.5


def constant(number, steps):
    return np.full(steps, float(number))


def drawn(low, high, seed, steps):
    """A schedule that jumps at every step, so that a value taken at a neighbouring step is noticed."""
    return np.random.default_rng(seed).uniform(low, high, steps)


def follower(make):
    """A compiled function that walks the path of the optimizer `make(schedules)`, float64 iterates (steps + 1, N) out.

    It takes a tree of arrays of values for each step, which `make` receives as Optax schedules, the start, gradients
    (steps, N), and a factor with which the slope of the curved function is added to them.
    """

    @jit
    def path(values, start, given, bend):
        optimizer = optax.with_extra_args_support(make(jax.tree.map(lambda x: lambda count: x[count], values)))
        curvatures = tree(CURVATURES)

        def function(params):
            return sum(jax.tree.leaves(jax.tree.map(value, params, curvatures)))

        def step(carry, noise):
            params, state = carry
            gradient = jax.tree.map(lambda x, w, c: x + bend * slope(w, c), noise, params, curvatures)
            updates, state = optimizer.update(gradient, state, params, value_fn=function)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (start, optimizer.init(start)), given)[1]

    def call(values, start, given, bend):
        iterates = path(values, tree(start), tree(given), np.float64(bend))
        return np.concatenate([start[None], flat(iterates)])

    return call


def descend(optimizer, gradient, start, steps, **extra_args):
    """The iterates (steps + 1, …) of an optimizer on an array of parameters, by one compiled scan."""
    optimizer = optax.with_extra_args_support(optimizer)

    @jit
    def path(start):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(gradient(params), state, params, **extra_args)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[1]

    start = np.asarray(start, float)
    return np.concatenate([start[None], path(start)])


def start_and_gradients(steps, seed=0):
    """A start, and gradients of very different sizes: some are far smaller than the velocity."""
    rng = np.random.default_rng(seed)
    return 3 * rng.normal(size=N), rng.lognormal(sigma=1.5, size=(steps, 1)) * rng.normal(size=(steps, N))


def assert_same_path(ours, theirs, rtol=1e-12, message=""):
    """Relative to the largest coordinate of the path.

    Some 1e2 steps of some ten roundings of 1e-16 each make 1e-13 at most, where the function is convex and so
    does not magnify them, and 1e-15 as a rule; what a wrong term makes is larger than 1e-3.
    """
    assert np.isfinite(theirs).all()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * np.abs(theirs).max(), err_msg=message)


class Case(NamedTuple):
    """One rule with its options, as this package makes it and as its reference."""

    make: Callable[[Any, Any], optax.GradientTransformation]
    """(the package or a changed copy of it, schedules) → the optimizer."""
    reference: Callable[..., np.ndarray]
    values: Mapping[str, Mapping[str, Any]]
    """By name, sets of hyperparameters, with a value for each step."""


STEPS = 120


def check(case, package):
    """The path of `package` is that of the reference: on given gradients, and where errors act back on gradients.

    Raises:
      AssertionError: it is not.
    """
    follow = follower(lambda schedules: case.make(package, schedules))
    start, gradients = start_and_gradients(STEPS)
    for name, values in case.values.items():
        for bend, given in ((0.0, gradients), (1.0, np.zeros_like(gradients))):
            ours = follow(values, start, given, bend)
            theirs = case.reference(lambda t, w, g=given, b=bend: g[t] + b * slope(w), start, STEPS, **values)
            assert_same_path(ours, theirs, message=f"{name}, {'on a curve' if bend else 'given gradients'}")


CONSTANTS = {
    "learning_rate": 0.1,
    "momentum": 0.9,
    "dampening": 0.4,
    "weight_decay": 0.05,
    "nu": 0.7,
    "betas": (0.0, 0.9, 0.99),
    "q": 0.03,
}
SCHEDULES = {
    "learning_rate": (0.01, 0.2),
    "momentum": (0.3, 0.99),
    "dampening": (0.0, 1.0),
    "weight_decay": (0.0, 0.3),
    "nu": (0.0, 1.0),
    "betas": ((0.0, 0.2), (0.4, 0.9), (0.8, 0.99)),
    "q": (0.0, 0.1),
}


def hyperparameters(*names):
    """Sets of values: all constant; all changing at every step, and this without each of the optional ones."""
    constants, schedules = {}, {}
    for seed, name in enumerate(names):
        if name == "betas":
            constants[name] = tuple(constant(beta, STEPS) for beta in CONSTANTS[name])
            schedules[name] = tuple(drawn(*beta, seed + 10 * i, STEPS) for i, beta in enumerate(SCHEDULES[name]))
        else:
            constants[name] = constant(CONSTANTS[name], STEPS)
            schedules[name] = drawn(*SCHEDULES[name], seed, STEPS)
    optional = [name for name in ("dampening", "weight_decay") if name in names]
    without = {f"no {name}": {**schedules, name: constant(0, STEPS)} for name in optional}
    return {"constant": constants, "scheduled": schedules, **without}


def case(method, names, **options):
    """The method of this package with these options against the reference of the same name."""

    def make(package, schedules):
        return getattr(package, method)(**schedules, **options)

    def reference(*arguments, **values):
        flattened = {"mask": flat_mask(options["mask"])} if "mask" in options else {}
        extra = {"value": value} if options.get("scheme") == "function" else {}
        return globals()[method](*arguments, **values, **{**options, **flattened, **extra})

    return Case(make, reference, hyperparameters(*names))


DECAYS: dict[str, dict[str, Any]] = {
    "coupled": {"mask": MASK},
    "decoupled": {"mask": MASK, "decoupled_weight_decay": True},
}


def _velocity_cases(method):
    names = ["learning_rate", "momentum"]
    for convention in ("inside", "outside", "corrected"):
        plain = case(method, names, convention=convention)
        if convention == "corrected":
            plain = plain._replace(values={**plain.values, "zeros": {**plain.values["constant"], **_with_zeros()}})
        yield f"{method}, {convention}", plain
        for decay, options in DECAYS.items():
            full = case(method, [*names, "dampening", "weight_decay"], convention=convention, **options)
            yield f"{method}, {convention}, dampening, {decay} decay", full


def _with_zeros():
    """Rates with zeros: at the start, as a warm-up from 0 has, one alone, and three in a row."""
    rates = drawn(0.01, 0.2, 7, STEPS)
    rates[[0, 20, 50, 51, 52]] = 0.0
    return {"learning_rate": rates}


def _under(formula, *arguments):
    """The heavy ball with this schedule of the momentum."""

    def make(package, schedules):
        return package.momentum(**schedules, momentum=getattr(package, formula)(*arguments))

    def reference(*of_path, **values):
        return momentum(*of_path, momentum=globals()[formula](*arguments, STEPS), **values)

    return Case(make, reference, hyperparameters("learning_rate"))


CASES: dict[str, Case] = {
    "sgd": case("sgd", ["learning_rate"]),
    "sgd, decay": case("sgd", ["learning_rate", "weight_decay"], mask=MASK),
    **dict(_velocity_cases("momentum")),
    **dict(_velocity_cases("nesterov")),
    "demon": _under("demon", 0.95, 100),
    "sutskever": _under("sutskever", 0.9, 20),
    **{
        f"{method}, {decay} decay": case(method, ["learning_rate", *names, "weight_decay"], **options)
        for method, names in (("qhm", ["momentum", "nu"]), ("aggmo", ["betas"]))
        for decay, options in DECAYS.items()
    },
    **{
        f"adaptive_restart, {scheme}": case("adaptive_restart", ["learning_rate", "q"], scheme=scheme)
        for scheme in ("gradient", "function")
    },
}

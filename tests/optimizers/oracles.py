"""The comparison of this package with the methods as their papers write them, on given gradients and on a curve."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from tests.compiling import jit
from tests.optimizers import references

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
    "weights": (1.5, 0.3, 0.1),
    "q": 0.03,
}
SCHEDULES = {
    "learning_rate": (0.01, 0.2),
    "momentum": (0.3, 0.99),
    "dampening": (0.0, 1.0),
    "weight_decay": (0.0, 0.3),
    "nu": (0.0, 1.0),
    "betas": ((0.0, 0.2), (0.4, 0.9), (0.8, 0.99)),
    "weights": ((0.0, 2.0), (0.0, 0.5), (0.0, 0.1)),
    "q": (0.0, 0.1),
}


def hyperparameters(*names):
    """Sets of values: all constant; all changing at every step, and this without each of the optional ones."""
    constants, schedules = {}, {}
    for seed, name in enumerate(names):
        if name in ("betas", "weights"):
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
        return getattr(references, method)(*arguments, **values, **{**options, **flattened, **extra})

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


def _transported():
    """In steps so short that no path arrives: near a minimum a direction magnifies rounding without end."""
    values = {
        "constant": {"learning_rate": constant(0.02, STEPS), "momentum": constant(0.9, STEPS)},
        "scheduled": {"learning_rate": drawn(0.002, 0.03, 0, STEPS), "momentum": drawn(0.3, 0.9, 1, STEPS)},
    }
    decaying = {name: {**given, "weight_decay": constant(0.05, STEPS)} for name, given in values.items()}
    full = case("normalized_momentum", ["learning_rate"], transported=True, **DECAYS["decoupled"])
    return full._replace(values=decaying)


def _cautious(xi, **options):
    def make(package, schedules):
        return package.cautious(package.momentum(**schedules), xi=xi)

    def reference(*arguments, **values):
        return references.cautious(*arguments, **values, xi=xi, **options)

    return Case(make, reference, hyperparameters("learning_rate", "momentum"))


def _outer_momentum(every):
    def make(package, schedules):
        inner = package.momentum(schedules["inner_rate"], 0.9)
        return package.outer_momentum(inner, every, schedules["learning_rate"], schedules["momentum"])

    values = {
        "constant": {"learning_rate": constant(0.7, STEPS), "momentum": constant(0.8, STEPS)},
        "scheduled": {"learning_rate": drawn(0.3, 1.0, 0, STEPS), "momentum": drawn(0.3, 0.9, 1, STEPS)},
    }
    with_inner = {name: {**given, "inner_rate": drawn(0.001, 0.02, 2, STEPS)} for name, given in values.items()}
    return Case(make, functools.partial(references.outer_momentum, every=every), with_inner)


def _dana(kappa3):
    """The averages of 1 to 120 iterations grow with them, and so the factors of the two terms differ by a decade."""
    values = {
        "constant": {"learning_rate": constant(0.1, STEPS), "gamma3": constant(0.02, STEPS)},
        "scheduled": {"learning_rate": drawn(0.01, 0.2, 0, STEPS), "gamma3": drawn(0.0, 0.05, 1, STEPS)},
    }
    return Case(
        lambda package, schedules: package.dana(**schedules, delta=3.0, kappa3=kappa3),
        functools.partial(references.dana, delta=3.0, kappa3=kappa3),
        values,
    )


def _yellowfin(**options):
    """At rates of up to 1: at larger ones the path on the curve is driven apart by rounding.

    Every thirtieth gradient is a thousand times as large with clipping, more than is measured of it.
    """
    sizes = constant(1, STEPS)
    if options.get("clip"):
        sizes[29::30] = 1000

    def make(package, schedules):
        rule = package.yellowfin(schedules["learning_rate"], **options)
        return optax.chain(optax.scale_by_schedule(schedules["size"]), rule)

    def reference(gradient, *problem, size, **values):
        return references.yellowfin(lambda t, w: size[t] * gradient(t, w), *problem, **values, **options)

    values = {
        "constant": {"learning_rate": constant(1, STEPS), "size": sizes},
        "scheduled": {"learning_rate": drawn(0.3, 1, 0, STEPS), "size": sizes},
    }
    return Case(make, reference, values)


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
        return references.momentum(*of_path, momentum=getattr(references, formula)(*arguments, STEPS), **values)

    return Case(make, reference, hyperparameters("learning_rate"))


CASES: dict[str, Case] = {
    "sgd": case("sgd", ["learning_rate"]),
    "sgd, decay": case("sgd", ["learning_rate", "weight_decay"], mask=MASK),
    **dict(_velocity_cases("momentum")),
    **dict(_velocity_cases("nesterov")),
    "demon": _under("demon", 0.95, 100),
    "sutskever": _under("sutskever", 0.9, 20),
    "one_cycle": _under("one_cycle", 80, 0.6, 0.95, 0.4),
    "log_time": _under("log_time", 8.0),
    "yellowfin": _yellowfin(smoothing=0.99),
    "yellowfin, clip": _yellowfin(smoothing=0.99, clip=True),
    "dana, constant": _dana(0.0),
    "dana, decaying": _dana(0.4),
    **{
        f"{method}, {decay} decay": case(method, ["learning_rate", *names, "weight_decay"], **options)
        for method, names in (("qhm", ["momentum", "nu"]), ("aggmo", ["betas"]), ("normalized_momentum", ["momentum"]))
        for decay, options in DECAYS.items()
    },
    "aggmo, weights": case("aggmo", ["learning_rate", "betas", "weights"]),
    "cautious": _cautious(1.0),
    "cautious, as its code": _cautious(0.0, code=True),
    "outer_momentum, every step": _outer_momentum(1),
    "outer_momentum": _outer_momentum(7),
    "normalized_momentum, transported": _transported(),
    **{
        f"adaptive_restart, {scheme}": case("adaptive_restart", ["learning_rate", "q"], scheme=scheme)
        for scheme in ("gradient", "function")
    },
}

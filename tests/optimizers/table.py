"""The table of optimizers that the generic tests run on, and how they run them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax import optimizers


class Entry(NamedTuple):
    """A factory with arguments."""

    factory: Callable[..., optax.GradientTransformationExtraArgs]
    numbers: dict[str, Any]
    """The hyperparameters that may be traced: floats and tuples of floats."""
    options: dict[str, Any] = {}  # noqa: RUF012

    def make(self, **changed: Any) -> optax.GradientTransformationExtraArgs:
        return self.factory(**{**self.numbers, **self.options, **changed})


def injected(entry):
    """The optimizer of an entry, with its numbers in its state."""
    factory = optax.inject_hyperparams(entry.factory, static_args=tuple(entry.options))
    return factory(**entry.numbers, **entry.options)


def without_scalars(params):
    """A typical mask for weight decay."""
    return jax.tree.map(lambda p: p.ndim > 0, params)


def halving(method):
    """The method with a learning rate that is halved after two updates."""

    @functools.wraps(method)
    def factory(learning_rate, **others):
        return method(lambda count: learning_rate * jnp.where(count < 2, 1.0, 0.5), **others)

    return factory


def demon(method):
    def factory(learning_rate, init_value):
        return method(learning_rate, optimizers.demon(init_value, 4))

    return factory


def sutskever(method):
    def factory(learning_rate, max_value):
        return method(learning_rate, optimizers.sutskever(max_value, 2))

    return factory


def cautioned(learning_rate, momentum, xi):
    return mj.cautious(mj.momentum(learning_rate, momentum), xi=xi)


def slow(inner_rate, learning_rate, momentum, accumulator_dtype=None):
    """Outer momentum of two steps of Nesterov's method."""
    inner = mj.nesterov(inner_rate, 0.5, accumulator_dtype=accumulator_dtype)
    return mj.outer_momentum(inner, 2, learning_rate, momentum, accumulator_dtype=accumulator_dtype)


def then_rate(core):
    """The core followed by Optax's learning rate, which is a constant here since it is not what is tested."""

    @functools.wraps(core)
    def factory(**arguments):
        return optax.chain(core(**arguments), optax.scale_by_learning_rate(0.05))

    return factory


def rate_then(core):
    @functools.wraps(core)
    def factory(**arguments):
        return optax.chain(optax.scale_by_learning_rate(0.05), core(**arguments))

    return factory


DECAY = {"weight_decay": 0.02, "learning_rate": 0.05}
MASK = {"mask": without_scalars}
WIDE = {"accumulator_dtype": "float32"}
RATE = {"learning_rate": 0.05}

TABLE = {
    "sgd": Entry(mj.sgd, RATE),
    "sgd,halving,decay": Entry(halving(mj.sgd), DECAY, MASK),
    "momentum": Entry(mj.momentum, RATE | {"momentum": 0.9}),
    "momentum,outside": Entry(halving(mj.momentum), RATE | {"momentum": 0.9}, {"convention": "outside"}),
    "momentum,corrected": Entry(halving(mj.momentum), RATE | {"momentum": 0.9}, {"convention": "corrected"}),
    "momentum,dampened": Entry(mj.momentum, RATE | {"momentum": 0.9, "dampening": 0.3}),
    "momentum,decay": Entry(mj.momentum, DECAY | {"momentum": 0.9}, MASK),
    "momentum,decoupled": Entry(
        halving(mj.momentum), DECAY | {"momentum": 0.9}, MASK | {"decoupled_weight_decay": True}
    ),
    "momentum,wide": Entry(mj.momentum, RATE | {"momentum": 0.9}, WIDE),
    "momentum,demon": Entry(demon(mj.momentum), RATE | {"init_value": 0.9}),
    "momentum,sutskever": Entry(sutskever(mj.momentum), RATE | {"max_value": 0.6}),
    "nesterov": Entry(mj.nesterov, RATE | {"momentum": 0.9}),
    "nesterov,outside,dampened": Entry(
        halving(mj.nesterov), RATE | {"momentum": 0.9, "dampening": 0.3}, {"convention": "outside"}
    ),
    "nesterov,corrected": Entry(halving(mj.nesterov), RATE | {"momentum": 0.9}, {"convention": "corrected"}),
    "nesterov,decay": Entry(mj.nesterov, DECAY | {"momentum": 0.9}, MASK),
    "nesterov,everything": Entry(
        halving(mj.nesterov),
        DECAY | {"momentum": 0.9, "dampening": 0.3},
        MASK | WIDE | {"convention": "corrected", "decoupled_weight_decay": True},
    ),
    "nesterov,demon": Entry(demon(mj.nesterov), RATE | {"init_value": 0.9}),
    "nesterov,sutskever": Entry(sutskever(mj.nesterov), RATE | {"max_value": 0.6}),
    "qhm": Entry(mj.qhm, RATE | {"momentum": 0.9, "nu": 0.7}),
    "qhm,decay,wide": Entry(halving(mj.qhm), DECAY | {"momentum": 0.9, "nu": 0.7}, MASK | WIDE),
    "qhm,decoupled": Entry(mj.qhm, DECAY | {"momentum": 0.9, "nu": 0.7}, MASK | {"decoupled_weight_decay": True}),
    # Two presets of QHM's family stand for all, and for DANA: without schedules, and with.
    "mass": Entry(optimizers.mass, {"learning_rate": 0.25, "eta2": 0.02, "gamma": 0.9}),
    "grokfast": Entry(halving(optimizers.grokfast), RATE | {"alpha": 0.9, "lamb": 2.0}),
    "aggmo": Entry(mj.aggmo, {"learning_rate": 0.02, "betas": (0.0, 0.9, 0.98)}),
    "aggmo,decay,wide": Entry(halving(mj.aggmo), DECAY | {"betas": (0.0, 0.9), "weights": (1.5, 0.5)}, MASK | WIDE),
    "aggmo,decoupled": Entry(mj.aggmo, DECAY | {"betas": (0.0, 0.9)}, MASK | {"decoupled_weight_decay": True}),
    "adaptive_restart,gradient": Entry(mj.adaptive_restart, {"learning_rate": 0.95, "q": 0.0}, {"scheme": "gradient"}),
    "adaptive_restart,function": Entry(mj.adaptive_restart, {"learning_rate": 0.95, "q": 0.01}, {"scheme": "function"}),
    "adaptive_restart,wide": Entry(halving(mj.adaptive_restart), {"learning_rate": 1.0, "q": 0.01}, WIDE),
    "normalized_momentum,everything": Entry(
        halving(mj.normalized_momentum),
        DECAY | {"momentum": 0.9},
        MASK | WIDE | {"transported": True, "decoupled_weight_decay": True},
    ),
    "yellowfin": Entry(halving(mj.yellowfin), {"learning_rate": 1.0, "smoothing": 0.9}, WIDE | {"clip": True}),
    "cautious": Entry(cautioned, RATE | {"momentum": 0.9, "xi": 0.5}),
    "outer_momentum": Entry(slow, {"inner_rate": 0.05, "learning_rate": 0.7, "momentum": 0.9}, WIDE),
    "scale_by_momentum": Entry(then_rate(optimizers.scale_by_momentum), {"momentum": 0.9, "dampening": 0.3}),
    "scale_by_momentum,rate first": Entry(rate_then(optimizers.scale_by_momentum), {"momentum": 0.9}, WIDE),
    "scale_by_nesterov": Entry(then_rate(optimizers.scale_by_nesterov), {"momentum": 0.9, "dampening": 0.3}),
    "scale_by_nesterov,rate first": Entry(rate_then(optimizers.scale_by_nesterov), {"momentum": 0.9}, WIDE),
    "scale_by_qhm": Entry(then_rate(optimizers.scale_by_qhm), {"momentum": 0.9, "nu": 0.7}, WIDE),
    "scale_by_aggmo": Entry(then_rate(optimizers.scale_by_aggmo), {"betas": (0.0, 0.9), "weights": (1.5, 0.5)}, WIDE),
}
# One of each structure: for tests that compile long or do not depend on the arguments, and in the default run for all.
ONE_OF_EACH = [
    "sgd",
    "momentum",
    "momentum,corrected",
    "nesterov,everything",
    "qhm",
    "aggmo",
    "adaptive_restart,gradient",
    "adaptive_restart,function",
    "yellowfin",
    "outer_momentum",
    "scale_by_momentum",
]
# Those of them that the default run has.
BY_DEFAULT = [name for name in ONE_OF_EACH if not name.startswith(("yellowfin", "outer_momentum"))]
# For tests of wrappers, in which the structure of the optimizer matters little.
FEW = ["sgd", "momentum,corrected", "nesterov,everything", "adaptive_restart,function"]


def in_the_default_run(names, default):
    """The names as parameters, those that are not in `default` marked as exhaustive."""
    return [name if name in default else pytest.param(name, marks=pytest.mark.exhaustive) for name in names]


def entries_where(holds, names=tuple(TABLE), default=BY_DEFAULT):
    """Parametrizes a test by the names for which `holds(name)`; by default only some of them run."""
    return pytest.mark.parametrize("name", in_the_default_run(filter(holds, names), default))


every_entry = entries_where(lambda name: True)
one_of_each = entries_where(lambda name: True, ONE_OF_EACH, default=FEW)


def some_params(*dtypes):
    """A nested tree of a matrix and a scalar, in float32 or the given dtype, or one dtype for each."""
    rng = np.random.default_rng(0)
    first, second = (dtypes or ("float32",))[0], (dtypes or ("float32",))[-1]
    return {"dense": {"w": jnp.asarray(rng.normal(size=(3, 2)), first)}, "scale": jnp.asarray(rng.normal(), second)}


@jax.jit
def bowl(params):
    """½ Σ c·p² over all entries of any tree, with curvatures c from 0.8 to 1 in each leaf.

    The curvatures are so large that `adaptive_restart`, at its rates in the table, restarts within four steps.
    """

    def leaf(p):
        curvatures = jnp.asarray(np.linspace(0.8, 1, p.size).reshape(p.shape), p.dtype)
        return jnp.sum(curvatures * p * p).astype(float) / 2

    return jax.tree.reduce(jnp.add, jax.tree.map(leaf, params), jnp.zeros([], float))


@functools.cache
def gradient_of(loss):
    """The gradient of a loss, cached, and compiled if the loss is: tracing it again takes longer than most updates."""
    return jax.jit(jax.grad(loss)) if hasattr(loss, "lower") else jax.grad(loss)


gradient_of_bowl = gradient_of(bowl)


def step(optimizer, params, state, loss=bowl):
    """One step down a loss, with every argument that any method needs."""
    updates, state = optimizer.update(gradient_of(loss)(params), state, params, value_fn=loss)
    return optax.apply_updates(params, updates), state, updates


class Run(NamedTuple):
    params: Any
    state: Any
    updates: Any
    """One tree for each step."""


def run(optimizer, params, steps=4, loss=bowl, state=None):
    """Runs some steps from the parameters, and from `state` or the initial one."""
    state = optimizer.init(params) if state is None else state
    history = []
    for _ in range(steps):
        params, state, updates = step(optimizer, params, state, loss)
        history.append(updates)
    return Run(params, state, history)


def scanned(optimizer, params, steps, loss=bowl):
    """As `run`, in one scan, which compiles faster; the updates are stacked."""

    def one(carry, _):
        params, state, updates = step(optimizer, *carry, loss)
        return (params, state), updates

    (params, state), updates = jax.lax.scan(one, (params, optimizer.init(params)), length=steps)
    return Run(params, state, updates)


def shapes(tree):
    """The shape, dtype and weak type of each leaf, on which compilation depends."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


def float32(numbers):
    """The hyperparameters as float32, the dtype of a traced one."""
    return jax.tree.map(jnp.float32, numbers)


def assert_close(actual, expected, rtol, atol=0.0):
    """Asserts that two trees have the same structure and dtypes, and nearly the same values."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert a.dtype == e.dtype, where
        np.testing.assert_allclose(np.asarray(a, "float64"), np.asarray(e, "float64"), rtol, atol, err_msg=where)

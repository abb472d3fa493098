"""Every factory of an optimizer, what it takes, and the message with which it refuses something."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from momentum_jax import optimizers
from momentum_jax._base.errors import InputError

CORES = {name: getattr(optimizers, name) for name in optimizers.__all__ if name.startswith("scale_by_")}
METHODS = {name: method.factory for name, method in optimizers.available().items()}
FACTORIES = METHODS | CORES
REQUIRED = {
    "dana": {"gamma3": 0.01},
    "accelerated_sgd": {"gamma": 1.0, "alpha": 0.5, "beta": 0.5},
    "mass": {"eta2": 0.0},
    "synthesized_nesterov": {"beta1": 0.5, "beta2": 0.5},
}
TAKEN = {name: list(inspect.signature(factory).parameters) for name, factory in FACTORIES.items()}


def takers(argument):
    return [name for name, arguments in TAKEN.items() if argument in arguments]


def required(name):
    """The arguments that a factory must be given, so that any learning rate up to 1 may be put beside them."""
    rate = {"learning_rate": 0.1} if "learning_rate" in TAKEN[name] else {}
    return rate | REQUIRED.get(name, {})


def make(name, **arguments):
    """The optimizer with these arguments and those that it requires."""
    return FACTORIES[name](**required(name) | arguments)


def message(call, *args, **kwargs):
    """The message of the `InputError` that a call raises."""
    try:
        call(*args, **kwargs)
    except InputError as error:
        return str(error)
    return pytest.fail(f"not refused: {args} {kwargs}")


PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "inner": {"scale": jnp.ones(())}}


def without(tree, name):
    return {k: v for k, v in tree.items() if k != name}


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    """A model as Equinox has it: a tree that can be called, whose leaves need not be arrays."""

    w: Any
    b: Any
    activation: Any = None
    name: Any = None

    def __call__(self, x):
        return self.activation(self.w @ x + self.b)

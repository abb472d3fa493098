"""How optimizers are set beside each other: at one learning rate, or at one effective learning rate."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.space import accepts, factory_of


def at_learning_rate(
    optimizers: Mapping[str, OptimizerConfig], learning_rate: float | Schedule
) -> dict[str, OptimizerConfig]:
    """The optimizers, all with one learning rate.

    Raises:
      InputError: one has none.
    """
    for label, optimizer in optimizers.items():
        if not accepts(optimizer, "learning_rate"):
            raise InputError(f"{label!r} has no hyperparameter learning_rate")
    return {label: _with_rate(optimizer, learning_rate) for label, optimizer in optimizers.items()}


def at_effective_learning_rate(
    optimizers: Mapping[str, OptimizerConfig], effective: float
) -> dict[str, OptimizerConfig]:
    """The optimizers, each with the learning rate that makes its effective learning rate the one given.

    Raises:
      InputError: it is not defined for one of them.

    >>> sgd, momentum = OptimizerConfig("sgd", learning_rate=1.0), OptimizerConfig("momentum", momentum=0.9)
    >>> at_effective_learning_rate({"a": sgd, "b": momentum}, 0.1)["b"].hyperparameters
    {'learning_rate': 0.01, 'momentum': 0.9}
    """
    rates = {label: effective / _steps_of_a_gradient(label, optimizer) for label, optimizer in optimizers.items()}
    # Rounded as the numbers of a search are, so that 0.1·(1 − 0.9) is 0.01.
    return {label: _with_rate(optimizer, float(f"{rates[label]:.12g}")) for label, optimizer in optimizers.items()}


def effective_learning_rate_of(label: str, optimizer: OptimizerConfig) -> float:
    """What the steps add up to, in the long run, where all gradients are the same, in units of the gradient.

    η/(1 − m) with a momentum m; η for plain SGD and for QHM, whose gradients enter with the factor 1 − m; for AggMo η
    times the mean of 1/(1 − β).

    Raises:
      InputError: it is not defined: for other methods, under a schedule, with a momentum of 1.
    """
    rate = optimizer.hyperparameters.get("learning_rate")
    return _number(label, "learning_rate", rate) * _steps_of_a_gradient(label, optimizer)


def _steps_of_a_gradient(label: str, optimizer: OptimizerConfig) -> float:
    """The effective learning rate over the learning rate."""
    if optimizer.name in ("sgd", "qhm"):
        return 1.0
    if optimizer.name == "aggmo":
        return float(np.mean([1 / (1 - _number(label, "betas", beta)) for beta in _value_of(optimizer, "betas")]))
    if optimizer.name not in ("momentum", "nesterov", "optax.sgd"):
        raise InputError(f"the effective learning rate is not defined for {label!r} ({optimizer.name_text})")
    # Without a momentum Optax's is plain SGD.
    momentum = _number(label, "momentum", _value_of(optimizer, "momentum") or 0.0)
    if momentum >= 1:
        raise InputError(f"the effective learning rate of {label!r} is infinite: its momentum is {momentum:g}")
    if optimizer.name == "optax.sgd" or momentum == 0:
        # Without a momentum nothing is dampened.
        return 1 / (1 - momentum)
    of_velocity = (1 - _number(label, "dampening", _value_of(optimizer, "dampening"))) / (1 - momentum)
    # Nesterov's step adds the gradient itself, undampened, to m times the velocity.
    steps = 1 + momentum * of_velocity if optimizer.name == "nesterov" else of_velocity
    if steps == 0:
        raise InputError(
            f"the effective learning rate of {label!r} is 0 whatever its learning rate: its dampening is 1"
        )
    return steps


def _value_of(optimizer: OptimizerConfig, name: str) -> Any:
    """A hyperparameter as it is given, or its default."""
    default = inspect.signature(factory_of(optimizer)).parameters[name].default
    return optimizer.hyperparameters.get(name, default)


def _number(label: str, name: str, value: Any) -> float:
    if isinstance(value, Schedule):
        raise InputError(f"the effective learning rate is that of constants, and {name} of {label!r} is a schedule")
    if not isinstance(value, int | float):
        raise InputError(f"the effective learning rate needs a number as {name} of {label!r}, not {value!r}")
    return float(value)


def _with_rate(optimizer: OptimizerConfig, learning_rate: float | Schedule) -> OptimizerConfig:
    return OptimizerConfig(optimizer.name, **{**optimizer.hyperparameters, "learning_rate": learning_rate})

"""Effective learning rates: of a described optimizer, and the learning rate that gives one."""

import inspect
from typing import Any

import numpy as np

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import registry
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.optimizers.family import FAMILY, to_qhm

_OTHER_RATES: dict[Any, tuple[str, ...]] = {"mass": ("eta2",), "accelerated_sgd": ("gamma",)}


def effective_learning_rate_of(label: str, optimizer: OptimizerConfig) -> float:
    """The effective learning rate of an optimizer: the limit of its step at a constant gradient of 1.

    With the learning rate η, the momentum m and the dampening d:

    - plain SGD and QHM: η (the gradient enters QHM's velocity with the factor 1 − m)
    - momentum: η·(1 − d)/(1 − m)
    - Nesterov momentum: η·(1 + m·(1 − d)/(1 − m)), which is η/(1 − m) without dampening
    - AggMo: η times the mean of 1/(1 − β) over its betas, or their sum with its weights
    - a method of QHM's family: η of the QHM that it is; of y ← β·y + g; p ← p − γ₂·g − γ₃·y it is γ₂ + γ₃/(1 − β)

    It is not defined for methods whose step is not proportional to the gradient, such as Adam and normalized momentum,
    or depends on the iteration, such as DANA's.

    Raises:
      InputError: it is not defined: for other methods, under a schedule, with a momentum of 1 or a dampening of 1.
    """
    if isinstance(optimizer.name, str) and optimizer.name in FAMILY:
        names = FAMILY[optimizer.name].symbols
        values = {name: _number(label, name, _value_of(optimizer, name)) for name in names}
        return float(to_qhm(optimizer.name, values).learning_rate)
    rate = optimizer.hyperparameters.get("learning_rate")
    return _number(label, "learning_rate", rate) * _steps_of_a_gradient(label, optimizer)


def with_effective_learning_rate(label: str, optimizer: OptimizerConfig, effective: float) -> OptimizerConfig:
    """The optimizer with the learning rate that gives it this effective one, and its `other_rates` in proportion.

    Raises:
      InputError: the effective learning rate is not defined, or 0 whatever the learning rate.

    >>> with_effective_learning_rate("a", OptimizerConfig("momentum", momentum=0.9), 0.1).hyperparameters
    {'learning_rate': 0.01, 'momentum': 0.9}
    """
    scaled = ("learning_rate", *other_rates(optimizer))
    # What has no other rate needs none to begin with.
    base = optimizer.hyperparameters | ({"learning_rate": 1.0} if len(scaled) == 1 else {})
    unit = effective_learning_rate_of(label, OptimizerConfig(optimizer.name, **base))
    if unit == 0:
        raise InputError(f"the effective learning rate of {label!r} is 0, which no factor changes")
    # Twelve digits, as in a search, so that 0.1·(1 − 0.9) is 0.01.
    rates = {name: float(f"{base[name] * effective / unit:.12g}") for name in scaled}
    return OptimizerConfig(optimizer.name, **(base | rates))


def other_rates(optimizer: OptimizerConfig) -> tuple[str, ...]:
    """What grows with the learning rate, so that the QHM that a method is keeps its momentum and its ν."""
    return _OTHER_RATES.get(optimizer.name, ())


def has_effective_learning_rate(optimizer: OptimizerConfig) -> bool:
    """Whether the effective learning rate of an optimizer is defined at some learning rate."""
    try:
        with_effective_learning_rate("", optimizer, 1.0)
    except InputError:
        return False
    return True


def _steps_of_a_gradient(label: str, optimizer: OptimizerConfig) -> float:
    """The effective learning rate over the learning rate."""
    if optimizer.name in ("sgd", "qhm"):
        return 1.0
    if optimizer.name == "aggmo":
        gains = [1 / (1 - _number(label, "betas", beta)) for beta in _value_of(optimizer, "betas")]
        weights = _value_of(optimizer, "weights")
        if weights is None:
            return float(np.mean(gains))
        total = sum(_number(label, "weights", w) * gain for w, gain in zip(weights, gains, strict=True))
        if total == 0:
            raise InputError(
                f"the effective learning rate of {label!r} is 0 whatever its learning rate: its weights are 0"
            )
        return total
    if optimizer.name not in ("momentum", "nesterov", "optax.sgd"):
        raise InputError(f"the effective learning rate is not defined for {label!r} ({optimizer.name_text})")
    # `optax.sgd` has None as its default.
    momentum = _number(label, "momentum", _value_of(optimizer, "momentum") or 0.0)
    if momentum >= 1:
        raise InputError(f"the effective learning rate of {label!r} is infinite: its momentum is {momentum:g}")
    if optimizer.name == "optax.sgd" or momentum == 0:
        # `optax.sgd` has no dampening, and a momentum of 0 none to apply.
        return 1 / (1 - momentum)
    of_velocity = (1 - _number(label, "dampening", _value_of(optimizer, "dampening"))) / (1 - momentum)
    # Nesterov's step is the gradient, which is not dampened, plus m times the velocity.
    steps = 1 + momentum * of_velocity if optimizer.name == "nesterov" else of_velocity
    if steps == 0:
        raise InputError(
            f"the effective learning rate of {label!r} is 0 whatever its learning rate: its dampening is 1"
        )
    return steps


def _value_of(optimizer: OptimizerConfig, name: str) -> Any:
    """A hyperparameter's given value, or its default."""
    default = inspect.signature(registry.factory(optimizer.name)).parameters[name].default
    return optimizer.hyperparameters.get(name, default)


def _number(label: str, name: str, value: Any) -> float:
    if isinstance(value, Schedule):
        raise InputError(f"the effective learning rate is defined for constants, and {name} of {label!r} is a schedule")
    if not isinstance(value, int | float):
        raise InputError(f"the effective learning rate needs a number as {name} of {label!r}, not {value!r}")
    return float(value)

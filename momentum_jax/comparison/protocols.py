"""How optimizers are set beside each other: at one learning rate, or at one effective learning rate."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from momentum_jax._base.errors import InputError
from momentum_jax.comparison.arms import Arm
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.results.tables import text_of
from momentum_jax.space import Trial, accepts, factory_of


class PlannedProtocol(NamedTuple):
    """One way to set optimizers beside each other, before its trials are run.

    Attributes:
      title: how the optimizers are set.
      trials: by label, what to run; empty if the protocol is left out.
      skipped: why it is left out, or None.
    """

    title: str
    trials: dict[str, Trial]
    skipped: str | None


class Protocol(NamedTuple):
    """One way to set optimizers beside each other, with the runs.

    Attributes:
      title: how the optimizers are set.
      arms: by label, the runs of its trial; empty if the protocol was left out.
      skipped: why it was left out, or None.
    """

    title: str
    arms: dict[str, Arm]
    skipped: str | None


def plan_untuned(
    cfg: Config, learning_rate: float | Schedule | None, effective: float | None
) -> dict[str, PlannedProtocol]:
    """The protocols that need no tuning, by name: "same" learning rate, and "matched" effective learning rate."""
    return {
        "same": plan_same_learning_rate(cfg, learning_rate),
        "matched": plan_same_effective_learning_rate(cfg, effective),
    }


def plan_same_learning_rate(cfg: Config, learning_rate: float | Schedule | None) -> PlannedProtocol:
    """All optimizers with one learning rate, by default that of the first; left out if one has none."""
    title = "same learning rate"
    if learning_rate is None:
        first, optimizer = next(iter(cfg.optimizers.items()))
        learning_rate = optimizer.hyperparameters.get("learning_rate")
        if learning_rate is None:
            return PlannedProtocol(title, {}, f"{first!r} has no learning rate that others could have too")
    title += f", {text_of(learning_rate)}"
    try:
        optimizers = at_learning_rate(cfg.optimizers, learning_rate)
    except InputError as error:
        return PlannedProtocol(title, {}, str(error))
    return PlannedProtocol(title, _trials(cfg, optimizers), None)


def plan_same_effective_learning_rate(cfg: Config, effective: float | None) -> PlannedProtocol:
    """All optimizers with one effective learning rate, by default the largest; left out if one of them has none."""
    title = "same effective learning rate"
    try:
        if effective is None:
            effective = max(effective_learning_rate_of(label, optimizer) for label, optimizer in cfg.optimizers.items())
        title += f", {text_of(effective)}"
        optimizers = at_effective_learning_rate(cfg.optimizers, effective)
    except InputError as error:
        return PlannedProtocol(title, {}, str(error))
    return PlannedProtocol(title, _trials(cfg, optimizers), None)


def trials_of(labels: Iterable[str], planned: Mapping[str, PlannedProtocol]) -> dict[str, tuple[Trial, ...]]:
    """By label, the trials of all protocols, each once."""
    return {
        label: tuple(dict.fromkeys(p.trials[label] for p in planned.values() if label in p.trials)) for label in labels
    }


def at_learning_rate(
    optimizers: Mapping[str, OptimizerConfig], learning_rate: float | Schedule
) -> dict[str, OptimizerConfig]:
    """The optimizers, all with one learning rate.

    Raises:
      InputError: one of them has no learning rate.
    """
    for label, optimizer in optimizers.items():
        if not accepts(optimizer, "learning_rate"):
            raise InputError(f"{label!r} has no hyperparameter learning_rate")
    return {label: _with_rate(optimizer, learning_rate) for label, optimizer in optimizers.items()}


def at_effective_learning_rate(
    optimizers: Mapping[str, OptimizerConfig], effective: float
) -> dict[str, OptimizerConfig]:
    """The optimizers, each with the learning rate that gives it this effective learning rate.

    Raises:
      InputError: the effective learning rate is not defined for one of them.

    >>> sgd, momentum = OptimizerConfig("sgd", learning_rate=1.0), OptimizerConfig("momentum", momentum=0.9)
    >>> at_effective_learning_rate({"a": sgd, "b": momentum}, 0.1)["b"].hyperparameters
    {'learning_rate': 0.01, 'momentum': 0.9}
    """
    rates = {label: effective / _steps_of_a_gradient(label, optimizer) for label, optimizer in optimizers.items()}
    # Twelve digits, as in a search, so that 0.1·(1 − 0.9) is 0.01.
    return {label: _with_rate(optimizer, float(f"{rates[label]:.12g}")) for label, optimizer in optimizers.items()}


def effective_learning_rate_of(label: str, optimizer: OptimizerConfig) -> float:
    """The effective learning rate of an optimizer: the limit of its step at a constant gradient of 1.

    With the learning rate η, the momentum m and the dampening d:

    - plain SGD and QHM: η (the gradient enters QHM's velocity with the factor 1 − m)
    - momentum: η·(1 − d)/(1 − m)
    - Nesterov momentum: η·(1 + m·(1 − d)/(1 − m)), which is η/(1 − m) without dampening
    - AggMo: η times the mean of 1/(1 − β) over its betas, or their sum with its weights

    Raises:
      InputError: it is not defined: for other methods, under a schedule, with a momentum of 1 or a dampening of 1.
    """
    rate = optimizer.hyperparameters.get("learning_rate")
    return _number(label, "learning_rate", rate) * _steps_of_a_gradient(label, optimizer)


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


def _trials(cfg: Config, optimizers: Mapping[str, OptimizerConfig]) -> dict[str, Trial]:
    return {label: Trial(optimizer, cfg.batch_size) for label, optimizer in optimizers.items()}


def _value_of(optimizer: OptimizerConfig, name: str) -> Any:
    """A hyperparameter's given value, or its default."""
    default = inspect.signature(factory_of(optimizer)).parameters[name].default
    return optimizer.hyperparameters.get(name, default)


def _number(label: str, name: str, value: Any) -> float:
    if isinstance(value, Schedule):
        raise InputError(f"the effective learning rate is defined for constants, and {name} of {label!r} is a schedule")
    if not isinstance(value, int | float):
        raise InputError(f"the effective learning rate needs a number as {name} of {label!r}, not {value!r}")
    return float(value)


def _with_rate(optimizer: OptimizerConfig, learning_rate: float | Schedule) -> OptimizerConfig:
    return OptimizerConfig(optimizer.name, **{**optimizer.hyperparameters, "learning_rate": learning_rate})

"""How optimizers are set beside each other: at one learning rate, or at one effective learning rate."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from momentum_jax._base.errors import InputError
from momentum_jax.comparison.arms import Arm
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.optimizers.effective import effective_learning_rate_of, with_effective_learning_rate
from momentum_jax.results.tables import text_of
from momentum_jax.space import Trial, accepts


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
    """
    return {label: with_effective_learning_rate(label, own, effective) for label, own in optimizers.items()}


def _trials(cfg: Config, optimizers: Mapping[str, OptimizerConfig]) -> dict[str, Trial]:
    return {label: Trial(optimizer, cfg.batch_size) for label, optimizer in optimizers.items()}


def _with_rate(optimizer: OptimizerConfig, learning_rate: float | Schedule) -> OptimizerConfig:
    return OptimizerConfig(optimizer.name, **{**optimizer.hyperparameters, "learning_rate": learning_rate})

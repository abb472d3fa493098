"""How `compare` tunes: as many trials for each optimizer, on held-out examples and seeds of their own."""

import dataclasses
import inspect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from momentum_jax._base.errors import InputError, check_integer, unknown
from momentum_jax.comparison.judging import metric_of
from momentum_jax.config import Config
from momentum_jax.optimizers.description import Schedule
from momentum_jax.results.result import Result
from momentum_jax.space import BATCH_SIZE, Space, Trial, Uniform, Values, axes_of, factory_of, make_trials, text_of_axis
from momentum_jax.tasks import Task
from momentum_jax.training.validate import evaluation_names, resolve_task

TRIALS = 16


class Plan(NamedTuple):
    """What is asked for, as JSON, with the trials and the config and task of the tuning."""

    values: dict[str, Any]
    trials: dict[str, tuple[Trial, ...]]
    tuning_cfg: Config
    tuning_task: Task


def plan_tuning(
    cfg: Config,
    task: Task,
    space: Space,
    *,
    search: str,
    trials: int | None,
    search_seed: int,
    tuning_seeds: int | Sequence[int],
    validation: int | None,
    tune_by: str | None,
) -> Plan:
    """Checks what is asked for, before anything is trained; see `compare`.

    Raises:
      InputError: it cannot be used.
    """
    budget = None if search == "grid" else TRIALS if trials is None else trials
    chosen = make_trials(cfg, space, search=search, budget=budget, search_seed=search_seed)
    counts = {label: len(own) for label, own in chosen.items()}
    if len(set(counts.values())) > 1 or (trials is not None and trials not in counts.values()):
        listed = ", ".join(f"{label} {count}" for label, count in counts.items())
        asked = "" if trials is None else f", here {trials}"
        raise InputError(
            f"each optimizer must have the same number of trials{asked}, and the space gives {listed}; values under "
            "an optimizer's label are its own, and ranges with search='random' give any number"
        )
    seeds = _tuning_seeds(cfg, tuning_seeds)
    tuning_cfg = dataclasses.replace(cfg, seeds=seeds, evaluate_every=None)
    if validation is None:
        # Where no loss is evaluated on what is held out, nothing is, unless another metric of it is asked for.
        split = task.split_validation(max(1, task.num_examples // 6)) if task.num_examples > 1 else task
        held_out = tune_by is not None or "test_loss" in evaluation_names(tuning_cfg, split)
        validation = task.num_examples // 6 if held_out else 0
    check_integer("validation", validation, 0, task.num_examples - 1)
    tuning_task = task.split_validation(validation) if validation else task
    resolve_task(tuning_cfg, tuning_task)
    names = [*evaluation_names(tuning_cfg, tuning_task), "mean_loss"]
    # Without a validation split the test set is not to be tuned on.
    allowed = [name for name in names if validation or not name.startswith("test")]
    if tune_by is None:
        tune_by = next(name for name in ("test_loss", "train_loss", "mean_loss") if name in allowed)
    if tune_by not in allowed:
        raise unknown("metric to tune by", tune_by, allowed)
    axes = axes_of(cfg, space)
    plan = {
        "config": cfg.to_json(),
        "data": task.provenance.get("source", "a task of one's own"),
        "space": {label: {name: text_of_axis(values) for name, values in own.items()} for label, own in axes.items()},
        "contained": [[a, b] for a, b in itertools.permutations(cfg.optimizers, 2) if _contains(cfg, axes, a, b)],
        "search": search,
        "search_seed": search_seed,
        "trials": next(iter(counts.values())),
        "tuning_seeds": list(seeds),
        "validation": validation,
        "tune_by": tune_by,
        "schedules_replaced": [
            label
            for label, optimizer in cfg.optimizers.items()
            if any(isinstance(optimizer.hyperparameters.get(name), Schedule) for name in axes[label])
        ],
    }
    return Plan(plan, chosen, tuning_cfg, tuning_task)


def _tuning_seeds(cfg: Config, given: int | Sequence[int]) -> tuple[int, ...]:
    """Seeds that are none of the config's."""
    own = set(cfg.seed_tuple)
    # An array is as good as a list.
    given = getattr(given, "tolist", lambda: given)()
    if isinstance(given, int):
        check_integer("tuning_seeds", given, 1, 1_000_000)
        return tuple(itertools.islice((seed for seed in itertools.count() if seed not in own), given))
    shared = sorted(own & set(given))
    if shared:
        raise InputError(
            f"tuning_seeds must be none of the seeds to judge with, or the choice flatters; {shared[0]} is both"
        )
    return tuple(given)


def _contains(cfg: Config, axes: Mapping[str, Mapping[str, Values]], outer: str, inner: str) -> bool:
    """Whether all that one optimizer can be in its space, another can be in its own: momentum 0 is plain SGD."""

    def values(label: str) -> dict[str, Values]:
        return {name: (value,) for name, value in cfg.optimizers[label].items} | dict(axes[label])

    outer_values, inner_values = values(outer), values(inner)
    names = {label: cfg.optimizers[label].name for label in (outer, inner)}
    if names[inner] == "sgd" and names[outer] in ("momentum", "nesterov", "optax.sgd"):
        inner_values.setdefault("momentum", (0.0,))
    elif names[inner] != names[outer]:
        return False
    defaults = inspect.signature(factory_of(cfg.optimizers[outer])).parameters
    for name in set(outer_values) - set(inner_values):
        # What the other does not have must be able to do nothing; of a schedule's inside nothing is known.
        if name != BATCH_SIZE and name not in defaults:
            return False
        inner_values[name] = (cfg.batch_size if name == BATCH_SIZE else defaults[name].default,)
    return all(_covers(outer_values.get(name, ()), own) for name, own in inner_values.items())


def _covers(outer: Values, inner: Values) -> bool:
    if isinstance(outer, Uniform):
        ends = (inner.low, inner.high) if isinstance(inner, Uniform) else inner
        return all(isinstance(end, int | float) and outer.low <= end <= outer.high for end in ends)
    return not isinstance(inner, Uniform) and all(value in outer for value in inner)


def tuning_losses(tuning: Result, tuned_by: str) -> dict[str, Float[np.ndarray, "trials seeds"]]:
    """By label, what a tuning makes small: the metric that it goes by, of an accuracy what it lacks of 1."""
    if tuned_by == "mean_loss":
        with np.errstate(over="ignore", invalid="ignore"):
            return {label: losses.astype(np.float64).mean(axis=-1) for label, losses in tuning.losses_before.items()}
    of_labels = {label: values[..., -1].astype(np.float64) for label, values in tuning.evaluations[tuned_by].items()}
    if metric_of(tuned_by).less_is_better:
        return of_labels
    return {label: 1 - values for label, values in of_labels.items()}


def title_of_tuning(plan: Mapping[str, Any]) -> str:
    """What `tuning_losses` gives, with its unit."""
    metric = metric_of(plan["tune_by"])
    title = metric.title.replace("on the test set", "on held-out examples")
    if not metric.less_is_better:
        return f"1 − {title}"
    return f"{title} (nats)" if metric.unit == "nats" else title

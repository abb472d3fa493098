"""How `compare` tunes: as many trials for each optimizer, on held-out examples and with seeds of their own."""

import dataclasses
import inspect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from momentum_jax._base.display import counted
from momentum_jax._base.errors import InputError, check_choice, check_integer
from momentum_jax.analysis import median_of_trials
from momentum_jax.comparison.metrics import metric_of
from momentum_jax.comparison.protocols import PlannedProtocol
from momentum_jax.comparison.wording import reason_of_failures
from momentum_jax.config import MAX_SEED, Config
from momentum_jax.optimizers.description import Schedule
from momentum_jax.results.result import Result
from momentum_jax.space import (
    BATCH_SIZE,
    MAX_TRIALS,
    SEARCHES,
    Space,
    Trial,
    Uniform,
    Values,
    axes_of,
    factory_of,
    make_trials,
    text_of_axis,
)
from momentum_jax.sweeps.host import refuse_given
from momentum_jax.tasks import HostTask, Task
from momentum_jax.training.validate import evaluation_names, resolve_task

TRIALS = 16


class TuningPlan(NamedTuple):
    """What to tune, and how.

    Attributes:
      trials: by label, as many for each.
      cfg: the config with the seeds of the tuning.
      task: the task whose test set is what was held out.
      tune_by: the metric that chooses.
      values: what was asked for, as JSON, with the defaults filled in.
    """

    trials: dict[str, tuple[Trial, ...]]
    cfg: Config
    task: Task | HostTask
    tune_by: str
    values: dict[str, Any]


def plan_tuning(
    cfg: Config,
    task: Task | HostTask,
    space: Space,
    search: str,
    trials: int | None,
    search_seed: int,
    tuning_seeds: int | Sequence[int],
    validation: int | None,
    tune_by: str | None,
) -> TuningPlan:
    """Checks the options of a tuning and fills in their defaults, before anything is trained; see `compare`.

    Raises:
      InputError: one of them cannot be used.
    """
    chosen = equally_many_trials(cfg, space, search, trials, search_seed)
    seeds = seeds_apart(cfg, tuning_seeds)
    tuning_cfg = dataclasses.replace(cfg, seeds=seeds, evaluate_every=None)
    tuning_task, validation, metrics = _hold_out(tuning_cfg, task, validation, tune_by)
    tune_by = _metric_to_tune_by(tune_by, metrics, validation)
    axes = axes_of(cfg, space)
    values = {
        "config": cfg.to_json(),
        "data": task.provenance.get("source", "a task of one's own"),
        "space": {label: {name: text_of_axis(values) for name, values in own.items()} for label, own in axes.items()},
        "contained": [[a, b] for a, b in itertools.permutations(cfg.optimizers, 2) if contains(cfg, axes, a, b)],
        "search": search,
        "search_seed": search_seed,
        "trials": len(next(iter(chosen.values()))),
        "tuning_seeds": list(seeds),
        "validation": validation,
        "tune_by": tune_by,
        "schedules_replaced": [
            label
            for label, optimizer in cfg.optimizers.items()
            if any(isinstance(optimizer.hyperparameters.get(name), Schedule) for name in axes[label])
        ],
    }
    return TuningPlan(chosen, tuning_cfg, tuning_task, tune_by, values)


def equally_many_trials(
    cfg: Config, space: Space, search: str, trials: int | None, search_seed: int
) -> dict[str, tuple[Trial, ...]]:
    """The trials of the tuning; see `compare`.

    Raises:
      InputError: the optimizers would not have the same number of trials, or an option cannot be used.
    """
    check_choice("search", search, SEARCHES)
    if search == "grid" and search_seed != 0:
        raise InputError(f"search_seed {search_seed!r} is for search='random' or 'sobol'; a grid draws nothing")
    if trials is not None:
        check_integer("trials", trials, 1, MAX_TRIALS)
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
    return chosen


def default_tuning_seeds(cfg: Config, count: int) -> tuple[int, ...]:
    """The first so many seeds from a million on that are none of the config's.

    They are far from the seeds that people give, so that a comparison with more of these keeps its tuning.
    """
    return tuple(itertools.islice((seed for seed in itertools.count(1_000_000) if seed not in cfg.seed_tuple), count))


def seeds_apart(cfg: Config, given: int | Sequence[int]) -> tuple[int, ...]:
    """The given seeds to tune with, or so many by default.

    Raises:
      InputError: one of them is a seed to judge with, or none at all.
    """
    own = set(cfg.seed_tuple)
    # NumPy's arrays and integers become Python's.
    given = getattr(given, "tolist", lambda: given)()
    if isinstance(given, str) or not isinstance(given, Sequence):
        check_integer("tuning_seeds", given, 1, 1_000_000)
        return default_tuning_seeds(cfg, int(given))
    for seed in given:
        check_integer("tuning_seeds", seed, 0, MAX_SEED)
    shared = sorted(own & set(given))
    if shared:
        raise InputError(
            f"tuning_seeds must be none of the seeds to judge with, or the choice flatters; {shared[0]} is both"
        )
    return tuple(given)


def score_names(cfg: Config, task: Task | HostTask) -> list[str]:
    """The names of what a run of a task is scored by at its end."""
    return list(task.scores) if isinstance(task, HostTask) else evaluation_names(cfg, task)


def _hold_out(
    cfg: Config, task: Task | HostTask, validation: int | None, tune_by: str | None
) -> tuple[Task | HostTask, int | None, list[str]]:
    """The task to tune on, how many training examples it holds out, and the metrics that it evaluates.

    By default it holds out a sixth. If the task evaluates no loss on what is held out, and no metric is asked for, it
    holds out nothing. How many a `HostTask` holds out is known to its function alone.
    """
    if isinstance(task, HostTask):
        refuse_given(validation=validation)
        return dataclasses.replace(task, data="tuning"), None, list(task.scores)
    count = task.num_examples // 6 if validation is None else validation
    check_integer("validation", count, 0, task.num_examples - 1)
    split = task.split_validation(count) if count else task
    metrics = evaluation_names(cfg, split)
    if count and validation is None and tune_by is None and "test_loss" not in metrics:
        return task, 0, evaluation_names(cfg, task)
    resolve_task(cfg, split)
    return split, count, metrics


def _metric_to_tune_by(tune_by: str | None, metrics: Sequence[str], validation: int | None) -> str:
    # Without a validation split the test set is the one to judge by.
    allowed = [name for name in (*metrics, "mean_loss") if validation != 0 or not name.startswith("test")]
    if tune_by is None:
        return next(name for name in ("test_loss", "train_loss", "mean_loss") if name in allowed)
    check_choice("metric to tune by", tune_by, allowed)
    return tune_by


def contains(cfg: Config, axes: Mapping[str, Mapping[str, Values]], outer: str, inner: str) -> bool:
    """Whether the space of one optimizer, the outer, holds all that another can be in its own.

    Momentum with a momentum of 0 is plain SGD. If the answer is True, the outer optimizer can only lose by its tuning.
    """

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
        # What only the outer has must include its default. A name inside a schedule has no default.
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
    """By label, what the tuning minimises: the metric that it goes by, or 1 minus one of which more is better."""
    if tuned_by == "mean_loss":
        with np.errstate(over="ignore", invalid="ignore"):
            return {label: losses.astype(np.float64).mean(axis=-1) for label, losses in tuning.losses_before.items()}
    of_labels = {label: values[..., -1].astype(np.float64) for label, values in tuning.evaluations[tuned_by].items()}
    if metric_of(tuned_by).less_is_better:
        return of_labels
    return {label: 1 - values for label, values in of_labels.items()}


def best_trials(tuning: Result, tuned_by: str) -> dict[str, int]:
    """By label, the position of the trial whose median loss over the tuning's seeds is the least.

    An optimizer of which every trial failed is not in it.
    """
    medians = {
        label: median_of_trials(losses, tuning.failed[label], tuning.missing[label])
        for label, losses in tuning_losses(tuning, tuned_by).items()
    }
    return {label: int(np.argmin(own)) for label, own in medians.items() if np.isfinite(own).any()}


def plan_tuned(plan: TuningPlan, tuning: Result) -> PlannedProtocol:
    """Each optimizer with its best trial of the tuning."""
    trials = {label: plan.trials[label][best] for label, best in best_trials(tuning, plan.tune_by).items()}
    title = f"each at its best of {counted(plan.values['trials'], 'trial')}"
    if not trials:
        reasons = dict.fromkeys(reason_of_failures(tuning, label) for label in plan.trials)
        return PlannedProtocol(title, {}, f"every trial of every optimizer failed: {'; '.join(reasons)}")
    return PlannedProtocol(title, trials, None)

"""How `compare` tunes: as many trials for each optimizer, on held-out examples and with seeds of their own.

The best few trials are run again with fresh seeds, and the best of these is chosen, since the least of many medians
over a few seeds owes something to luck. An optimizer whose space contains another's chooses among its trials too.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Mapping, Sequence, Set
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
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.optimizers.effective import other_rates
from momentum_jax.results.result import Result
from momentum_jax.space import (
    BATCH_SIZE,
    EFFECTIVE,
    MAX_TRIALS,
    SEARCHES,
    LogUniform,
    ReverseLogUniform,
    Space,
    Trial,
    Uniform,
    Values,
    accepts,
    axes_of,
    factory_of,
    make_trials,
    text_of_axis,
)
from momentum_jax.sweeps.host import refuse_given
from momentum_jax.tasks import HostTask, Task
from momentum_jax.training.validate import evaluation_names, resolve_task

TRIALS = 16
_FIRST_TUNING_SEED, _FIRST_RERUN_SEED = 1_000_000, 2_000_000


class Search(NamedTuple):
    """What is tried of each optimizer, and with which seeds.

    Attributes:
      kind: "random", "sobol" or "grid".
      seed: of the draws.
      axes: what varies, by label.
      trials: by label, as many for each.
      contained: pairs of labels; the space of the first one contains that of the second.
      tuning_seeds: what each trial is run with.
      rerun_trials: how many of each optimizer, the best ones, are run again.
      rerun_seeds: what these are run with; none for no reruns.
    """

    kind: str
    seed: int
    axes: dict[str, dict[str, Values]]
    trials: dict[str, tuple[Trial, ...]]
    contained: list[list[str]]
    tuning_seeds: tuple[int, ...]
    rerun_trials: int
    rerun_seeds: tuple[int, ...]


class TuningPlan(NamedTuple):
    """What to tune, and how.

    Attributes:
      search: what is tried.
      cfg: the config with the seeds of the tuning.
      task: the task whose test set is what was held out.
      tune_by: the metric that chooses.
      values: what was asked for, as JSON, with the defaults filled in.
    """

    search: Search
    cfg: Config
    task: Task | HostTask
    tune_by: str
    values: dict[str, Any]


def default_space(optimizers: Mapping[str, OptimizerConfig]) -> Space:
    """The effective learning rate from 0.001 to 10 and the momentum from 0 to 0.99, on logarithmic scales.

    The best trials lie along a line of equal effective learning rates, so that this space has one good direction. Where
    there is no effective learning rate, the learning rate varies from 0.001 to 1.
    """
    space: dict[str, dict[str, Values]] = {}
    for label, optimizer in optimizers.items():
        if not accepts(optimizer, EFFECTIVE):
            space[label] = {"learning_rate": LogUniform(1e-3, 1.0)} if accepts(optimizer, "learning_rate") else {}
            continue
        space[label] = {EFFECTIVE: LogUniform(1e-3, 10.0)}
        if accepts(optimizer, "momentum"):
            space[label]["momentum"] = ReverseLogUniform(0.0, 0.99)
    return space


def plan_search(
    cfg: Config,
    space: Space | None,
    kind: str,
    trials: int | None,
    seed: int,
    tuning_seeds: int | Sequence[int],
    rerun_trials: int,
    rerun_seeds: int | Sequence[int],
) -> Search:
    """Checks what is to be tried, and fills in the defaults; see `compare`.

    Raises:
      InputError: an option cannot be used.
    """
    space = default_space(cfg.optimizers) if space is None else space
    chosen = equally_many_trials(cfg, space, kind, trials, seed)
    check_integer("rerun_trials", rerun_trials, 1, MAX_TRIALS)
    axes = axes_of(cfg, space)
    contained = [[a, b] for a, b in itertools.permutations(cfg.optimizers, 2) if contains(cfg, axes, a, b)]
    tuning, rerun = seeds_apart(cfg, tuning_seeds, rerun_seeds)
    return Search(kind, seed, axes, chosen, contained, tuning, rerun_trials, rerun)


def plan_tuning(
    cfg: Config, task: Task | HostTask, search: Search, validation: int | None, tune_by: str | None
) -> TuningPlan:
    """Checks the options of a tuning and fills in their defaults, before anything is trained; see `compare`.

    Raises:
      InputError: one of them cannot be used.
    """
    tuning_cfg = dataclasses.replace(cfg, seeds=search.tuning_seeds, evaluate_every=None)
    tuning_task, validation, metrics = _hold_out(tuning_cfg, task, validation, tune_by)
    tune_by = _metric_to_tune_by(tune_by, metrics, validation)
    values = {
        "config": cfg.to_json(),
        "data": task.provenance.get("source", "a task of one's own"),
        "space": {
            label: {name: text_of_axis(values) for name, values in own.items()} for label, own in search.axes.items()
        },
        "contained": search.contained,
        "search": search.kind,
        "search_seed": search.seed,
        "trials": len(next(iter(search.trials.values()))),
        "tuning_seeds": list(search.tuning_seeds),
        "rerun_trials": search.rerun_trials,
        "rerun_seeds": list(search.rerun_seeds),
        "validation": validation,
        "tune_by": tune_by,
        "schedules_replaced": [
            label
            for label, optimizer in cfg.optimizers.items()
            if any(
                isinstance(optimizer.hyperparameters.get("learning_rate" if name == EFFECTIVE else name), Schedule)
                for name in search.axes[label]
            )
        ],
    }
    return TuningPlan(search, tuning_cfg, tuning_task, tune_by, values)


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


def seeds_apart(
    cfg: Config, tuning: int | Sequence[int], rerun: int | Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The seeds to tune with and those to rerun the best trials with: the given ones, or so many by default.

    By default they are the first from a million on, and from two million on. These are far from the seeds that people
    give, so that a comparison with more of those keeps its tuning.

    Raises:
      InputError: one of them has another purpose too, or there is none at all to tune with.
    """
    judging = set(cfg.seed_tuple)
    to_tune = _seeds("tuning_seeds", tuning, 1, _FIRST_TUNING_SEED, {"to judge with": judging})
    taken = {"to judge with": judging, "to tune with": set(to_tune)}
    return to_tune, _seeds("rerun_seeds", rerun, 0, _FIRST_RERUN_SEED, taken)


def _seeds(
    name: str, given: int | Sequence[int], least: int, first: int, taken: Mapping[str, Set[int]]
) -> tuple[int, ...]:
    # NumPy's arrays and integers become Python's.
    given = getattr(given, "tolist", lambda: given)()
    if isinstance(given, str) or not isinstance(given, Sequence):
        check_integer(name, given, least, 1_000_000)
        free = (seed for seed in itertools.count(first) if not any(seed in own for own in taken.values()))
        return tuple(itertools.islice(free, int(given)))
    for seed in given:
        check_integer(name, seed, 0, MAX_SEED)
    for purpose, own in taken.items():
        if shared := sorted(own & set(given)):
            raise InputError(f"{name} must be none of the seeds {purpose}, or the choice flatters; {shared[0]} is both")
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
        optimizer, own = cfg.optimizers[label], axes[label]
        # What other rates are in proportion to stays.
        computed = {"learning_rate"} if EFFECTIVE in own and not other_rates(optimizer) else set()
        return {name: (value,) for name, value in optimizer.items if name not in computed} | dict(own)

    outer_values, inner_values = values(outer), values(inner)
    names = {label: cfg.optimizers[label].name for label in (outer, inner)}
    if names[inner] == "sgd" and names[outer] in ("momentum", "nesterov", "optax.sgd", "qhm"):
        inner_values.setdefault("momentum", (0.0,))
        # They are the same of plain SGD, whichever varies.
        rates = [inner_values.pop(name) for name in ("learning_rate", EFFECTIVE) if name in inner_values]
        inner_values |= {EFFECTIVE if EFFECTIVE in outer_values else "learning_rate": own for own in rates}
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


def best_few(tuning: Result, tuned_by: str, count: int) -> dict[str, tuple[Trial, ...]]:
    """By label, the trials with the least median losses, the best first."""
    assert tuning.trials is not None
    return {
        label: tuple(tuning.trials[label][i] for i in np.argsort(own, kind="stable")[:count])
        for label, own in _medians(tuning, tuned_by).items()
    }


def choices(result: Result, tuned_by: str, contained: Sequence[Sequence[str]]) -> dict[str, tuple[str, int]]:
    """By label, the trial with the least median loss over seeds: the label that it is a trial of, and its position.

    An optimizer of which every trial failed is not in it.

    Args:
      result: of the tuning, or of the reruns.
      tuned_by: the metric that chooses.
      contained: pairs of labels; the first one's trials are also the second one's.
    """
    medians = _medians(result, tuned_by)
    least = {label: own.min() for label, own in medians.items()}
    inner = {label: [b for a, b in contained if a == label] for label in medians}
    # Of equally good trials an optimizer takes its own.
    sources = {label: min([label, *inner[label]], key=lambda name: least[name]) for label in medians}
    return {
        label: (source, int(np.argmin(medians[source])))
        for label, source in sources.items()
        if np.isfinite(least[source])
    }


def _medians(result: Result, tuned_by: str) -> dict[str, Float[np.ndarray, " trials"]]:
    return {
        label: median_of_trials(losses, result.failed[label], result.missing[label])
        for label, losses in tuning_losses(result, tuned_by).items()
    }


def plan_tuned(plan: TuningPlan, result: Result) -> dict[str, PlannedProtocol]:
    """Each optimizer with its best trial, "tuned"; and "tuned_alone" where its own trials alone would give another.

    Args:
      plan: of the tuning.
      result: of the tuning, or of the reruns.
    """
    contained, count = plan.search.contained, plan.values["trials"]
    shared = count * max(sum(outer == label for outer, _ in contained) for label in plan.cfg.optimizers)
    of_trials = f"{count} own and up to {shared} shared trials" if shared else counted(count, "trial")
    title = f"each at its best of {of_trials}"
    chosen, alone = (choices(result, plan.tune_by, pairs) for pairs in (contained, ()))
    if not chosen:
        reasons = dict.fromkeys(reason_of_failures(result, label) for label in plan.cfg.optimizers)
        skipped = f"every trial of every optimizer failed: {'; '.join(reasons)}"
        return {"tuned": PlannedProtocol(title, {}, skipped)}
    protocols = {"tuned": PlannedProtocol(title, _trials(plan, result, chosen), None)}
    if chosen != alone:
        own = f"each at its best of {counted(count, 'own trial')}"
        protocols["tuned_alone"] = PlannedProtocol(own, _trials(plan, result, alone), None)
    return protocols


def _trials(plan: TuningPlan, result: Result, chosen: Mapping[str, tuple[str, int]]) -> dict[str, Trial]:
    """By label, the trial that was chosen, as one of its own optimizer."""
    assert result.trials is not None
    trials = {}
    for label, (source, position) in chosen.items():
        trial, name = result.trials[source][position], plan.cfg.optimizers[label].name
        if trial.optimizer.name != name:
            # Plain SGD, as `contains` has it.
            trial = trial._replace(optimizer=OptimizerConfig(name, **trial.optimizer.hyperparameters, momentum=0.0))
        trials[label] = trial
    return trials

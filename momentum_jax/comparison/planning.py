"""What `compare` is given, checked and planned before anything is trained."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from momentum_jax._base.errors import InputError, check_real, plain, shown, unknown
from momentum_jax._base.progress import Progress
from momentum_jax.comparison.counts import PlannedRuns, planned_runs
from momentum_jax.comparison.metrics import TIMES
from momentum_jax.comparison.protocols import PlannedProtocol, plan_untuned, trials_of
from momentum_jax.comparison.result import JudgingOptions
from momentum_jax.comparison.target import LEAST_RUNS
from momentum_jax.comparison.tuning import Search, TuningPlan, plan_search, plan_tuning, score_names
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule, value_text
from momentum_jax.space import Space
from momentum_jax.sweeps.host import refuse_given
from momentum_jax.sweeps.plan import HostPlan, SweepPlan, plan_sweep
from momentum_jax.tasks import HostTask, Task
from momentum_jax.training.validate import check_names, check_types, resolve_task


class PlannedComparison(NamedTuple):
    """A comparison on one task, checked before anything is trained.

    Attributes:
      cfg: with the optimizers that are compared.
      task: to judge on.
      options: how to judge.
      tuning: what to tune, and how.
      sweep: of the tuning.
      untuned: the protocols that need no tuning.
      runs: how many there are.
      values: what was asked for, as JSON.
    """

    cfg: Config
    task: Task | HostTask
    options: JudgingOptions
    tuning: TuningPlan
    sweep: SweepPlan | HostPlan
    untuned: dict[str, PlannedProtocol]
    runs: PlannedRuns
    values: dict[str, Any]


def plan_comparison(
    cfg: Config,
    labels: Sequence[str],
    *,
    space: Space | None,
    search: str,
    trials: int | None,
    search_seed: int,
    tuning_seeds: int | Sequence[int],
    rerun_trials: int,
    rerun_seeds: int | Sequence[int],
    validation: int | None,
    tune_by: str | None,
    learning_rate: float | Schedule | None,
    effective_learning_rate: float | None,
    judge_by: Sequence[str] | None,
    target: float | None,
    margin: float | None,
    level: float,
    folder: str | pathlib.Path | None,
    task: Task | HostTask | None,
    layout: str,
    progress: Progress | Literal[False] | None,
) -> PlannedComparison:
    """Checks all that `compare` is given, and plans it; see there.

    Raises:
      InputError: something that was given cannot be used.
    """
    check_types(cfg, None if isinstance(task, HostTask) else task, progress=progress, folder=folder)
    check_names(cfg.optimizers)
    cfg = _with_labels(cfg, labels)
    options = judging_options(judge_by, target, margin, level)
    # Numbers of NumPy become Python's.
    trials, validation, learning_rate, effective_learning_rate = map(
        plain, (trials, validation, learning_rate, effective_learning_rate)
    )
    _check_rates(learning_rate, effective_learning_rate)
    own_task = task is not None
    task = _resolved(cfg, task, layout)
    times = [name for name in TIMES if name != "seconds_to_target" or not isinstance(task, HostTask)]
    tried = plan_search(cfg, space, search, trials, search_seed, tuning_seeds, plain(rerun_trials), rerun_seeds)
    plan = plan_tuning(cfg, task, tried, validation, tune_by)
    check_metrics(options, [*score_names(cfg, task), "mean_loss", "failed", *times])
    untuned = plan_untuned(cfg, learning_rate, effective_learning_rate)
    sweep = plan_sweep(plan.cfg, tried.trials, plan.task)
    # Refuses here what would be refused after the tuning.
    plan_sweep(cfg, trials_of(cfg.optimizers, untuned), task)
    runs = planned_runs(tried, cfg, untuned, options.level)
    rates = {"learning_rate": learning_rate, "effective_learning_rate": effective_learning_rate}
    texts = {name: None if rate is None else _text_of_rate(rate) for name, rate in rates.items()}
    return PlannedComparison(
        cfg, task, options, plan, sweep, untuned, runs, plan.values | texts | {"own_task": own_task}
    )


def _resolved(cfg: Config, task: Task | HostTask | None, layout: str) -> Task | HostTask:
    """The task that is compared on, checked."""
    if not isinstance(task, HostTask):
        return resolve_task(cfg, task)
    refuse_given(layout=None if layout == "auto" else layout)
    if task.data != "train":
        raise InputError(f"compare tunes on tuning data and judges on train; leave out data={task.data!r}")
    return task


def _check_rates(learning_rate: float | Schedule | None, effective: float | None) -> None:
    if learning_rate is not None and not isinstance(learning_rate, Schedule):
        check_real("learning_rate", learning_rate, 0, math.inf)
    if effective is not None:
        check_real("effective_learning_rate", effective, 1e-300, math.inf)


def _text_of_rate(rate: float | Schedule) -> str:
    """The text of a rate; 1 and 1.0 are the same one."""
    return value_text(rate if isinstance(rate, Schedule) else float(rate))


def _with_labels(cfg: Config, labels: Sequence[str]) -> Config:
    for label in labels:
        if not isinstance(label, str):
            raise InputError(
                f'labels are given one by one, such as compare(cfg, "sgd", "momentum"), not {shown(label)}'
            )
        if label not in cfg.optimizers:
            raise unknown("optimizer's label", label, cfg.optimizers)
    chosen = {label: cfg.optimizers[label] for label in labels or cfg.optimizers}
    check_several(chosen)
    return dataclasses.replace(cfg, optimizers=chosen)


def check_several(optimizers: Mapping[str, OptimizerConfig]) -> None:
    if len(optimizers) < 2:
        raise InputError(f"a comparison needs two or more optimizers, not only {next(iter(optimizers))!r}")


def judging_options(
    judge_by: Sequence[str] | None, target: float | None, margin: float | None, level: float
) -> JudgingOptions:
    if judge_by is not None:
        several = isinstance(judge_by, list | tuple) and all(isinstance(name, str) for name in judge_by)
        if not (several and judge_by):
            raise InputError(
                f'judge_by must be one or more metrics by name, such as ["test_loss"], not {shown(judge_by)}'
            )
    if target is not None:
        check_real("target", target, -math.inf, math.inf)
    if margin is not None:
        check_real("margin", margin, 0, np.inf)
    check_real("level", level, 0.5, 1, below_high=True)
    options = JudgingOptions(None if judge_by is None else list(judge_by), plain(target), plain(margin), plain(level))
    if target is not None and not options.times:
        raise InputError(f"target {target!r} is used by none of the metrics in judge_by, {', '.join(judge_by or ())}")
    return options


def check_metrics(options: JudgingOptions, known: Iterable[str]) -> None:
    known = set(known)
    for name in options.judge_by or ():
        if name not in known:
            raise unknown("metric to judge by", name, known)


def check_target(options: JudgingOptions, search: Search) -> None:
    seeds = len(search.rerun_seeds or search.tuning_seeds)
    if options.judge_by is not None and options.times and options.target is None and seeds < LEAST_RUNS:
        raise InputError(
            f"judge_by: {options.times[0]} needs a target, or {LEAST_RUNS} rerun seeds to take one from, not {seeds}"
        )

"""What a sweep is to train: every trial with every seed, checked and grouped before anything compiles."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from momentum_jax.config import Config
from momentum_jax.results.record import Run
from momentum_jax.space import Trial
from momentum_jax.tasks import Metric, Task
from momentum_jax.training.groups import Group, group_runs
from momentum_jax.training.sampling import numerics
from momentum_jax.training.validate import check_optimizers, resolve_task


class SweepPlan(NamedTuple):
    """What a sweep is to train.

    Attributes:
      cfg: what all runs have where the trials do not say otherwise.
      trials: by label.
      task: given, or of the config.
      metrics: what is recorded, by name.
      groups: all runs, each once.
    """

    cfg: Config
    trials: dict[str, tuple[Trial, ...]]
    task: Task
    metrics: dict[str, Metric]
    groups: list[Group]

    def program_digests(self) -> dict[str, list[str]]:
        """By label, the digest of what an iteration of each trial computes."""
        by_run = {
            run[:2]: digest
            for group in self.groups
            for digest in [group.program_digest(self.cfg, self.task)]
            for run in group.runs
        }
        return {label: [by_run[label, i] for i in range(len(own))] for label, own in self.trials.items()}


def plan_sweep(
    cfg: Config,
    trials: Mapping[str, tuple[Trial, ...]],
    task: Task | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> SweepPlan:
    """Checks that every trial can be trained; compiles and writes nothing.

    Raises:
      InputError: an optimizer cannot be made, or the task does not fit a batch size, an optimizer or the metrics.
    """
    trials, metrics = dict(trials), dict(metrics or {})
    with numerics(cfg.dtype):
        check_optimizers((label, trial.optimizer) for label, own in trials.items() for trial in own)
        for size in sorted({trial.batch_size for own in trials.values() for trial in own}):
            task = resolve_task(dataclasses.replace(cfg, batch_size=size), task)
        assert task is not None
        return SweepPlan(cfg, trials, task, metrics, group_runs(cfg, task, metrics, all_runs(cfg, trials)))


def all_runs(cfg: Config, trials: Mapping[str, Sequence[Trial]]) -> list[Run]:
    """Lists every run of a sweep, seed by seed.

    So the whole space is seen early, and runs that are trained together share their batches.
    """
    return [
        Run(label, position, trial, seed)
        for seed in cfg.seed_tuple
        for label, own in trials.items()
        for position, trial in enumerate(own)
    ]

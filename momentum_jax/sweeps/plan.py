"""What a sweep is to train: every trial with every seed, checked and grouped before anything compiles."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from momentum_jax.config import Config
from momentum_jax.results.fingerprint import host_identity, identity
from momentum_jax.results.record import Run
from momentum_jax.space import Trial
from momentum_jax.sweeps.batches import Job
from momentum_jax.sweeps.host import HostJob, HostRuns, check_config
from momentum_jax.tasks import HostTask, Metric, Task
from momentum_jax.training.groups import Group, group_runs, task_digests
from momentum_jax.training.sampling import numerics
from momentum_jax.training.validate import abstract_variables, check_optimizers, resolve_task


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

    def identity(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """What the bits of all runs depend on, as JSON."""
        variables, computed = abstract_variables(self.cfg, self.task), task_digests(self.cfg, self.task)
        return identity(self.cfg, self.task, variables, self.metrics, computed, environment)

    def job(self, environment: dict[str, str], chunk: int, keep_params: bool) -> Job:
        """What the workers are told."""
        return Job(self.cfg, self.task, self.metrics, environment, chunk, keep_params)


class HostPlan(NamedTuple):
    """What a sweep of a `HostTask` is to train; otherwise as `SweepPlan`."""

    cfg: Config
    trials: dict[str, tuple[Trial, ...]]
    task: HostTask
    groups: list[HostRuns]

    def program_digests(self) -> dict[str, list[str]]:
        """Empty: nobody knows what an iteration computes."""
        return {label: [""] * len(own) for label, own in self.trials.items()}

    def identity(self, environment: Mapping[str, str]) -> dict[str, Any]:
        return host_identity(self.cfg, self.task, environment)

    def job(self, environment: dict[str, str], chunk: int, keep_params: bool) -> HostJob:
        del environment, chunk
        return HostJob(self.cfg, self.task, keep_params)


def plan_sweep(
    cfg: Config,
    trials: Mapping[str, tuple[Trial, ...]],
    task: Task | HostTask | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> SweepPlan | HostPlan:
    """Checks that every trial can be trained; compiles and writes nothing.

    Raises:
      InputError: an optimizer cannot be made, or the task does not fit a batch size, an optimizer or the metrics.
    """
    trials, metrics = dict(trials), dict(metrics or {})
    with numerics(cfg.dtype):
        check_optimizers((label, trial.optimizer) for label, own in trials.items() for trial in own)
        if isinstance(task, HostTask):
            check_config(cfg)
            return HostPlan(cfg, trials, task, [HostRuns(tuple(all_runs(cfg, trials)))])
        for size in sorted({trial.batch_size for own in trials.values() for trial in own}):
            task = resolve_task(dataclasses.replace(cfg, batch_size=size), task)
        assert task is not None
        groups = group_runs(cfg, task, metrics, all_runs(cfg, trials), cfg.loss_after is True)
        return SweepPlan(cfg, trials, task, metrics, groups)


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

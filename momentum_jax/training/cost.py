"""Seconds that one iteration costs, measured apart from the runs whose losses are compared."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax._base.progress import Report
from momentum_jax.config import Config
from momentum_jax.optimizers.registry import split
from momentum_jax.space import Trial
from momentum_jax.tasks import Scalars, Task
from momentum_jax.training.devices import default_devices
from momentum_jax.training.loop import train

_ITERATIONS = 300
_ROUNDS = 5


def measure_steps(
    cfg: Config, trials: Mapping[str, Sequence[Trial]], task: Task, report: Report
) -> dict[str, list[list[float]]]:
    """Seconds that one iteration of each trial takes: by label, [trials, rounds].

    Each round trains one run of each program alone on one device, for at most 300 iterations. Trials that differ only
    in traced hyperparameters share a program, which is measured once. The rounds go through all programs in turn, so
    that what slows the machine down slows all of them.

    Args:
      cfg: its first seed is trained.
      trials: by label.
      task: what is trained.
      report: told of "timing", in rounds.

    Raises:
      Interrupted: a KeyboardInterrupt during a training.
    """
    iterations = min(cfg.iterations, _ITERATIONS)
    alone = dataclasses.replace(cfg, seeds=cfg.seed_tuple[:1], iterations=iterations, evaluate_every=None)
    task = dataclasses.replace(task, evaluate=_evaluate_nothing)
    programs = {
        label: [(split(trial.optimizer)[0], trial.batch_size) for trial in own] for label, own in trials.items()
    }
    configs = {
        program: dataclasses.replace(alone, optimizers={label: trial.optimizer}, batch_size=trial.batch_size)
        for label, own in trials.items()
        for program, trial in zip(programs[label], own, strict=True)
    }
    seconds: dict[Any, list[float]] = {program: [] for program in configs}
    # The first round compiles and is not counted.
    for number in range(_ROUNDS + 1):
        report("timing", number, _ROUNDS + 1, "", whole=number / (_ROUNDS + 1))
        for program, config in configs.items():
            result = train(config, task=task, devices=default_devices()[:1], progress=False)
            if number:
                seconds[program].append(result.provenance["seconds"]["training"] / iterations)
    return {label: [seconds[program] for program in own] for label, own in programs.items()}


def runs_of_measuring(cfg: Config, programs: int) -> float:
    """How many runs of a config on all devices take about as long as `measure_steps` does, which uses only one."""
    return programs * (_ROUNDS + 1) * min(1.0, _ITERATIONS / cfg.iterations) * len(default_devices())


def _evaluate_nothing(*_: Any) -> Scalars:
    """Only iterations are timed: to compile and run an evaluation would be wasted."""
    return {}

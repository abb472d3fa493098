"""What one iteration costs, measured apart from the runs whose losses are compared."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax._base.progress import Progress, no_progress
from momentum_jax.config import Config
from momentum_jax.optimizers.registry import split
from momentum_jax.space import Trial
from momentum_jax.tasks import Task
from momentum_jax.training.devices import default_devices
from momentum_jax.training.loop import train

_ITERATIONS = 300
_ROUNDS = 5


def measure_steps(
    cfg: Config, trials: Mapping[str, Sequence[Trial]], task: Task, progress: Progress
) -> dict[str, list[list[float]]]:
    """Seconds that one iteration of each trial takes, one run alone on one device, in each of some interleaved rounds.

    Trials that differ in numbers only run one program, which is measured once.
    """
    iterations = min(cfg.iterations, _ITERATIONS)
    alone = dataclasses.replace(cfg, seeds=cfg.seed_tuple[:1], iterations=iterations, evaluate_every=None)
    keys = {label: [(split(trial.optimizer)[0], trial.batch_size) for trial in own] for label, own in trials.items()}
    configs = {
        key: dataclasses.replace(alone, optimizers={label: trial.optimizer}, batch_size=trial.batch_size)
        for label, own in trials.items()
        for key, trial in zip(keys[label], own, strict=True)
    }
    seconds: dict[Any, list[float]] = {key: [] for key in configs}
    # The first round compiles, and does not count.
    for number in range(_ROUNDS + 1):
        progress("timing", number, _ROUNDS + 1)
        for key, config in configs.items():
            result = train(config, task=task, devices=default_devices()[:1], progress=no_progress)
            if number:
                seconds[key].append(result.provenance["seconds"]["training"] / iterations)
    return {label: [seconds[key] for key in own] for label, own in keys.items()}

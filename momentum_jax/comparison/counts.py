"""How many runs a comparison trains, and whether its seeds suffice for verdicts, before anything is trained."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from momentum_jax.analysis import least_for_median, simultaneous_level
from momentum_jax.comparison.protocols import PlannedProtocol, trials_of
from momentum_jax.config import Config
from momentum_jax.space import Trial


class PlannedRuns(NamedTuple):
    """What a comparison will train.

    Attributes:
      trials: of each optimizer in the tuning.
      tuning_seeds: with which each of them is run.
      tuning: runs of the tuning.
      judging: runs of the judging at most; fewer if two protocols have a trial in common.
      pairs: of optimizers, in all protocols together.
      seeds_needed: how many seeds to judge with verdicts take.
    """

    trials: int
    tuning_seeds: int
    tuning: int
    judging: int
    pairs: int
    seeds_needed: int


def planned_runs(
    cfg: Config,
    trials: Mapping[str, Sequence[Trial]],
    tuning_seeds: Sequence[int],
    untuned: Mapping[str, PlannedProtocol],
    level: float,
) -> PlannedRuns:
    """Counts what a comparison trains.

    Args:
      cfg: the config.
      trials: of the tuning, by label.
      tuning_seeds: the seeds that each of them is run with.
      untuned: the protocols that need no tuning.
      level: the confidence level of all intervals of a metric together.
    """
    # The tuning adds a trial of each optimizer.
    to_judge = sum(map(len, trials_of(cfg.optimizers, untuned).values())) + len(cfg.optimizers)
    pairs = sum(math.comb(len(labels), 2) for labels in (*(p.trials for p in untuned.values()), cfg.optimizers))
    return PlannedRuns(
        trials=len(next(iter(trials.values()))),
        tuning_seeds=len(tuning_seeds),
        tuning=sum(map(len, trials.values())) * len(tuning_seeds),
        judging=to_judge * len(cfg.seed_tuple),
        pairs=pairs,
        seeds_needed=least_for_median(simultaneous_level(level, pairs)),
    )

"""How many runs a comparison trains, and whether its seeds suffice for verdicts, before anything is trained."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from momentum_jax.analysis import least_for_median, simultaneous_level
from momentum_jax.comparison.protocols import PlannedProtocol, trials_of
from momentum_jax.comparison.tuning import Search
from momentum_jax.config import Config


class PlannedRuns(NamedTuple):
    """What a comparison will train.

    Attributes:
      trials: of each optimizer in the tuning.
      tuning_seeds: with which each of them is run.
      tuning: runs of the tuning.
      rerun_trials: of each optimizer, the best of the tuning.
      rerunning: runs of these with fresh seeds.
      seeds: to judge with.
      judging: runs of the judging at most; fewer if two protocols have a trial in common.
      pairs: of optimizers, in all protocols together, at most.
      seeds_needed: how many seeds to judge with verdicts take.
    """

    trials: int
    tuning_seeds: int
    tuning: int
    rerun_trials: int
    rerunning: int
    seeds: int
    judging: int
    pairs: int
    seeds_needed: int


def planned_runs(search: Search, cfg: Config, untuned: Mapping[str, PlannedProtocol], level: float) -> PlannedRuns:
    """Counts what a comparison trains.

    Args:
      search: of the tuning.
      cfg: the config, with the seeds to judge with.
      untuned: the protocols that need no tuning.
      level: the confidence level of all intervals of a metric together.
    """
    # The tuning adds a trial of each optimizer, and another where a choice among its own trials alone may differ.
    alone = {outer for outer, _ in search.contained}
    to_judge = sum(map(len, trials_of(cfg.optimizers, untuned).values())) + len(cfg.optimizers) + len(alone)
    tuned = [cfg.optimizers] * (2 if alone else 1)
    pairs = sum(math.comb(len(labels), 2) for labels in (*(p.trials for p in untuned.values()), *tuned))
    trials = len(next(iter(search.trials.values())))
    rerun_trials = min(trials, search.rerun_trials)
    return PlannedRuns(
        trials=trials,
        tuning_seeds=len(search.tuning_seeds),
        tuning=trials * len(cfg.optimizers) * len(search.tuning_seeds),
        rerun_trials=rerun_trials,
        rerunning=rerun_trials * len(cfg.optimizers) * len(search.rerun_seeds),
        seeds=len(cfg.seed_tuple),
        judging=to_judge * len(cfg.seed_tuple),
        pairs=pairs,
        seeds_needed=least_for_median(simultaneous_level(level, pairs)),
    )


def fewer_runs(planned: PlannedRuns, trials: int, seeds: int) -> PlannedRuns:
    """What the same comparison trains with as many or fewer trials, and with other numbers of seeds to judge with."""
    rerun_trials = min(trials, planned.rerun_trials)
    return planned._replace(
        trials=trials,
        tuning=planned.tuning // planned.trials * trials,
        rerun_trials=rerun_trials,
        rerunning=planned.rerunning // planned.rerun_trials * rerun_trials,
        seeds=seeds,
        judging=planned.judging // planned.seeds * seeds,
    )

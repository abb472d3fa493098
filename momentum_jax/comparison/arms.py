"""The arms of a comparison: the finished runs of one optimizer with one set of hyperparameters, and their values."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from momentum_jax.comparison.metrics import worst_value
from momentum_jax.results.result import Result
from momentum_jax.space import Trial


class Arm(NamedTuple):
    """The finished runs of one trial.

    Attributes:
      trial: the optimizer and the batch size.
      seeds: the seeds of the runs.
      missing: how many runs are still to come.
      losses_before: the loss of each run on each batch before its update.
      failed: which runs failed.
      seconds_per_step: seconds that one iteration of one run takes alone on one device, in each round of
        `measure_steps`; None if it was not measured.
      values: by metric, one value for each run. A failed run counts as +inf (as −inf if more of the metric is better),
        and so does a time to a target that the run does not reach.
    """

    trial: Trial
    seeds: Int[np.ndarray, " seeds"]
    missing: int
    losses_before: Float[np.ndarray, "seeds recorded"]
    failed: Bool[np.ndarray, " seeds"]
    seconds_per_step: Float[np.ndarray, " rounds"] | None
    values: dict[str, Float[np.ndarray, " seeds"]]


def arm_of(result: Result, label: str, position: int | None) -> Arm:
    """The runs of a label in a result of `train`, or of its trial at a position in a result of `sweep`.

    The values do not hold times to a target: see `momentum_jax.comparison.target.with_times`.

    Raises:
      InputError: the histories were taken out of the result.
    """
    result.check_histories("a comparison")

    def own(values: np.ndarray) -> np.ndarray:
        return (values if position is None else values[position])[there]

    if position is None:
        trial = Trial(result.config.optimizers[label], result.config.batch_size)
        there = np.ones(len(result.config.seed_tuple), bool)
    else:
        assert result.trials is not None
        trial = result.trials[label][position]
        there = ~result.missing[label][position]
    failed = own(result.failed[label])
    losses = own(result.losses_before[label])
    at_the_end = len(result.evaluation_iterations) > 0 and result.evaluation_iterations[-1] > result.iterations[-1]
    finals = {name: own(by_label[label])[:, -1] for name, by_label in result.evaluations.items() if at_the_end}
    with np.errstate(over="ignore", invalid="ignore"):
        finals["mean_loss"] = losses.astype(np.float64).mean(axis=1)
    values = {name: _with_failures(name, numbers, failed) for name, numbers in finals.items()}
    values["failed"] = failed.astype(np.float64)
    seeds = np.asarray(result.config.seed_tuple)[there]
    return Arm(trial, seeds, int((~there).sum()), losses, failed, None, values)


def _with_failures(name: str, numbers: Any, failed: np.ndarray) -> Float[np.ndarray, " seeds"]:
    numbers = np.asarray(numbers, np.float64)
    return np.where(failed | ~np.isfinite(numbers), worst_value(name), numbers)

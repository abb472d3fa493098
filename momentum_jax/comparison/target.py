"""The target loss whose time is taken, and the times that runs take to reach it."""

import decimal
import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from momentum_jax.analysis import iterations_to, smooth_curve
from momentum_jax.comparison.arms import Arm
from momentum_jax.config import Config, recorded_iterations

LEAST_RUNS = 10
"""A target is chosen from this many runs of each optimizer or more."""


def reachable_loss(arms: Iterable[Arm], cfg: Config) -> float | None:
    """The lowest loss, rounded up to two digits, that 90 % of the runs of every arm reach in ¾ of the iterations.

    It is taken from the reruns, or without any from the tuning. The last quarter of the iterations is slack, so that
    few of the runs that are judged, which have other seeds, miss it. None if more than 10 % of an arm's runs failed.
    """
    early = recorded_iterations(cfg) < 0.75 * cfg.iterations
    lowest = []
    for arm in arms:
        lows = np.where(arm.failed, math.inf, _smoothed(arm)[:, early].min(axis=1))
        lowest.append(np.sort(lows)[len(lows) - len(lows) // 10 - 1])
    loss = max(lowest, default=math.inf)
    if math.isinf(loss):
        return None
    # The digits of the float32, since those of its value as a float64 would make 0.11 of 0.1.
    return float(decimal.Context(prec=2, rounding=decimal.ROUND_CEILING).create_decimal(str(np.float32(loss))))


def with_times(arm: Arm, cfg: Config, target: float) -> Arm:
    """The arm with "iterations_to_target", and "seconds_to_target" if its iterations were timed.

    The time is that of the first recorded iteration at which the smoothed loss before the update (`smooth_curve`) is
    at most the target, both as float32. It is +inf for a run that misses the target or failed.

    With `record_every` k the smoothing spans 10·k + 1 iterations, so that times of different k are not comparable. A
    window of 11 iterations would hold fewer losses, and their noise would reach a target much too soon.
    """
    with np.errstate(over="ignore"):
        level = float(np.float32(target))
    times = np.where(arm.failed, math.inf, iterations_to(_smoothed(arm), recorded_iterations(cfg), level))
    values = arm.values | {"iterations_to_target": times}
    if arm.seconds_per_step is not None:
        values["seconds_to_target"] = times * np.median(arm.seconds_per_step)
    return arm._replace(values=values)


def _smoothed(arm: Arm) -> Float[np.ndarray, "seeds recorded"]:
    """The smoothed losses before the update as float32, in which a constant loss is equal to itself."""
    with np.errstate(over="ignore"):
        return smooth_curve(arm.losses_before).astype(np.float32)

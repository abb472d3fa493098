"""The numbers of a verdict: intervals of the differences between two optimizers whose runs are paired by seed."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from momentum_jax.analysis import (
    Interval,
    least_for_median,
    mean_interval,
    median_interval,
    paired_differences,
    proportion_difference_interval,
    wins_interval,
)
from momentum_jax.comparison.arms import Arm
from momentum_jax.comparison.metrics import median_of, metric_of
from momentum_jax.comparison.verdict import Outcome, Verdict
from momentum_jax.comparison.wording import sentence_of

PairValues = Float[np.ndarray, " pairs"]
Bounds = tuple[PairValues, PairValues]
"""The lower and the upper bound of each pair's difference. They are equal where the difference is known."""


def judge(
    protocol: str,
    metric: str,
    arms: Mapping[str, Arm],
    a: str,
    b: str,
    *,
    level: float,
    margin: float | None,
    target: float | None,
) -> Verdict:
    """The verdict on the runs of a, held against the runs of b with the same seeds.

    Args:
      protocol: the name of the protocol.
      metric: a key of the arms' values.
      arms: by label.
      a: a label.
      b: another.
      level: the confidence level of the intervals.
      margin: the largest difference that counts as none: a proportion of b's median, or for a metric that is a
        proportion itself an absolute difference. None for no such margin.
      target: the loss that times are taken to, for the sentence.
    """
    _, of_a, of_b = np.intersect1d(arms[a].seeds, arms[b].seeds, return_indices=True)
    x, y = arms[a].values[metric][of_a], arms[b].values[metric][of_b]
    bounds = _bounds_of_differences(metric, x, y, arms[a], arms[b])
    difference, mean = _difference(metric, x, y, bounds, level), _mean(metric, bounds, level)
    enough = len(x) >= least_for_median(level)
    outcome = _outcome(difference, _absolute_margin(metric, margin, y)) if enough else "no verdict"
    if not metric_of(metric).less_is_better:
        difference, mean = _mirrored(difference), _mirrored(mean)
    verdict = Verdict(
        protocol=protocol,
        metric=metric,
        a=a,
        b=b,
        pairs=len(x),
        median_a=median_of(metric, x),
        median_b=median_of(metric, y),
        difference=difference,
        mean=mean,
        wins=wins_interval(*bounds, level),
        outcome=outcome,
        sentence="",
    )
    return verdict._replace(sentence=sentence_of(verdict, margin, target))


def _bounds_of_differences(metric: str, x: PairValues, y: PairValues, a: Arm, b: Arm) -> Bounds:
    """Bounds of the differences x − y, or of y − x if more of the metric is better: negative where a does better."""
    if metric == "seconds_to_target" and a.seconds_per_step is not None and b.seconds_per_step is not None:
        return _bounds_in_seconds(x, y, a.seconds_per_step, b.seconds_per_step)
    sign = 1.0 if metric_of(metric).less_is_better else -1.0
    return paired_differences(sign * x, sign * y)


def _bounds_in_seconds(
    x: PairValues, y: PairValues, step_a: Float[np.ndarray, " rounds"], step_b: Float[np.ndarray, " rounds"]
) -> Bounds:
    """Bounds of the differences in seconds, from the least and the greatest ratio of the steps' costs in any round.

    A round times both, so that what slows the machine down for a whole round leaves its ratio as it is.
    """
    iterations = x / np.median(step_a)
    least, most = np.median(step_b) * np.quantile(step_a / step_b, [0, 1])
    return paired_differences(iterations * least, y)[0], paired_differences(iterations * most, y)[1]


def _difference(metric: str, x: PairValues, y: PairValues, bounds: Bounds, level: float) -> Interval:
    """The interval that the outcome rests on, negative where a does better."""
    if metric == "failed":
        return proportion_difference_interval(x > 0, y > 0, level)
    interval = median_interval(*bounds, level)
    if metric == "seconds_to_target" and not _are_exact(bounds):
        # The bounds leave the median open; the medians of the rounds do not.
        return interval._replace(value=median_interval(*paired_differences(x, y), level).value)
    return interval


def _mean(metric: str, bounds: Bounds, level: float) -> Interval:
    """The mean of the differences; NaN for proportions, and if a difference is infinite or not known."""
    if metric == "failed" or not _are_exact(bounds) or not np.isfinite(bounds[0]).all():
        return Interval(math.nan, math.nan, math.nan, level)
    return mean_interval(bounds[0], level)


def _are_exact(bounds: Bounds) -> bool:
    return bool((bounds[0] == bounds[1]).all())


def _mirrored(interval: Interval) -> Interval:
    """The interval of b − a from that of a − b."""
    return Interval(-interval.value, -interval.high, -interval.low, interval.level)


def _absolute_margin(metric: str, margin: float | None, y: PairValues) -> float | None:
    if margin is None or metric_of(metric).unit == "proportion":
        return margin
    reference = median_of(metric, y)
    return margin * abs(reference) if np.isfinite(reference) else math.nan


def _outcome(difference: Interval, margin: float | None) -> Outcome:
    """What the interval of a difference says of a, if a negative difference is the better."""
    low, high = difference.low, difference.high
    if math.isnan(low) or math.isnan(high) or (low, high) == (-math.inf, math.inf):
        return "no verdict"
    if margin is not None and -margin <= low and high <= margin:
        return "equivalent"
    if high < 0:
        return "better"
    return "worse" if low > 0 else "no difference found"

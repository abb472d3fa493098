"""Medians of the trials of a sweep, the axes on which the best trial lies at an end, and what other searches find."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from momentum_jax._base.errors import is_number


def median_of_trials(
    losses: Float[np.ndarray, "trials seeds"],
    failed: Bool[np.ndarray, "trials seeds"],
    missing: Bool[np.ndarray, "trials seeds"],
) -> Float[np.ndarray, " trials"]:
    """The median loss of each trial over its seeds, where a failed run counts as +inf.

    Missing runs are left out. A trial without any run has the median +inf.

    >>> losses = np.array([[1.0, 2.0, 9.0], [3.0, 3.0, 3.0]])
    >>> failed = np.array([[False, False, False], [True, True, False]])
    >>> median_of_trials(losses, failed, np.zeros_like(failed)).tolist()
    [2.0, inf]
    """
    values = np.where(failed | ~np.isfinite(losses), np.inf, losses.astype(np.float64))
    medians = np.full(len(values), np.inf)
    complete, some = ~missing.any(axis=1), ~missing.all(axis=1)
    medians[complete] = np.median(values[complete], axis=1)
    for i in np.flatnonzero(some & ~complete):
        medians[i] = np.median(values[i, ~missing[i]])
    return medians


def best_of_another_search(medians: Float[np.ndarray, " trials"], level: float) -> float:
    """What the best trial of another search, of as many trials, does not exceed: a prediction limit.

    Of two searches with N independent draws each, the k least of all 2N values are the first one's with the probability
    Π (N − i)/(2N − i) over i < k, whatever the distribution. So often the least value of the second exceeds the k-th
    least of the first. The limit is that of the smallest k for which this is at most 1 − level. Draws that fill the
    space more evenly than independent ones vary less.

    Args:
      medians: the values of the first search; +inf for a trial that failed.
      level: between 0 and 1.

    Returns:
      A value of the first search, or +inf where it has too few trials for the level.

    >>> best_of_another_search(np.arange(16.0), 0.95)
    4.0
    """
    ordered, exceeded, count = np.sort(medians), 1.0, len(medians)
    for k in range(count):
        exceeded *= (count - k) / (2 * count - k)
        if exceeded <= 1 - level:
            return float(ordered[k])
    return np.inf


def ends_of_axes(axes: Mapping[str, Sequence[Any]], best: int) -> dict[str, tuple[str, float]]:
    """The numeric axes on which the best trial has the lowest or the highest value that was tried.

    Where a best trial lies at an end of an axis, a wider range may hold a better one.

    Args:
      axes: the values of the trials, by the name of the axis.
      best: the position of the best trial.

    Returns:
      "lowest" or "highest" and the value, by the name of the axis.

    >>> ends_of_axes({"learning_rate": [0.1, 0.2, 0.4], "momentum": [0.9, 0.5, 0.0]}, best=2)
    {'learning_rate': ('highest', 0.4), 'momentum': ('lowest', 0.0)}
    """
    ends = {}
    for name, values in axes.items():
        if all(map(is_number, values)):
            if values[best] == max(values):
                ends[name] = ("highest", values[best])
            elif values[best] == min(values):
                ends[name] = ("lowest", values[best])
    return ends

"""What the trials of a sweep come to, and where the best lies among them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


def median_of_trials(
    losses: Float[np.ndarray, "trials seeds"],
    failed: Bool[np.ndarray, "trials seeds"],
    missing: Bool[np.ndarray, "trials seeds"],
) -> Float[np.ndarray, " trials"]:
    """The median loss of each trial over its seeds, where a failed run counts as +inf.

    Runs that are missing do not count; a trial without any is +inf.

    >>> losses = np.array([[1.0, 2.0, 9.0], [3.0, 3.0, 3.0]])
    >>> failed = np.array([[False, False, False], [True, True, False]])
    >>> median_of_trials(losses, failed, np.zeros_like(failed)).tolist()
    [2.0, inf]
    """
    values = np.where(failed | ~np.isfinite(losses), np.inf, losses.astype(np.float64))
    medians = np.full(len(values), np.inf)
    for i, there in enumerate(~missing):
        if there.any():
            ordered = np.sort(values[i, there])
            middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
            medians[i] = middle.mean() if np.isfinite(middle).all() else np.inf
    return medians


def ends_of_axes(axes: Mapping[str, Sequence[Any]], best: int) -> dict[str, tuple[str, float]]:
    """The numeric axes on which the best trial has the lowest or highest value that was tried, and that value.

    Args:
      axes: by name, the value of each trial.
      best: the position of the best trial.

    >>> ends_of_axes({"learning_rate": [0.1, 0.2, 0.4], "momentum": [0.9, 0.5, 0.0]}, best=2)
    {'learning_rate': ('highest', 0.4), 'momentum': ('lowest', 0.0)}
    """
    ends = {}
    for name, values in axes.items():
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            if values[best] == max(values):
                ends[name] = ("highest", values[best])
            elif values[best] == min(values):
                ends[name] = ("lowest", values[best])
    return ends

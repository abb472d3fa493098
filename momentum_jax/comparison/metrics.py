"""The metrics that optimizers are judged by: title, unit, which way is better, and the summary over runs."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

TIMES = ("iterations_to_target", "seconds_to_target")
LOSSES = ("train_loss", "test_loss", "mean_loss")
"""The unit of these is that of the task's loss, `momentum_jax.results.summary.loss_unit`."""


class MetricDescription(NamedTuple):
    """The title and unit of a metric, and whether less of it is better."""

    title: str
    unit: str
    less_is_better: bool = True


METRICS = {
    "train_loss": MetricDescription("loss on the training set", ""),
    "test_loss": MetricDescription("loss on the test set", ""),
    "test_accuracy": MetricDescription("accuracy on the test set", "proportion", less_is_better=False),
    "iterations_to_target": MetricDescription("iterations to the target", "iterations"),
    "seconds_to_target": MetricDescription("seconds to the target", "seconds"),
    "mean_loss": MetricDescription("mean loss over the run", ""),
    "failed": MetricDescription("proportion of failed runs", "proportion"),
}


def metric_of(name: str) -> MetricDescription:
    """The description of a metric: one of `METRICS`, or one for a name that a task's own evaluation gives.

    Of a metric whose name ends in "accuracy" more is better, of every other metric less.
    """
    return METRICS.get(name) or MetricDescription(name.replace("_", " "), "", not name.endswith("accuracy"))


def unit_of(name: str, loss_unit: str) -> str:
    """The unit of a metric, which of losses is the one given."""
    return loss_unit if name in LOSSES else metric_of(name).unit


def importance(name: str) -> tuple[bool, bool]:
    """The order of metrics, for sorting: the loss on the training set decides and comes first, "failed" comes last.

    >>> sorted(["failed", "test_loss", "train_loss"], key=importance)
    ['train_loss', 'test_loss', 'failed']
    """
    return name == "failed", name != "train_loss"


def worst_value(name: str) -> float:
    """What a failed run counts as: +inf, or −inf if more of the metric is better."""
    return math.inf if metric_of(name).less_is_better else -math.inf


def median_of(metric: str, values: Float[np.ndarray, " runs"]) -> float:
    """The median over runs, which may be infinite; of "failed" the proportion. NaN without any run."""
    return median(values) if metric != "failed" or not len(values) else float(values.mean())


def median(values: Float[np.ndarray, " runs"]) -> float:
    """The median of values, of which failed runs are infinite: an infinity if one of the middle two is, NaN of none."""
    if not len(values):
        return math.nan
    ordered = np.sort(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    # The distance between equal infinities is NaN, and half of that from −inf does not lead back.
    return float(low if low == high or np.isneginf(low) else low + (high - low) / 2)

"""Functions of arrays: what can be said about results without training anything.

`momentum_jax.analysis.theory` and `momentum_jax.analysis.sharpness` are imported by their own names: they need JAX.
"""

from momentum_jax.analysis.paths import descent_cosines, energy, nearest_minimum, overshoot, path_length, zigzag
from momentum_jax.analysis.smoothing import first_reached, smooth_curve
from momentum_jax.analysis.statistics import (
    Interval,
    expected_best,
    interquartile_mean_interval,
    iterations_to,
    mean_interval,
    median_interval,
    paired_differences,
    proportion_difference_interval,
    proportion_interval,
    simultaneous_level,
    tolerated_range,
    wins_interval,
)
from momentum_jax.analysis.trials import ends_of_axes, median_of_trials

__all__ = [
    "Interval",
    "descent_cosines",
    "ends_of_axes",
    "energy",
    "expected_best",
    "first_reached",
    "interquartile_mean_interval",
    "iterations_to",
    "mean_interval",
    "median_interval",
    "median_of_trials",
    "nearest_minimum",
    "overshoot",
    "paired_differences",
    "path_length",
    "proportion_difference_interval",
    "proportion_interval",
    "simultaneous_level",
    "smooth_curve",
    "tolerated_range",
    "wins_interval",
    "zigzag",
]

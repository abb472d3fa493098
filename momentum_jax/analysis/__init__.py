"""Analysis: statistics of runs, trials and tasks, smoothing, measures of paths, theory on quadratics and sharpness.

It exports pure functions of arrays. Those below need NumPy and SciPy only. `theory` and `noise` (closed forms),
`sharpness` (top Hessian eigenvalues) and `curvature` (of mini-batches and examples) are modules of their own, because
they load JAX.
Nothing here trains, reads files or knows a config or a result.
"""

from momentum_jax.analysis.paths import descent_cosines, energy, nearest_minimum, overshoot, path_length, zigzag
from momentum_jax.analysis.profiles import (
    interval_over_tasks,
    log_time_ratios,
    performance_profile,
    performance_ratios,
    task_scores,
)
from momentum_jax.analysis.smoothing import first_reached, smooth_curve
from momentum_jax.analysis.statistics import (
    Interval,
    expected_best,
    iterations_to,
    least_for_median,
    mean_interval,
    median_half_width,
    median_interval,
    paired_differences,
    proportion_difference_interval,
    proportion_interval,
    simultaneous_level,
    tolerated_range,
    wins_interval,
)
from momentum_jax.analysis.trials import best_of_another_search, ends_of_axes, median_of_trials

__all__ = [
    "Interval",
    "best_of_another_search",
    "descent_cosines",
    "ends_of_axes",
    "energy",
    "expected_best",
    "first_reached",
    "interval_over_tasks",
    "iterations_to",
    "least_for_median",
    "log_time_ratios",
    "mean_interval",
    "median_half_width",
    "median_interval",
    "median_of_trials",
    "nearest_minimum",
    "overshoot",
    "paired_differences",
    "path_length",
    "performance_profile",
    "performance_ratios",
    "proportion_difference_interval",
    "proportion_interval",
    "simultaneous_level",
    "smooth_curve",
    "task_scores",
    "tolerated_range",
    "wins_interval",
    "zigzag",
]

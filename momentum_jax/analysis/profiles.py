"""Performance profiles: how close each optimizer comes to the best on every task, and means over tasks.

A time is the one to a target, such as iterations; a run that misses it counts as +inf. A task's time is the median over
its seeds. Coverages were simulated by experiments/coverage_simulation.py, and README.md has the table.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

# SciPy loads its submodules on first use, so that this import costs next to nothing.
import scipy
from jaxtyping import Float

from momentum_jax.analysis.statistics import Interval

LIMIT = 4.0
"""A time of this many times the best or more counts as missed, in scores and means."""
LEAST_TASKS = 3
"""From so many tasks on, `interval_over_tasks` has ends."""


def performance_ratios(times: Float[np.ndarray, "optimizers tasks"]) -> Float[np.ndarray, "optimizers tasks"]:
    """The time of each optimizer over the best one on the same task: r = t_s / min over s of t_s.

    Args:
      times: float [optimizers, tasks], none negative or NaN; +inf where the target was missed.

    Returns:
      float64, of the same shape, 1 or more; +inf where the target was missed, also if all optimizers missed it.

    Raises:
      ValueError: a NaN, or a time that is not positive.

    References:
      Dolan and Moré, Benchmarking optimization software with performance profiles, 2002, equation 2.1.

    >>> performance_ratios(np.array([[10.0, 40.0], [20.0, np.inf]])).tolist()
    [[1.0, 1.0], [2.0, inf]]
    """
    taken = _times(times)
    best = taken.min(axis=0, keepdims=True)
    ratios = np.full_like(taken, np.inf)
    np.divide(taken, best, out=ratios, where=np.isfinite(taken))
    return ratios


def performance_profile(
    ratios: Float[np.ndarray, "optimizers tasks"], factors: Float[np.ndarray, " factors"]
) -> Float[np.ndarray, "optimizers factors"]:
    """The proportion of tasks on which an optimizer's time is within a factor of the best: ρ(τ) = mean of [r ≤ τ].

    At τ = 1 it is the proportion of tasks on which the optimizer is the best or as good. For large τ it is that of the
    tasks on which it reaches the target.

    Args:
      ratios: float [optimizers, tasks], of `performance_ratios`.
      factors: float [factors], the values of τ, finite.

    Raises:
      ValueError: there is no task.

    References:
      Dolan and Moré, 2002, equation 2.2.

    >>> performance_profile(np.array([[1.0, 1.0], [2.0, np.inf]]), np.array([1.0, 2.0])).tolist()
    [[1.0, 1.0], [0.0, 0.5]]
    """
    if ratios.shape[1] == 0:
        raise ValueError("a profile needs at least one task")
    return np.asarray((ratios[:, :, None] <= np.asarray(factors)).mean(axis=1))


def task_scores(ratios: Float[np.ndarray, "optimizers n"], limit: float = LIMIT) -> Float[np.ndarray, "optimizers n"]:
    """What each task adds to the integrated score of a profile: (limit − r) / (limit − 1), and 0 from the limit on.

    The score of an optimizer is the mean over tasks. It equals 1 / (limit − 1) · ∫ ρ(τ) dτ from 1 to the limit, which
    AlgoPerf ranks by, with a limit of 4.

    Args:
      ratios: float [optimizers, n], of `performance_ratios`.
      limit: the largest τ, more than 1.

    Returns:
      float64 in [0, 1]: 1 for the best optimizer of a task, 0 for one that needs `limit` times as long or never gets
      there.

    Raises:
      ValueError: a limit that is not more than 1.

    References:
      Dahl et al., Benchmarking neural network training algorithms, 2023 (AlgoPerf), section on the benchmark score.

    >>> task_scores(np.array([[1.0, 1.0], [2.5, np.inf]])).mean(axis=1).tolist()
    [1.0, 0.25]
    """
    return np.asarray((_limit(limit) - np.minimum(ratios, limit)) / (limit - 1))


def log_time_ratios(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], limit: float = LIMIT
) -> Float[np.ndarray, " n"]:
    """The logarithm of a's time over b's, log(a / b), within ± log(limit).

    The bounds make a ratio of every task finite: a miss counts as `limit` times as long. It is 0 where both miss.

    Args:
      a: float [n], the times of the optimizer that is judged.
      b: float [n], the times of the one that it is held against on the same tasks.
      limit: the largest ratio that counts, more than 1.

    Raises:
      ValueError: a NaN, a time that is not positive, or a limit that is not more than 1.

    >>> np.exp(log_time_ratios(np.array([10.0, np.inf]), np.array([20.0, 5.0]))).round(6).tolist()
    [0.5, 4.0]
    """
    bound = math.log(_limit(limit))
    first, second = _times(a), _times(b)
    missed = np.isinf(first) & np.isinf(second)
    logarithms = np.zeros_like(first)
    np.subtract(np.log(first), np.log(second), out=logarithms, where=~missed)
    return np.clip(logarithms, -bound, bound, out=logarithms)


def interval_over_tasks(
    times: Sequence[Float[np.ndarray, "optimizers seeds"]],
    measure: Callable[[Float[np.ndarray, "optimizers n"]], Float[np.ndarray, " n"]],
    level: float = 0.95,
    resamples: int = 500,
) -> Interval:
    """The mean over tasks of what is measured on a task's times, with an interval for all tasks of this kind.

    The tasks count as drawn from such as one could ask about. The interval is x̄ ± t_{n−1} · √(n / (n − 1)) · s, where
    x̄ is the mean over n tasks and s the standard deviation of that mean in a bootstrap over tasks and, within each of
    them, over seeds. Seeds are drawn for all optimizers of a task together, because their runs are paired. The part of
    s² that is due to tasks has a closed form, and only seeds are resampled. Without noise of the seeds the interval is
    Student's. A bootstrap's percentiles would cover 75 % with 3 tasks, however many resamples it has.

    Args:
      times: for each task the time of every run; the number of seeds may differ between tasks.
      measure: from medians [optimizers, n] to a number of each of the n columns, such as `log_time_ratios` of two rows.
      level: the confidence level. It is approximate; see README.md for what was simulated.
      resamples: of the seeds of each task, always the same ones.

    Returns:
      The interval. Its ends are NaN for fewer than 3 tasks.

    Raises:
      ValueError: there is no task or seed, or a level outside (0, 1).

    References:
      Efron and Tibshirani, An introduction to the bootstrap, 1993, chapters 6 and 12; Hesterberg, What teachers should
      know about the bootstrap, 2015, on too narrow intervals of small samples.

    >>> times = [np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([[1.0, 1.0], [4.0, 4.0]]), np.array([[1.0], [1.0]])]
    >>> mean, low, high, _ = interval_over_tasks(times, lambda medians: np.log2(medians[1] / medians[0]))
    >>> mean, round(low, 2), round(high, 2)
    (1.0, -1.48, 3.48)
    """
    n = len(times)
    if n == 0 or any(of_task.shape[1] == 0 for of_task in times):
        raise ValueError("a mean over tasks needs at least one task, and runs of each")
    if not 0 < level < 1:
        raise ValueError(f"a confidence level must lie between 0 and 1, not at {level}")
    value = float(np.mean([measure(np.median(of_task, axis=1)[:, None])[0] for of_task in times]))
    if n < LEAST_TASKS:
        return Interval(value, math.nan, math.nan, level)
    rng = np.random.default_rng(0)
    replicates = np.stack([measure(_resampled_medians(of_task, resamples, rng)) for of_task in times])
    # Of the mean of n draws of a task and of its seeds.
    variance = (replicates.mean(axis=1).var() + replicates.var(axis=1).mean()) / n
    half = float(scipy.special.stdtrit(n - 1, (1 + level) / 2) * math.sqrt(variance * n / (n - 1)))
    return Interval(value, value - half, value + half, level)


def _resampled_medians(
    times: Float[np.ndarray, "optimizers seeds"], resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "optimizers resamples"]:
    seeds = times.shape[1]
    return np.asarray(np.median(times[:, rng.integers(seeds, size=(resamples, seeds))], axis=-1))


def _times(times: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    taken = np.asarray(times, np.float64)
    if not (taken > 0).all():
        raise ValueError("times must be positive, and infinite where a target was missed")
    return taken


def _limit(limit: float) -> float:
    if not limit > 1:
        raise ValueError(f"the limit of a factor must be more than 1, not {limit}")
    return limit

"""Confidence intervals for comparing two optimizers whose runs are paired by seed, and measures of a search.

A difference is a − b between two runs of the same seed, of a quantity of which less is better. A run that failed, or
that never reached the level asked for, counts as +inf. Stated coverages were simulated; the tests repeat it.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

# SciPy loads its submodules on first use, so that this import costs next to nothing.
import scipy
from jaxtyping import Bool, Float, Int

from momentum_jax.analysis.smoothing import first_reached

LEAST_FOR_MEAN = 5


class Interval(NamedTuple):
    """An estimate with its confidence interval.

    Attributes:
      value: the estimate.
      low: the lower end; NaN where there is no interval.
      high: the upper end, likewise.
      level: the confidence level. Each function says whether it is guaranteed or approximate.
    """

    value: float
    low: float
    high: float
    level: float


def simultaneous_level(level: float, comparisons: int) -> float:
    """The Bonferroni level of each of several intervals so that all cover at once with at least the given level.

    It is 1 − (1 − level) / comparisons, and holds for any dependence between them.

    Raises:
      ValueError: a level outside (0, 1), or less than one comparison.

    >>> round(simultaneous_level(0.95, 5), 12)
    0.99
    """
    if comparisons < 1:
        raise ValueError(f"there must be at least 1 comparison, not {comparisons}")
    return 1 - 2 * _tail(level) / comparisons


def mean_interval(differences: Float[np.ndarray, " seeds"], level: float = 0.95) -> Interval:
    """The mean of paired differences with Student's t interval, x̄ ± t_{n−1} · s / √n.

    It is exact for normal differences. At 95 % it covers at least 93 % of the time for symmetric distributions from
    n = 5 on, for exponential ones from n = 40 on and for lognormal ones from n = 300 on. `median_interval` needs no
    such conditions.

    Args:
      differences: float [seeds].
      level: the confidence level.

    Returns:
      The interval. Its ends are NaN for n < 5, where the coverage is lower (92 % for uniform differences), and where a
      difference is not finite. Equal differences give an interval of width 0.

    Raises:
      ValueError: a level outside (0, 1).

    References:
      Student, The probable error of a mean, 1908.

    >>> interval = mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    >>> round(interval.low, 3), interval.value, round(interval.high, 3)
    (1.037, 3.0, 4.963)
    """
    tail = _tail(level)
    values = np.asarray(differences, np.float64)
    n = len(values)
    if n < LEAST_FOR_MEAN or not np.isfinite(values).all():
        # The sum of infinities of both signs is NaN, without a warning.
        with np.errstate(invalid="ignore"):
            return Interval(float(values.mean()) if n else math.nan, math.nan, math.nan, level)
    if (values == values[0]).all():
        return Interval(float(values[0]), float(values[0]), float(values[0]), level)
    mean = float(values.mean())
    half = float(scipy.special.stdtrit(n - 1, 1 - tail) * values.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, level)


def median_interval(
    low: Float[np.ndarray, " seeds"], high: Float[np.ndarray, " seeds"] | None = None, level: float = 0.95
) -> Interval:
    """The median of paired differences with a distribution-free interval from order statistics.

    The interval is [x₍ₖ₎, x₍ₙ₊₁₋ₖ₎] with the largest k for which 2 · P(Binomial(n, ½) < k) ≤ 1 − level. It covers with
    at least this level for every distribution and any number of ties.

    A difference may be known only by bounds. Then the lower end comes from the lower bounds and the upper end from the
    upper bounds, which keeps the level. The median is known where it is the same for both.

    Args:
      low: float [seeds], the differences or their lower bounds; infinities are allowed.
      high: float [seeds], the upper bounds where they differ, as `paired_differences` returns them.
      level: the confidence level.

    Returns:
      The interval. The value is NaN where the bounds do not determine the median, and between −inf and inf. The ends
      are NaN where there are too few differences: 95 % needs 6, 99 % needs 8.

    Raises:
      ValueError: a NaN, bounds that are not paired or that cross, or a level outside (0, 1).

    References:
      Thompson, On confidence ranges for the median and other expectation distributions, 1936.

    >>> median_interval(np.array([3.0, 1.0, 2.0, 5.0, 4.0, np.inf]))
    Interval(value=3.5, low=1.0, high=inf, level=0.95)
    """
    below = _tail(level)
    lower, upper = (np.sort(bound) for bound in _bounds(low, high))
    n = len(lower)
    value = _median(lower) if n and _median(lower) == _median(upper) else math.nan
    k = int((scipy.special.bdtr(np.arange(n), n, 0.5) <= below).sum())
    if k == 0:
        return Interval(value, math.nan, math.nan, level)
    return Interval(value, float(lower[k - 1]), float(upper[n - k]), level)


def median_half_width(n: int, level: float) -> float:
    """The expected half width of `median_interval` of n normal differences, in their standard deviations.

    It is the expected order statistic x₍ₙ₊₁₋ₖ₎ of n standard normal numbers by Blom's approximation,
    Φ⁻¹((n + 5/8 − k) / (n + 1/4)), with the k of `median_interval`. If the true median lies as far from 0 as this, the
    interval leaves 0 out about half of the time.

    Args:
      n: how many differences.
      level: the confidence level.

    Returns:
      The half width; NaN where `median_interval` has no ends.

    Raises:
      ValueError: a level outside (0, 1).

    References:
      Blom, Statistical estimates and transformed beta-variables, 1958.

    >>> round(median_half_width(12, 0.95), 3), median_half_width(5, 0.95)
    (0.792, nan)
    """
    expected = scipy.special.ndtri((np.arange(1, n + 1) - 3 / 8) / (n + 1 / 4))
    return median_interval(expected, level=level).high


def least_for_median(level: float) -> int:
    """The least number of differences for which `median_interval` has ends: the least n with 2¹⁻ⁿ ≤ 1 − level.

    Raises:
      ValueError: a level outside (0, 1).

    >>> least_for_median(0.95), least_for_median(simultaneous_level(0.95, 3))
    (6, 7)
    """
    below = _tail(level)
    return next(n for n in itertools.count(1) if 0.5**n <= below)


def wins_interval(
    low: Float[np.ndarray, " seeds"], high: Float[np.ndarray, " seeds"] | None = None, level: float = 0.95
) -> Interval:
    """The probability that a beats b, P(a < b) + ½ · P(a = b), from paired differences a − b.

    The estimate is the proportion of wins plus half the proportion of ties. The lower end is Clopper and Pearson's for
    the wins alone, the upper end theirs for wins and ties together. A difference whose bounds do not determine its
    sign counts as a tie. The coverage is at least the level.

    Args:
      low: float [seeds], the differences or their lower bounds; infinities are allowed.
      high: float [seeds], the upper bounds where they differ, as `paired_differences` returns them.
      level: the confidence level.

    Returns:
      The interval, within [0, 1]; all NaN without any difference.

    Raises:
      ValueError: a NaN, bounds that are not paired or that cross, or a level outside (0, 1).

    >>> interval = wins_interval(np.array([-1.0, -2.0, -3.0, 0.0]))
    >>> interval.value, round(interval.low, 3), interval.high
    (0.875, 0.194, 1.0)
    """
    lower, upper = _bounds(low, high)
    n = len(lower)
    wins, losses = int((upper < 0).sum()), int((lower > 0).sum())
    value = (n + wins - losses) / (2 * n) if n else math.nan
    return Interval(
        value, proportion_interval(wins, n, level).low, proportion_interval(n - losses, n, level).high, level
    )


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """The proportion of successes in n independent runs with Clopper and Pearson's exact interval.

    At the lower end the probability of this many successes or more is (1 − level) / 2; at the upper end that of this
    many or fewer. The coverage is at least the level.

    Returns:
      The interval, within [0, 1]; all NaN for n = 0.

    Raises:
      ValueError: unless 0 ≤ successes ≤ n, or a level outside (0, 1).

    References:
      Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial, 1934.

    >>> interval = proportion_interval(0, 10)
    >>> interval.value, interval.low, round(interval.high, 3)
    (0.0, 0.0, 0.308)
    """
    tail = _tail(level)
    if not 0 <= successes <= n:
        raise ValueError(f"there must be between 0 and {n} successes, not {successes}")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, level)
    low = scipy.special.betaincinv(successes, n - successes + 1, tail) if successes > 0 else 0.0
    high = scipy.special.betainccinv(successes + 1, n - successes, tail) if successes < n else 1.0
    return Interval(successes / n, float(low), float(high), level)


def proportion_difference_interval(
    a: Bool[np.ndarray, " seeds"], b: Bool[np.ndarray, " seeds"], level: float = 0.95
) -> Interval:
    """The difference of two proportions, P(a) − P(b), from runs paired by seed.

    It equals P(a and not b) − P(b and not a). Both terms have Clopper and Pearson's interval at the level at which both
    cover at once (`simultaneous_level`), and the ends are the least and the greatest difference that these allow. The
    coverage is at least the level; the price is a wide interval.

    Args:
      a: bool [seeds], whether each run of the first optimizer succeeded (or failed).
      b: bool [seeds], the same of the second optimizer.
      level: the confidence level.

    Returns:
      The interval, within [−1, 1]; all NaN without any run.

    Raises:
      ValueError: runs that are not paired, or a level outside (0, 1).

    >>> interval = proportion_difference_interval(np.ones(10, bool), np.zeros(10, bool))
    >>> interval.value, round(interval.low, 3), interval.high
    (1.0, 0.29, 1.0)
    """
    first, second = _paired(np.asarray(a, bool), np.asarray(b, bool))
    n = len(first)
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    value = (only_a - only_b) / n if n else math.nan
    both = simultaneous_level(level, 2)
    first_only, second_only = proportion_interval(only_a, n, both), proportion_interval(only_b, n, both)
    return Interval(value, first_only.low - second_only.high, first_only.high - second_only.low, level)


def expected_best(
    values: Float[np.ndarray, " trials"], budgets: Int[np.ndarray, " budgets"]
) -> Float[np.ndarray, " budgets"]:
    """The expected best (least) value of a random search, for each budget of trials.

    For a budget of n of the N trials it is Σᵢ v₍ᵢ₎ · C(N − i, n − 1) / C(N, n), the mean of the least value over all
    subsets of n trials. It is an unbiased estimate.

    Args:
      values: float [trials]; a failed trial is +inf.
      budgets: int [budgets], each between 1 and the number of trials.

    Returns:
      float64 [budgets]; +inf where n trials can all have failed, −inf where a value is −inf, and NaN where both hold.

    Raises:
      ValueError: a NaN, or a budget out of range.

    References:
      Dodge et al., Show your work, 2019; without replacement as in Tang et al., Showing your work doesn't always work,
      2020.

    >>> expected_best(np.array([1.0, 2.0, 4.0, np.inf]), np.array([1, 2, 3])).round(6).tolist()
    [inf, 1.833333, 1.25]
    """
    ordered = np.sort(_numbers(values))
    for n in budgets:
        if not 1 <= n <= len(ordered):
            raise ValueError(f"a budget must lie between 1 and the {len(ordered)} trials there are, not at {n}")
    return np.array([_expected_best(ordered, int(n)) for n in budgets], np.float64)


def tolerated_range(
    rates: Float[np.ndarray, " rates"], losses: Float[np.ndarray, " rates"], factor: float = 1.1
) -> tuple[float, float]:
    """The range of learning rates around the best one in which the loss is at most `factor` times the best loss.

    Every tried rate within the range keeps to that. log₁₀(high / low), in decades, measures how insensitive an
    optimizer is to its learning rate. It is a lower bound: the range is that on the grid, and where it ends with the
    grid it may be wider.

    Args:
      rates: float [rates], the rates tried, in any order.
      losses: float [rates], none negative; a failed rate is +inf.
      factor: the tolerated loss as a multiple of the best, 1 or more.

    Returns:
      The lowest and the highest rate; NaN where all rates failed. With several best rates the range is that around the
      lowest of them.

    Raises:
      ValueError: a NaN, a rate that is not positive, a negative loss or a factor below 1.

    >>> tolerated_range(np.array([0.01, 0.1, 1.0, 10.0]), np.array([0.9, 0.5, 0.52, np.inf]))
    (0.1, 1.0)
    """
    tried, lost = _paired(_numbers(rates), _numbers(losses))
    if (tried <= 0).any() or (lost < 0).any() or factor < 1:
        raise ValueError("learning rates must be positive, losses not negative, and the factor 1 or more")
    if not np.isfinite(lost).any():
        return math.nan, math.nan
    order = np.argsort(tried)
    tried, lost = tried[order], lost[order]
    best = int(lost.argmin())
    worse = np.flatnonzero(lost > factor * lost[best])
    low = worse[worse < best].max(initial=-1) + 1
    high = worse[worse > best].min(initial=len(tried)) - 1
    return float(tried[low]), float(tried[high])


def iterations_to(
    curves: Float[np.ndarray, "*batch recorded"], iterations: Int[np.ndarray, " recorded"], level: float
) -> Float[np.ndarray, " *batch"]:
    """The first recorded iteration at which a curve is at or below a level; +inf where it never is.

    Args:
      curves: float [..., recorded], raw or smoothed.
      iterations: int [recorded], the iteration of each value of a curve.
      level: the level to reach.

    >>> iterations_to(np.array([[3.0, 1.0], [3.0, 3.0]]), np.array([0, 100]), 2.0).tolist()
    [100.0, inf]
    """
    first = first_reached(curves, level)
    return np.where(first < 0, np.inf, np.asarray(iterations, np.float64)[first])


def paired_differences(
    a: Float[np.ndarray, " seeds"], b: Float[np.ndarray, " seeds"]
) -> tuple[Float[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
    """Lower and upper bounds of the differences a − b of runs paired by seed, where a miss or failure is +inf.

    Where both are finite, both bounds are the difference. Where one is +inf, both bounds are −inf or +inf: a miss
    counts as later than everything. Where both are +inf nothing is known: the bounds are −inf and +inf.

    Args:
      a: float [seeds], such as losses, or iterations until a loss is reached.
      b: float [seeds], the same seeds in the same order.

    Returns:
      The lower and the upper bounds, float64 [seeds], for `median_interval` and `wins_interval`.

    Raises:
      ValueError: a NaN or −inf, or a and b are not paired.

    >>> low, high = paired_differences(np.array([3.0, np.inf, np.inf]), np.array([1.0, 5.0, np.inf]))
    >>> low.tolist(), high.tolist()
    ([2.0, inf, -inf], [2.0, inf, inf])
    """
    first, second = _paired(_numbers(a), _numbers(b))
    if np.isneginf(first).any() or np.isneginf(second).any():
        raise ValueError("a run that missed or failed counts as +inf; -inf has no meaning here")
    missed = np.isinf(first) & np.isinf(second)
    difference = np.subtract(first, second, out=np.zeros_like(first), where=~missed)
    return np.where(missed, -np.inf, difference), np.where(missed, np.inf, difference)


def _tail(level: float) -> float:
    """The probability beyond each end of the interval."""
    if not 0 < level < 1:
        raise ValueError(f"a confidence level must lie between 0 and 1, not at {level}")
    return (1 - level) / 2


def _numbers(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    numbers = np.asarray(values, np.float64)
    if np.isnan(numbers).any():
        raise ValueError("there is a NaN among the values; a run that failed counts as +inf")
    return numbers


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two arrays of one axis and the same length, not of shapes {a.shape}, {b.shape}")
    return a, b


def _bounds(low: np.ndarray, high: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = _paired(_numbers(low), _numbers(low if high is None else high))
    if (lower > upper).any():
        raise ValueError("a lower bound lies above its upper bound")
    return lower, upper


def _median(ordered: Float[np.ndarray, " n"]) -> float:
    n = len(ordered)
    # The midpoint of −inf and inf is NaN, without a warning.
    with np.errstate(invalid="ignore"):
        return float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)


def _expected_best(ordered: Float[np.ndarray, " trials"], n: int) -> float:
    """The value at rank i is the least of n with the probability C(N − i, n − 1) / C(N, n)."""
    trials = len(ordered)
    reachable = ordered[: trials - n + 1]
    if np.isinf(reachable[[0, -1]]).any():
        # Every reachable value has a positive probability. The sum of infinities of both signs is NaN.
        with np.errstate(invalid="ignore"):
            return float(reachable[0] + reachable[-1])
    ranks = np.arange(1, len(reachable))
    # Each probability from the one before: the binomial coefficients themselves overflow.
    weights = np.cumprod(np.r_[n / trials, (trials - ranks - n + 1) / (trials - ranks)])
    return float(reachable @ weights)

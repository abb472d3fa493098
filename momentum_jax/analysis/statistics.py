"""What runs paired by seed say about two optimizers, with intervals that cover what they claim.

A difference is one of runs of the same seed, a − b, of a quantity of which less is better. A run that failed, or that
never reached what was asked of it, counts as +inf. The coverages that are stated were simulated; the tests repeat it.
"""

import math
from typing import NamedTuple

import numpy as np

# scipy loads a submodule when it is first used: importing this module costs nothing.
import scipy
from jaxtyping import Bool, Float, Int

from momentum_jax.analysis.smoothing import first_reached

RESAMPLES = 9999
LEAST_FOR_MEAN, LEAST_FOR_INTERQUARTILE_MEAN = 5, 20


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval, NaN where there can be none.

    Fields:
      value: the estimate.
      low, high: the ends.
      level: the probability that the interval covers what is estimated, at least or nearly, as its function says.
    """

    value: float
    low: float
    high: float
    level: float


def simultaneous_level(level: float, comparisons: int) -> float:
    """The level at which several intervals are to be taken, that all of them cover at once with at least this level.

    Bonferroni: 1 − (1 − level) / comparisons, whatever the dependence between them.

    Raises:
      ValueError: for a level outside (0, 1) or less than one comparison.

    >>> round(simultaneous_level(0.95, 5), 12)
    0.99
    """
    if comparisons < 1:
        raise ValueError(f"there must be at least 1 comparison, not {comparisons}")
    return 1 - 2 * _tail(level) / comparisons


def mean_interval(differences: Float[np.ndarray, " seeds"], level: float = 0.95) -> Interval:
    """The mean of paired differences and Student's t interval: x̄ ± t_{n−1} · s / √n.

    Exact for normal differences. As 95 % it covers at least 93 % of symmetric differences from n = 5 on, where it is
    offered (of fewer uniform ones 92 %); of exponential ones from n = 40 on, of lognormal ones from n = 300 on. The
    interval of the median (`median_interval`) has no such conditions.

    Args:
      differences: float [seeds].
      level: the level of confidence.

    Returns:
      The interval; its ends are NaN for n < 5, or where a difference is not finite. Equal differences have no width.

    Raises:
      ValueError: for a level outside (0, 1).

    Source: Student (1908), The probable error of a mean.

    >>> interval = mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    >>> round(interval.low, 3), interval.value, round(interval.high, 3)
    (1.037, 3.0, 4.963)
    """
    tail = _tail(level)
    values = np.asarray(differences, np.float64)
    n = len(values)
    if n < LEAST_FOR_MEAN or not np.isfinite(values).all():
        # The sum of infinities of both signs is NaN, which is what is to be said of it.
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
    """The median of paired differences, and two of their order statistics that hold it between them.

    [x₍ₖ₎, x₍ₙ₊₁₋ₖ₎] with the largest k for which 2 · P(Binomial(n, ½) < k) ≤ 1 − level. It covers with at least this
    level whatever the distribution and however many ties. Where a difference is only known to lie between two bounds,
    the lower end is taken from the lower bounds and the upper end from the upper ones, which keeps the level whatever
    lies between them; the median itself is known where both sets of bounds have the same.

    Args:
      low: float [seeds], the differences or their lower bounds; infinities are allowed.
      high: float [seeds], the upper bounds, if they differ. See `paired_differences`.
      level: the level of confidence.

    Returns:
      The interval. The value is NaN where the median is undetermined (between −inf and inf too); with an even number
      of differences it is the midpoint of the middle two. The ends are NaN where there are too few differences: 95 %
      needs 6, 99 % needs 8.

    Raises:
      ValueError: for a NaN, bounds that are not paired or cross, or a level outside (0, 1).

    Source: Thompson (1936), On confidence ranges for the median and other expectation distributions.

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


def interquartile_mean_interval(
    differences: Float[np.ndarray, " seeds"], level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of the middle half of paired differences, with a bias-corrected and accelerated bootstrap interval.

    A quarter of the differences, rounded down, is left out at each end. As 95 % it covers at least 93 % from n = 20 on,
    symmetric differences and exponential or lognormal ones alike (93.5 % to 95 % measured for n of 20 to 100);
    as 99 % it covers at least 98 %.

    Args:
      differences: float [seeds], in any order.
      level: the level of confidence.
      seed: of the 9999 resamples.

    Returns:
      The interval. The ends are NaN for n < 20; all is NaN where a difference is not finite. Where the middle half is
      so equal that leaving any one difference out changes nothing, the acceleration is undefined, and the ends are
      the quantiles of the resamples themselves.

    Raises:
      ValueError: for a level outside (0, 1).

    Source: Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice; Efron (1987),
    Better bootstrap confidence intervals.

    >>> interquartile_mean_interval(np.array([-90.0, 1.0, 3.0, 80.0])).value
    2.0
    """
    _tail(level)
    # Sorted, since which resamples a seed draws would depend on the order otherwise.
    values = np.sort(np.asarray(differences, np.float64))
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        return Interval(math.nan, math.nan, math.nan, level)
    value = float(_interquartile_mean(values))
    if n < LEAST_FOR_INTERQUARTILE_MEAN:
        return Interval(value, math.nan, math.nan, level)
    # Between these two ranks lies the middle half of every n − 1 of them.
    quarter = (n - 1) // 4
    low, high = scipy.stats.bootstrap(
        (values,),
        _interquartile_mean,
        vectorized=True,
        batch=1000,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="percentile" if values[quarter] == values[n - 1 - quarter] else "BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value, float(low), float(high), level)


def wins_interval(
    low: Float[np.ndarray, " seeds"], high: Float[np.ndarray, " seeds"] | None = None, level: float = 0.95
) -> Interval:
    """The probability that a beats b, P(a < b) + ½ · P(a = b), from paired differences a − b, with guaranteed coverage.

    The value is the share of wins plus half the share of ties. The lower end is Clopper and Pearson's for the wins
    alone, the upper end theirs for all that is no loss: what is tied, or undetermined by its bounds, counts against a
    below and for it above.

    Args:
      low: float [seeds], the differences or their lower bounds; infinities are allowed.
      high: float [seeds], the upper bounds, if they differ. See `paired_differences`.
      level: the level of confidence.

    Returns:
      The interval, within [0, 1]; all NaN without any difference. In the value what is undetermined counts as tied.

    Raises:
      ValueError: for a NaN, bounds that are not paired or cross, or a level outside (0, 1).

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
    """The share of successes in n independent runs, with Clopper and Pearson's interval.

    Its ends are the shares at which so many successes or more, and so many or fewer, have the probability
    (1 − level) / 2. It covers with at least this level.

    Returns:
      The interval, within [0, 1]; all NaN for n = 0.

    Raises:
      ValueError: unless 0 ≤ successes ≤ n, or for a level outside (0, 1).

    Source: Clopper and Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the
    binomial.

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
    """The difference of two shares, P(a) − P(b), from runs paired by seed, with guaranteed coverage.

    It is P(a and not b) − P(b and not a). Each of the two has Clopper and Pearson's interval at the level at which
    both cover at once (`simultaneous_level`); the ends are the least and the greatest difference that these allow.
    This covers with at least the level, and is wide for it.

    Args:
      a: bool [seeds], whether each run of the first optimizer succeeded (or failed).
      b: bool [seeds], the same of the second.
      level: the level of confidence.

    Returns:
      The interval, within [−1, 1]; all NaN without any run.

    Raises:
      ValueError: for shares that are not paired or a level outside (0, 1).

    >>> interval = proportion_difference_interval(np.ones(10, bool), np.zeros(10, bool))
    >>> interval.value, round(interval.low, 3), interval.high
    (1.0, 0.29, 1.0)
    """
    first, second = _paired(np.asarray(a, bool), np.asarray(b, bool))
    n = len(first)
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    value = (only_a - only_b) / n if n else math.nan
    both = simultaneous_level(level, 2)
    share_a, share_b = proportion_interval(only_a, n, both), proportion_interval(only_b, n, both)
    return Interval(value, share_a.low - share_b.high, share_a.high - share_b.low, level)


def expected_best(
    values: Float[np.ndarray, " trials"], budgets: Int[np.ndarray, " budgets"]
) -> Float[np.ndarray, " budgets"]:
    """The expected least value of n trials, drawn without replacement from the N there are.

    Σᵢ v₍ᵢ₎ · C(N − i, n − 1) / C(N, n), exactly the mean over all subsets: the unbiased estimate of what a random
    search with a budget of n trials comes to.

    Args:
      values: float [trials]; a failed trial is +inf.
      budgets: int [budgets], each between 1 and the number of trials.

    Returns:
      float64 [budgets]; +inf as long as n trials can all fail.

    Raises:
      ValueError: for a NaN, or a budget out of range.

    Source: Dodge et al. (2019), Show your work; without replacement as in Tang et al. (2020), Showing your work doesn't
    always work.

    >>> expected_best(np.array([1.0, 2.0, 4.0, np.inf]), np.array([1, 2, 3])).round(6).tolist()
    [inf, 1.833333, 1.25]
    """
    ordered, sizes = _trials(values, budgets)
    return np.array([_expected_best(ordered, n) for n in sizes], np.float64)


def tolerated_range(
    rates: Float[np.ndarray, " rates"], losses: Float[np.ndarray, " rates"], factor: float = 1.1
) -> tuple[float, float]:
    """The lowest and highest learning rate, around the best one, between which the loss is at most factor × the best.

    All rates tried in between keep to it too. How insensitive an optimizer is to its learning rate is read as the
    ratio of the two, log₁₀(high / low) decades; it is a lower bound, on the grid that was tried, and where an end is
    the end of the grid the range may well go on.

    Args:
      rates: float [rates], the rates tried, in any order.
      losses: float [rates], none negative; a failed rate is +inf.
      factor: how much worse than the best still does, 1 or more.

    Returns:
      The two rates; of several rates that are equally the best, the range around the lowest. NaN where all failed.

    Raises:
      ValueError: for a NaN, a rate that is not positive, a negative loss or a factor below 1.

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
      curves: float [..., recorded], as they are or smoothed.
      iterations: int [recorded], the iterations that the curves hold.
      level: what is to be reached.

    >>> iterations_to(np.array([[3.0, 1.0], [3.0, 3.0]]), np.array([0, 100]), 2.0).tolist()
    [100.0, inf]
    """
    first = first_reached(curves, level)
    return np.where(first < 0, np.inf, np.asarray(iterations, np.float64)[first])


def paired_differences(
    a: Float[np.ndarray, " seeds"], b: Float[np.ndarray, " seeds"]
) -> tuple[Float[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
    """The bounds between which the differences a − b of runs paired by seed lie, where a miss or failure is +inf.

    Both finite: the difference itself. One missed: −inf or +inf, as a miss counts as later than everything. Both
    missed: nothing is known, from −inf to +inf.

    Args:
      a: float [seeds], such as iterations until a loss is reached, or losses.
      b: float [seeds], the same seeds in the same order.

    Returns:
      The lower and the upper bounds, float64 [seeds], as `median_interval` and `wins_interval` take them.

    Raises:
      ValueError: for a NaN or −inf, or unless a and b are paired.

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
    """The probability left out at each end."""
    if not 0 < level < 1:
        raise ValueError(f"a level of confidence must lie between 0 and 1, not at {level}")
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
    # The midpoint of −inf and inf is NaN, which is what is to be said of it.
    with np.errstate(invalid="ignore"):
        return float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)


def _interquartile_mean(values: Float[np.ndarray, "*batch n"], axis: int = -1) -> Float[np.ndarray, " *batch"]:
    return np.asarray(scipy.stats.trim_mean(values, 0.25, axis=axis))


def _trials(values: np.ndarray, budgets: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The values from the best on, and the budgets."""
    ordered, sizes = np.sort(_numbers(values)), [int(n) for n in budgets]
    if wrong := [n for n in sizes if not 1 <= n <= len(ordered)]:
        raise ValueError(f"a budget must lie between 1 and the {len(ordered)} trials there are, not at {wrong[0]}")
    return ordered, sizes


def _expected_best(ordered: Float[np.ndarray, " trials"], n: int) -> float:
    """The value at rank i is the best of n with probability C(N − i, n − 1) / C(N, n): of one rank from the last."""
    trials = len(ordered)
    reachable = ordered[: trials - n + 1]
    if np.isinf(reachable[-1]):
        return math.inf
    ranks = np.arange(1, len(reachable))
    weights = np.cumprod(np.r_[n / trials, (trials - ranks - n + 1) / (trials - ranks)])
    return float(reachable @ weights)

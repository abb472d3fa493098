"""Intervals against SciPy and cases worked by hand, and the symmetries that they must have."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from momentum_jax.analysis import (
    Interval,
    least_for_median,
    mean_interval,
    median_half_width,
    median_interval,
    paired_differences,
    proportion_difference_interval,
    proportion_interval,
    simultaneous_level,
    wins_interval,
)

INF, NAN = np.inf, np.nan
# Sums and quotients of some tens of values, and SciPy's own quantiles: some hundred roundings of 2⁻⁵³.
ROUNDING = 1e-12

whole = st.integers(-1000, 1000).map(float)
censored = whole | st.sampled_from([INF, -INF])
runs = st.lists(whole, min_size=2, max_size=30).map(np.array)
bounds = st.lists(st.tuples(censored, censored).map(sorted), min_size=1, max_size=20).map(
    lambda b: tuple(np.array(b).T)
)


def ends(interval):
    return interval.low, interval.high


def mirrored(interval, about=0.0):
    return Interval(about - interval.value, about - interval.high, about - interval.low, interval.level)


def assert_same(got, expected):
    np.testing.assert_allclose(got, expected, rtol=ROUNDING, atol=ROUNDING)


def test_the_simultaneous_level_is_bonferronis():
    assert simultaneous_level(0.95, 1) == pytest.approx(0.95, abs=1e-15)
    assert simultaneous_level(0.9, 4) == pytest.approx(0.975, abs=1e-15)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95, NAN])
def test_a_level_that_is_no_probability_is_refused(level):
    x = np.arange(30.0)
    for refused in (
        lambda: simultaneous_level(level, 2),
        lambda: mean_interval(x, level),
        lambda: median_interval(x, level=level),
        lambda: median_half_width(30, level),
        lambda: least_for_median(level),
        lambda: wins_interval(x, level=level),
        lambda: proportion_interval(1, 2, level),
        lambda: proportion_difference_interval(x > 1, x > 2, level),
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            refused()


def test_no_comparison_is_refused():
    with pytest.raises(ValueError, match="at least 1 comparison, not 0"):
        simultaneous_level(0.95, 0)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [5, 6, 20, 200])
def test_the_means_interval_is_scipys(n, level, rng):
    x = rng.normal(1, 2, n)
    expected = stats.ttest_1samp(x, 0).confidence_interval(level)
    assert_same(mean_interval(x, level), (x.mean(), *expected, level))


def test_the_mean_of_fewer_differences_than_it_covers_has_no_interval():
    assert np.isnan(mean_interval(np.arange(4.0)).low)
    assert np.isfinite(mean_interval(np.arange(5.0)).low)


def test_float32_differences_are_averaged_in_float64():
    # In float32 1e8 + 1 is 1e8.
    assert mean_interval(np.array([1e8, 1, 1, 1], np.float32)).value == 25000000.75


@pytest.mark.parametrize("n", [5, 6, 10])
def test_equal_differences_have_an_interval_of_no_width(n):
    # Of some numbers of values 0.1 the rounded mean is not 0.1.
    assert mean_interval(np.full(n, 0.1)) == (0.1, 0.1, 0.1, 0.95)


@pytest.mark.parametrize(
    ("differences", "value"),
    [([], NAN), ([3.0], 3.0), ([1.0, INF], INF), ([1.0, -INF, 2.0], -INF), ([INF, -INF], NAN), ([1.0, NAN], NAN)],
)
def test_a_mean_without_an_interval_says_so_and_does_not_warn(differences, value):
    np.testing.assert_equal(tuple(mean_interval(np.array(differences))), (value, NAN, NAN, 0.95))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [8, 9, 25, 100])
def test_the_medians_interval_is_scipys(n, level, rng):
    x = rng.normal(size=n)
    expected = stats.quantile_test(x, q=0, p=0.5).confidence_interval(level)
    assert median_interval(x, level=level) == (np.median(x), *expected, level)


@pytest.mark.parametrize("level", [0.95, 0.99, simultaneous_level(0.95, 7)])
@pytest.mark.parametrize("n", range(1, 30))
def test_the_medians_interval_is_the_shortest_pair_of_ranks_that_has_the_level(n, level):
    interval = median_interval(np.arange(1.0, n + 1), level=level)

    def probability(k):
        """That the median lies between ranks k and n + 1 − k: of the 2ⁿ signs, those with k to n − k below it."""
        return Fraction(sum(math.comb(n, below) for below in range(k, n - k + 1)), 2**n)

    enough = [k for k in range(1, n // 2 + 1) if probability(k) >= level]
    expected = (enough[-1], n + 1 - enough[-1]) if enough else (NAN, NAN)
    np.testing.assert_equal(ends(interval), expected)
    assert interval.value == (n + 1) / 2


@given(st.floats(0.01, 1 - 1e-6))
def test_the_least_number_of_differences_is_the_first_with_an_interval(level):
    least = least_for_median(level)
    has_ends = [not math.isnan(median_interval(np.arange(float(n)), level=level).low) for n in (least - 1, least)]
    assert has_ends == [False, True]


@pytest.mark.parametrize(("n", "level"), [(7, 0.983), (8, 0.9875), (12, 0.95), (30, 0.98), (100, 0.95)])
def test_the_half_width_of_the_medians_interval_is_an_expected_order_statistic(n, level):
    k = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    # The k-th largest of n uniform numbers has a beta distribution. Blom's approximation is right to one percent.
    expected = stats.beta(n + 1 - k, k).expect(stats.norm.ppf)
    assert median_half_width(n, level) == pytest.approx(expected, rel=0.01)


def test_without_an_interval_there_is_no_half_width():
    assert np.isnan(median_half_width(5, 0.95))


def test_95_percent_needs_six_differences_and_99_percent_eight():
    for n, level in ((5, 0.95), (7, 0.99)):
        assert np.isnan(median_interval(np.arange(float(n)), level=level).low)
        assert median_interval(np.arange(n + 1.0), level=level)[1:3] == (0, n)


@pytest.mark.parametrize(
    ("low", "high", "value"),
    [
        ([], [], NAN),
        # Both ranks in the middle are known, though the outermost is not.
        ([1.0, 2.0, -INF], [1.0, 2.0, INF], NAN),
        ([1.0, 1.0, -INF], [1.0, 1.0, INF], 1.0),
        ([1.0, 2.0, 3.0, 2.5], [1.0, 2.0, INF, 2.5], 2.25),
        # The middle two are 1 and whatever the third is.
        ([0.0, 1.0, 2.0, 9.0], [0.0, 1.0, 3.0, 9.0], NAN),
        ([1.0, INF], [1.0, INF], INF),
        ([-INF, 1.0], [-INF, 1.0], -INF),
        ([-INF, INF], [-INF, INF], NAN),
        ([INF, INF, 0.0], [INF, INF, 0.0], INF),
        ([-INF, -INF], [INF, INF], NAN),
    ],
)
def test_a_median_is_told_where_its_bounds_determine_it(low, high, value):
    np.testing.assert_equal(median_interval(np.array(low), np.array(high)).value, value)


def test_censored_times_worked_by_hand():
    # Iterations until a loss is reached, by seed; inf where the run never reached it.
    a = np.array([10.0, 20.0, 30.0, INF, 50.0, INF, 70.0])
    b = np.array([15.0, 50.0, INF, 40.0, 90.0, INF, 90.0])
    low, high = paired_differences(a, b)
    #                 10−15, 20−50, b never, a never, 50−90, neither, 70−90
    assert low.tolist() == [-5, -30, -INF, INF, -40, -INF, -20]
    assert high.tolist() == [-5, -30, -INF, INF, -40, INF, -20]
    # Sorted lower bounds: −inf −inf −40 −30 −20  −5 inf: their median is −30.
    # Sorted upper bounds: −inf  −40 −30 −20  −5 inf inf: their median is −20. So it is not determined.
    # With 7 differences at 95 %, 2 · (1 + 7) / 2⁷ = 0.125 is too much for ranks 2 and 6; 2 / 2⁷ is not, for 1 and 7.
    np.testing.assert_equal(tuple(median_interval(low, high)), (NAN, -INF, INF, 0.95))
    # At 80 % ranks 2 and 6 have 87.5 %: −inf of the lower bounds, inf of the upper.
    assert median_interval(low, high, level=0.8)[1:3] == (-INF, INF)
    # At 50 % ranks 3 and 5 have 1 − 2 · (1 + 7 + 21) / 2⁷ = 0.547: −40 and −5.
    assert median_interval(low, high, level=0.5)[1:3] == (-40, -5)
    # Five wins, one loss, one undetermined: 5.5 of 7; the ends from 5 wins of 7, and from 6 of 7.
    wins = wins_interval(low, high)
    assert wins.value == 5.5 / 7
    assert_same(wins.low, stats.binomtest(5, 7).proportion_ci(0.95).low)
    assert_same(wins.high, stats.binomtest(6, 7).proportion_ci(0.95).high)


@given(st.lists(st.tuples(whole | st.just(INF), whole | st.just(INF)), min_size=1, max_size=20))
def test_swapping_the_optimizers_mirrors_the_bounds(times):
    a, b = np.array(times).T
    low, high = paired_differences(a, b)
    low_swapped, high_swapped = paired_differences(b, a)
    np.testing.assert_array_equal(low_swapped, -high)
    np.testing.assert_array_equal(high_swapped, -low)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, NAN], [1.0, 2.0], "NaN"),
        ([1.0, 2.0], [NAN, 2.0], "NaN"),
        ([-INF], [1.0], r"counts as \+inf"),
        ([1.0], [-INF], r"counts as \+inf"),
        ([1.0], [1.0, 2.0], r"same length, not of shapes \(1,\), \(2,\)"),
        ([[1.0]], [[1.0]], "one axis"),
    ],
)
def test_times_that_are_no_times_or_not_paired_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        paired_differences(np.array(a), np.array(b))


@pytest.mark.parametrize("interval", [median_interval, wins_interval])
def test_bounds_that_are_no_bounds_are_refused(interval):
    with pytest.raises(ValueError, match="NaN"):
        interval(np.array([1.0, NAN]))
    with pytest.raises(ValueError, match="lies above"):
        interval(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="same length"):
        interval(np.array([1.0, 2.0]), np.array([1.0]))


@given(bounds, st.randoms(use_true_random=False))
def test_whatever_lies_between_the_bounds_has_its_interval_within_theirs(between, random):
    low, high = between
    x = np.array([random.choice([a, b, min(max(0.0, a), b)]) for a, b in zip(low, high, strict=True)])
    for interval in (median_interval, wins_interval):
        outer, inner = interval(low, high, level=0.8), interval(x, level=0.8)
        if not np.isnan(outer.low):
            assert outer.low <= inner.low
            assert inner.high <= outer.high
    known = median_interval(low, high).value
    assert np.isnan(known) or known == median_interval(x).value


@given(runs, st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_does_not_matter(x, random):
    shuffled = np.array(random.sample(list(x), len(x)))
    # Sums of whole numbers are exact in any order; those of their squares' deviations from the mean are rounded.
    np.testing.assert_allclose(mean_interval(shuffled), mean_interval(x), rtol=1e-9, atol=1e-9)
    for interval in (median_interval, wins_interval):
        np.testing.assert_equal(tuple(interval(shuffled)), tuple(interval(x)))


@given(runs)
def test_swapping_the_optimizers_mirrors_the_intervals(x):
    np.testing.assert_array_equal(mean_interval(-x), mirrored(mean_interval(x)))
    np.testing.assert_array_equal(median_interval(-x), mirrored(median_interval(x)))
    assert_same(wins_interval(-x), mirrored(wins_interval(x), about=1))


@given(bounds)
def test_swapping_the_optimizers_mirrors_the_intervals_from_bounds(between):
    low, high = between
    np.testing.assert_array_equal(median_interval(-high, -low), mirrored(median_interval(low, high)))
    assert_same(wins_interval(-high, -low), mirrored(wins_interval(low, high), about=1))


@given(runs, st.integers(-100, 100), st.integers(1, 20))
def test_intervals_shift_and_scale_with_the_differences(x, shift, scale):
    for interval in (mean_interval, median_interval):
        of_x, of_both = np.array(interval(x)[:3]), interval(shift + scale * x)[:3]
        # Values of up to 20000 and their squares, of which some 30 are added.
        np.testing.assert_allclose(of_both, shift + scale * of_x, rtol=1e-9, atol=1e-7)
    assert wins_interval(scale * x) == wins_interval(x)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (250, 1000)])
def test_a_proportions_interval_is_scipys(successes, n, level):
    expected = stats.binomtest(successes, n).proportion_ci(level, method="exact")
    # SciPy finds its ends by root finding, to some 1e-12.
    np.testing.assert_allclose(proportion_interval(successes, n, level), (successes / n, *expected, level), atol=1e-11)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_proportions_that_cannot_be_are_refused(successes, n):
    with pytest.raises(ValueError, match=f"successes, not {successes}"):
        proportion_interval(successes, n)


def test_no_runs_have_no_proportion_and_no_wins():
    nothing = np.zeros(0)
    for interval in (
        proportion_interval(0, 0),
        wins_interval(nothing),
        proportion_difference_interval(nothing > 0, nothing > 0),
        median_interval(nothing),
    ):
        np.testing.assert_equal(tuple(interval), (NAN, NAN, NAN, 0.95))


def test_ties_count_half_in_the_value_and_fully_against_each_end():
    # Three wins, two ties, one loss.
    interval = wins_interval(np.array([-1.0, -INF, -2.0, 0.0, 0.0, 1.0]))
    assert interval.value == 4 / 6
    assert interval.low == proportion_interval(3, 6).low
    assert interval.high == proportion_interval(5, 6).high


def test_what_may_be_a_tie_is_neither_won_nor_lost():
    low, high = np.array([-1.0, 0.0, -3.0]), np.array([0.0, 1.0, -2.0])
    assert wins_interval(low, high) == (2 / 3, proportion_interval(1, 3).low, 1, 0.95)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_difference_of_proportions_is_of_the_pairs_that_disagree(level):
    # Of 20 seeds 8 succeed with a alone, 1 with b alone, 6 with both.
    a = np.arange(20) < 14
    b = np.isin(np.arange(20), [*range(8, 14), 19])
    interval = proportion_difference_interval(a, b, level)
    only_a = stats.binomtest(8, 20).proportion_ci(1 - (1 - level) / 2)
    only_b = stats.binomtest(1, 20).proportion_ci(1 - (1 - level) / 2)
    expected = (7 / 20, only_a.low - only_b.high, only_a.high - only_b.low, level)
    np.testing.assert_allclose(interval, expected, atol=1e-11)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_swapping_mirrors_a_difference_of_proportions_and_order_does_not_matter(pairs, random):
    a, b = np.array(pairs).T
    interval = proportion_difference_interval(a, b)
    assert proportion_difference_interval(b, a) == mirrored(interval)
    a, b = np.array(random.sample(pairs, len(pairs))).T
    assert proportion_difference_interval(a, b) == interval
    assert -1 <= interval.low <= interval.value <= interval.high <= 1


def test_proportions_that_are_not_paired_are_refused():
    with pytest.raises(ValueError, match="same length"):
        proportion_difference_interval(np.zeros(3, bool), np.zeros(2, bool))

"""Measures of a search over trials, and iterations to a level, against brute force and cases worked by hand."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_jax.analysis import best_of_another_search, expected_best, iterations_to, tolerated_range

INF, NAN = np.inf, np.nan
# Sums of some tens of products, each a rounding of 2⁻⁵³.
ROUNDING = 1e-12

trials = st.lists(st.integers(0, 6).map(float) | st.sampled_from([INF, -INF]), min_size=1, max_size=8).map(np.array)


@given(trials)
def test_the_best_of_a_budget_is_that_of_all_subsets(values):
    budgets = np.arange(1, len(values) + 1)
    best = [[min(subset) for subset in itertools.combinations(values, n)] for n in budgets]
    with np.errstate(invalid="ignore"):
        expected = [sum(found) / len(found) for found in best]
    np.testing.assert_allclose(expected_best(values, budgets), expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(("count", "level"), [(3, 0.5), (4, 0.95), (5, 0.8), (5, 0.95)])
def test_the_best_of_another_search_exceeds_the_limit_as_seldom_as_the_level_says_and_no_lower_value_does(count, level):
    # Oracle: all ways in which the ranks of 2N values fall to two searches; with exchangeable draws they are equally
    # probable.
    ranks = range(2 * count)
    splits = [(first, set(ranks) - set(first)) for first in itertools.combinations(ranks, count)]
    limits = [best_of_another_search(np.array(first[::-1], float), level) for first, _ in splits]
    exceeded = [min(second) > limit for (_, second), limit in zip(splits, limits, strict=True)]
    assert np.mean(exceeded) <= 1 - level
    positions = [first.index(limit) for (first, _), limit in zip(splits, limits, strict=True)]
    assert len(set(positions)) == 1
    lower = [first[positions[0] - 1] if positions[0] else -1 for first, _ in splits]
    assert np.mean([min(second) > value for (_, second), value in zip(splits, lower, strict=True)]) > 1 - level


def test_two_trials_are_too_few_to_say_what_another_search_finds_at_95_per_cent():
    # All of the first one's are less than both of the second's with probability 1/C(4, 2).
    assert best_of_another_search(np.array([1.0, 2.0]), 0.95) == INF
    assert best_of_another_search(np.array([1.0, INF, 2.0, 3.0]), 0.9) == 3.0


def test_large_numbers_of_trials_keep_their_digits(rng):
    # C(1000, 500) ≈ 3e299, and C(3000, 1500) is beyond float64.
    values = rng.normal(size=3000)
    ordered = [Fraction(value) for value in np.sort(values)]
    budgets = np.array([1, 2, 1500, 2999, 3000])
    for n, got in zip(budgets.tolist(), expected_best(values, budgets), strict=True):
        # P(the best has rank > i) = C(N − i, n) / C(N, n), from one rank to the next.
        beyond, expected = Fraction(1), Fraction(0)
        for i in range(min(60, 3001 - n) if n > 2 else 3001 - n):
            here = beyond * Fraction(n, 3000 - i)
            expected += here * ordered[i]
            beyond -= here
        # After 60 ranks at n ≥ 1500 some 2⁻⁶⁰ is left out.
        assert got == pytest.approx(float(expected), abs=ROUNDING)


def test_a_failed_trial_is_felt_as_long_as_all_drawn_can_fail():
    values = np.array([2.0, INF, 1.0, INF, 3.0])
    budgets = np.array([1, 2, 3])
    # Three of five: the best is 1 in 6 of 10 subsets, 2 in 3, 3 in 1.
    np.testing.assert_allclose(expected_best(values, budgets), [INF, INF, 1.5], rtol=ROUNDING)
    assert expected_best(np.full(3, INF), np.array([3])).tolist() == [INF]


def test_a_value_of_minus_infinity_is_the_best_of_every_budget_that_can_draw_it():
    assert expected_best(np.array([-INF, 1.0, 2.0]), np.array([1, 2, 3])).tolist() == [-INF, -INF, -INF]
    # The probabilities of the later ones are less than any float.
    assert expected_best(np.r_[np.full(1500, -INF), np.ones(2500)], np.array([2000])).tolist() == [-INF]


def test_budgets_beyond_the_trials_are_refused():
    for budget in (0, 4, -1):
        with pytest.raises(ValueError, match=f"between 1 and the 3 trials there are, not at {budget}"):
            expected_best(np.arange(3.0), np.array([1, budget]))
    with pytest.raises(ValueError, match="NaN"):
        expected_best(np.array([1.0, NAN]), np.array([1]))
    assert expected_best(np.arange(3.0), np.array([], int)).shape == (0,)


@pytest.mark.parametrize(
    ("losses", "factor", "expected"),
    [
        ([5.0, 1.0, 1.05, 1.2, INF], 1.1, (0.1, 1.0)),
        ([5.0, 1.0, 1.05, 1.2, INF], 1.25, (0.1, 10.0)),
        # Exactly at the factor is still tolerated.
        ([3.0, 2.0, 1.0, 2.0, 3.0], 2.0, (0.1, 10.0)),
        ([3.0, 2.0, 1.0, 2.0, 3.0], 1.0, (1.0, 1.0)),
        # What does well apart from the best is not contiguous with it.
        ([1.0, 5.0, 1.0, 1.01, 5.0], 1.1, (0.01, 0.01)),
        ([1.02, INF, 1.0, 1.01, 1.03], 1.1, (1.0, 100.0)),
        ([1.0, 1.0, 1.0, 1.0, 1.0], 1.1, (0.01, 100.0)),
        ([INF, INF, INF, INF, INF], 1.1, (NAN, NAN)),
    ],
)
def test_the_tolerated_range_is_the_contiguous_one_around_the_best(losses, factor, expected):
    rates, losses = np.array([0.01, 0.1, 1.0, 10.0, 100.0]), np.array(losses)
    np.testing.assert_equal(tolerated_range(rates, losses, factor), expected)
    # In any order.
    order = [3, 0, 4, 2, 1]
    np.testing.assert_equal(tolerated_range(rates[order], losses[order], factor), expected)


@pytest.mark.parametrize(
    ("rates", "losses", "factor"), [([0.0, 1.0], [1.0, 1.0], 1.1), ([1.0], [-1.0], 1.1), ([1.0], [1.0], 0.9)]
)
def test_ranges_that_mean_nothing_are_refused(rates, losses, factor):
    with pytest.raises(ValueError, match="must be positive, losses not negative, and the factor 1 or more"):
        tolerated_range(np.array(rates), np.array(losses), factor)


def test_iterations_are_the_recorded_ones_and_infinite_where_the_level_is_never_reached():
    curves = np.array([[[5.0, 2.0, 3.0], [5.0, 4.0, 2.5]], [[1.0, 9.0, 9.0], [5.0, NAN, INF]]])
    got = iterations_to(curves, np.array([0, 50, 100]), 2.5)
    assert got.dtype == np.float64
    assert got.tolist() == [[50, 100], [0, INF]]

"""Profiles, scores and means over tasks; the oracles are their definitions, written out over small tables."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from momentum_jax.analysis import (
    interval_over_tasks,
    log_time_ratios,
    performance_profile,
    performance_ratios,
    task_scores,
)

TIMES = np.array([[30.0, 50.0, np.inf, np.inf], [10.0, 75.0, 8.0, np.inf], [20.0, 50.0, 40.0, np.inf]])
# Sums of a few numbers.
ROUNDING = 1e-12


def ratio_by_definition(s, task):
    best = min(TIMES[other, task] for other in range(3))
    return TIMES[s, task] / best if math.isfinite(TIMES[s, task]) else math.inf


def profile_by_definition(s, factor):
    within = [task for task in range(4) if ratio_by_definition(s, task) <= factor]
    return len(within) / 4


def test_ratios_and_profiles_are_those_of_the_definition():
    ratios = performance_ratios(TIMES)
    assert ratios.tolist() == [[ratio_by_definition(s, task) for task in range(4)] for s in range(3)]
    # On both sides of every ratio, and at it.
    factors = np.array([1.0, 1.5, 1.5 - 1e-9, 2.0, 3.0, 4.0, 5.0, 1e9])
    expected = [[profile_by_definition(s, factor) for factor in factors] for s in range(3)]
    assert performance_profile(ratios, factors).tolist() == expected


@pytest.mark.parametrize("limit", [4.0, 2.0, 6.0])
def test_the_score_is_the_integral_of_the_profile(limit):
    scores = task_scores(performance_ratios(TIMES), limit).mean(axis=1)
    for s in range(3):
        area, _ = integrate.quad(lambda t, s=s: profile_by_definition(s, t), 1, limit, points=[1.5, 2, 3, 5], limit=200)
        # The tolerance of `quad`.
        assert scores[s] == pytest.approx(area / (limit - 1), abs=1e-8)


def test_a_ratio_of_times_is_bounded_by_the_limit_and_1_where_both_miss():
    ratios = np.exp(log_time_ratios(TIMES[0], TIMES[1]))
    np.testing.assert_allclose(ratios, [3.0, 50 / 75, 4.0, 1.0], rtol=ROUNDING)
    np.testing.assert_allclose(np.exp(log_time_ratios(TIMES[1], TIMES[0], 2.0)), [0.5, 1.5, 0.5, 1.0], rtol=ROUNDING)


def log_ratio(medians):
    return log_time_ratios(medians[1], medians[0])


def test_without_noise_of_the_seeds_the_interval_over_tasks_is_students():
    ratios = np.array([0.5, 0.7, 1.1, 0.9, 0.4])
    times = [np.array([[10.0] * 4, [10 * ratio] * 4]) for ratio in ratios]
    value, low, high, level = interval_over_tasks(times, log_ratio, 0.9)
    expected = stats.t.interval(0.9, 4, np.log(ratios).mean(), stats.sem(np.log(ratios)))
    np.testing.assert_allclose((low, high), expected, rtol=1e-9)
    assert (value, level) == (pytest.approx(np.log(ratios).mean()), 0.9)


def test_the_spread_is_that_of_all_resamples_of_tasks_and_seeds():
    """Three tasks of two seeds have 6³ equally likely resamples: a task, and for it one of 2² pairs of seeds."""
    rng = np.random.default_rng(1)
    times = [np.exp(rng.normal(size=(2, 2))) for _ in range(3)]
    draws = [
        log_ratio(np.median(task[:, seeds], axis=1)[:, None])[0]
        for task in times
        for seeds in itertools.product(range(2), repeat=2)
    ]
    spread = np.std([np.mean(three) for three in itertools.product(draws, repeat=3)])
    interval = interval_over_tasks(times, log_ratio, resamples=40_000)
    expected = stats.t.ppf(0.975, 2) * spread * math.sqrt(3 / 2)
    # Of 40,000 resamples the standard deviation is known to 1/√(2·40,000), half a percent; four times that.
    assert interval.high - interval.value == pytest.approx(expected, rel=0.02)


def test_runs_that_miss_count_as_the_limit_and_a_median_of_misses_as_a_miss():
    times = [np.array([[10.0, 10.0], [np.inf, 10.0]]), np.array([[10.0], [20.0]])]
    mean = interval_over_tasks(times, log_ratio).value
    # One miss of two runs makes the median infinite.
    assert mean == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_fewer_than_three_tasks_have_a_mean_and_no_interval():
    value, low, high, _ = interval_over_tasks([np.array([[1.0], [2.0]])] * 2, log_ratio)
    assert value == pytest.approx(math.log(2))
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: performance_ratios(np.array([[0.0]])), "times must be positive"),
        (lambda: log_time_ratios(np.array([np.nan]), np.array([1.0])), "times must be positive"),
        (lambda: performance_profile(np.ones((2, 0)), np.ones(1)), "at least one task"),
        (lambda: task_scores(np.ones((1, 1)), 1.0), "more than 1"),
        (lambda: interval_over_tasks([], log_ratio), "at least one task"),
        (lambda: interval_over_tasks([np.ones((2, 0))], log_ratio), "runs of each"),
        (lambda: interval_over_tasks([np.ones((2, 1))], log_ratio, 1.0), "level"),
    ],
)
def test_what_has_no_meaning_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

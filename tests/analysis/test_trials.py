"""What the trials of a sweep come to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_jax.analysis import ends_of_axes, median_of_trials

LOSSES = st.lists(st.floats(0, 10), min_size=1, max_size=7)


def none_of(losses):
    return np.zeros_like(losses, bool)


@given(LOSSES)
def test_without_failures_it_is_the_median(losses):
    losses = np.asarray([losses])
    assert median_of_trials(losses, none_of(losses), none_of(losses)).tolist() == [np.median(losses)]


@given(LOSSES, st.integers(0, 7), st.randoms())
def test_a_failed_run_counts_as_later_than_all_whatever_its_loss(losses, count, order):
    failed = np.arange(len(losses)) < count
    worst = np.sort(np.where(failed, np.inf, losses))
    middle = worst[[(len(losses) - 1) // 2, len(losses) // 2]]
    expected = middle.mean() if np.isfinite(middle).all() else np.inf
    at = order.sample(range(len(losses)), len(losses))
    got = median_of_trials(np.asarray([losses])[:, at], failed[None, at], none_of(failed[None]))
    assert got.tolist() == [expected]


def test_a_loss_that_is_not_finite_is_a_failure():
    losses = np.array([[np.nan, 1.0, np.inf]])
    assert median_of_trials(losses, none_of(losses), none_of(losses)).tolist() == [np.inf]


def test_missing_runs_do_not_count_and_a_trial_of_nothing_else_is_infinite():
    losses = np.array([[1.0, np.nan], [np.nan, np.nan]])
    assert median_of_trials(losses, none_of(losses), np.isnan(losses)).tolist() == [1.0, np.inf]


@pytest.mark.parametrize(
    ("axes", "best", "expected"),
    [
        ({"learning_rate": [0.1, 0.2, 0.3]}, 1, {}),
        ({"learning_rate": [0.1, 0.2, 0.3]}, 2, {"learning_rate": ("highest", 0.3)}),
        ({"learning_rate": [0.1, 0.2, 0.3]}, 0, {"learning_rate": ("lowest", 0.1)}),
        ({"a": [1, 2, 3], "b": [3, 2, 2]}, 1, {"b": ("lowest", 2)}),
        # What is no number has no edge.
        ({"nesterov": [False, True], "mode": ["a", "b"], "mixed": [1, None]}, 1, {}),
        ({}, 0, {}),
    ],
)
def test_the_edges_of_the_numeric_axes_are_told(axes, best, expected):
    assert ends_of_axes(axes, best) == expected

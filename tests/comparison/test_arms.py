"""The values of runs, and the target whose time is taken, from runs made by hand."""

import math

import numpy as np

from momentum_jax.comparison.arms import arm_of, common_target, with_times
from tests.comparison.by_hand import arm, result_of


def test_a_failed_run_has_the_worst_value_of_every_metric():
    values = arm_of(result_of(failed=[1]), "a", None).values
    assert values["test_loss"].tolist() == [0.5, np.inf]
    assert values["test_accuracy"].tolist() == [0.75, -np.inf]
    assert values["mean_loss"].tolist() == [1, np.inf]
    assert values["failed"].tolist() == [0, 1]
    assert math.isinf(arm_of(result_of(loss=np.inf), "a", None).values["mean_loss"][0])


def test_the_time_to_the_target_is_that_of_the_smoothed_loss_and_never_for_a_run_that_failed():
    falling = np.concatenate([np.full(40, 2.0), np.full(40, 0.5)])
    both = arm(range(2), curves=[falling, falling], failed=[False, True])
    iterations = np.arange(0, 160, 2)
    timed = with_times(both._replace(seconds_per_step=np.array([0.4, 0.5, 0.9])), iterations, 1.0)
    # The window has 11 records and is symmetric, so the smoothed loss passes 1.25, halfway down, at the step.
    assert timed.values["iterations_to_target"][0] in (82, 84)
    assert timed.values["seconds_to_target"][0] == timed.values["iterations_to_target"][0] / 2
    assert timed.values["iterations_to_target"][1] == np.inf
    assert "seconds_to_target" not in with_times(both, iterations, 1.0).values


def test_the_common_target_is_what_the_median_run_of_every_arm_reaches():
    def level(*lows, failed=False):
        return arm(range(3), curves=[np.full(20, low) for low in lows], failed=[failed] * 3)

    # Medians 0.123 and 0.2001; the larger, rounded up to two digits.
    assert common_target([level(0.1, 0.123, 9), level(0.1, 0.2001, 0.3)]) == 0.21
    assert common_target([level(0.1, 0.123, 9), level(1, 1, 1, failed=True)]) == 0.13
    assert common_target([level(1, 1, 1, failed=True)]) is None
    # Losses may be negative: the median −1.234 reaches −1.2.
    assert common_target([level(-1.234, -1.234, -1.234), level(-5, -5, -5)]) == -1.2
    assert common_target([level(0, 0, 0)]) == 0

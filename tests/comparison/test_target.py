"""The target whose time is taken, the times to it, and how often these give verdicts."""

import numpy as np
import pytest
import target_simulation

import momentum_jax as mj
from momentum_jax.comparison.target import reachable_loss, with_times
from tests.comparison.by_hand import arm


def config(iterations, **changes):
    return mj.Config(iterations=iterations, **changes)


def level(*lows, failed=False):
    curves = np.asarray([np.full(20, low) for low in lows], np.float32)
    return arm(range(len(lows)), curves=curves, failed=[failed] * len(lows))


def test_the_time_to_the_target_is_that_of_the_smoothed_loss_and_never_for_a_run_that_failed():
    falling = np.concatenate([np.full(40, 2.0), np.full(40, 0.5)])
    both = arm(range(2), curves=[falling, falling], failed=[False, True])
    timed = with_times(both._replace(seconds_per_step=np.array([0.4, 0.5, 0.9])), config(80), 1.0)
    # The window has 11 iterations and is symmetric, so the smoothed loss passes 1.25, halfway down, at the step.
    assert timed.values["iterations_to_target"][0] in (41, 42)
    assert timed.values["seconds_to_target"][0] == timed.values["iterations_to_target"][0] / 2
    assert timed.values["iterations_to_target"][1] == np.inf
    assert "seconds_to_target" not in with_times(both, config(80), 1.0).values


@pytest.mark.parametrize("every", [1, 2, 5, 10, 20])
def test_the_smoothing_spans_eleven_recorded_losses_and_keeps_the_time_of_a_line(every):
    cfg = config(1001, record_every=every)
    line = np.linspace(2, 1, 1001)[::every]
    # The line passes 1.4 at iteration 600, and what is recorded is at most one record later.
    (time,) = with_times(arm([0], curves=[line]), cfg, 1.4).values["iterations_to_target"]
    assert 600 <= time < 600 + every
    step = np.where(np.arange(1001) < 600, 2.0, 1.0)[::every]
    times = [
        with_times(arm([0], curves=[step]), cfg, loss).values["iterations_to_target"][0] for loss in (1.999, 1.001)
    ]
    # The smoothed step begins and ends five records from it.
    assert times == [600 - 5 * every, 600 + 5 * every]


def test_the_target_is_what_nine_runs_in_ten_of_every_optimizer_reach_rounded_up_to_two_digits():
    a, b = level(*[0.1] * 9, 9), level(*np.linspace(0.11, 0.2001, 9), 0.3)
    assert reachable_loss([a, b], config(20)) == 0.21
    assert reachable_loss([a], config(20)) == 0.1
    assert reachable_loss([a, level(*[1] * 10, failed=True)], config(20)) is None
    # Losses may be negative: −1.234 reaches −1.2.
    assert reachable_loss([level(*[-1.234] * 10), level(*[-5] * 10)], config(20)) == -1.2
    assert reachable_loss([level(*[0] * 10)], config(20)) == 0


@pytest.mark.parametrize("loss", [0.1, 0.3, 0.7, 1.1, 23.0, 0.0031])
def test_a_constant_loss_of_two_digits_is_its_own_target_and_reached_at_once(loss):
    constant = level(*[loss] * 10)
    assert reachable_loss([constant], config(20)) == loss
    assert with_times(constant, config(20), loss).values["iterations_to_target"].tolist() == [0] * 10


def test_the_target_is_reached_in_three_quarters_of_the_iterations():
    falling = arm(range(10), curves=np.tile(np.linspace(2, 1, 101), (10, 1)))
    # Iteration 75 of 101 is the last that counts.
    assert reachable_loss([falling], config(101)) == 1.3
    times = with_times(falling, config(101), 1.3).values["iterations_to_target"]
    assert set(times) == {70}


@pytest.mark.parametrize(
    ("seeds", "speed", "least", "most"),
    [
        # Identical optimizers: almost always a verdict, and seldom a false one.
        (20, 1.0, {"no difference found": 0.95}, {"no verdict": 0.02, "better": 0.02, "worse": 0.02}),
        # One that is 10 % faster is found more often the more seeds there are.
        (10, target_simulation.FASTER, {}, {"no verdict": 0.02, "worse": 0.01, "better": 0.2}),
        (30, target_simulation.FASTER, {"better": 0.4}, {"no verdict": 0.02, "worse": 0.01}),
    ],
)
def test_times_to_a_target_of_ten_tuning_runs_give_verdicts_that_are_seldom_false(seeds, speed, least, most):
    shares = target_simulation.shares(seeds, speed, 200)
    for outcome, share in least.items():
        assert shares[outcome] >= share
    for outcome, share in most.items():
        assert shares[outcome] <= share

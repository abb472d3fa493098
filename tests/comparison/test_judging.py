"""The numbers of verdicts, from paired runs made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.comparison.by_hand import arm, losses, verdict_of


def test_a_difference_is_found_where_the_interval_leaves_out_zero():
    # With 8 seeds the 95 % interval of the median goes from the least but none to the greatest: P(X = 0) is 1/256.
    arms = losses(-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8)
    verdict = verdict_of("train_loss", *arms)
    assert (verdict.outcome, verdict.pairs, verdict.median_a, verdict.median_b) == ("better", 8, pytest.approx(0.55), 1)
    assert verdict.difference[:3] == pytest.approx((-0.45, -0.8, -0.1))
    turned = verdict_of("train_loss", *arms, pair="yx")
    assert (turned.outcome, turned.median_a, turned.median_b) == ("worse", 1, pytest.approx(0.55))
    assert turned.difference[:3] == pytest.approx((0.45, 0.1, 0.8))


@pytest.mark.parametrize(
    ("margin", "outcome"), [(None, "no difference found"), (0.0035, "no difference found"), (0.005, "equivalent")]
)
def test_two_are_equivalent_if_the_interval_lies_within_the_margin(margin, outcome):
    # The interval is from −0.003 to 0.004.
    x, y = losses(-0.003, 0.004, 0.001, -0.001, 0.002, -0.002, 0, 0)
    assert verdict_of("train_loss", x, y, margin=margin).outcome == outcome
    # Of losses the margin is a proportion of y's median, of accuracies it is a number of its own.
    tenfold = [arm(train_loss=10 * own.values["train_loss"]) for own in (x, y)]
    assert verdict_of("train_loss", *tenfold, margin=margin).outcome == outcome
    lower = [arm(test_accuracy=own.values["train_loss"] - 0.5) for own in (x, y)]
    assert verdict_of("test_accuracy", *lower, margin=margin).outcome == outcome


def test_of_an_accuracy_more_is_better_and_a_failed_run_has_the_worst():
    a, b = arm(test_accuracy=[0.9] * 7 + [-np.inf]), arm(test_accuracy=[0.8] * 8)
    verdict = verdict_of("test_accuracy", a, b)
    assert verdict.outcome == "no difference found"
    assert verdict.difference.low == -np.inf
    assert verdict.difference.high == pytest.approx(0.1)
    better = verdict_of("test_accuracy", arm(test_accuracy=np.full(8, 0.9)), b)
    assert better.outcome == "better"
    assert better.difference[:3] == pytest.approx((0.1, 0.1, 0.1))
    assert better.mean[:3] == pytest.approx((0.1, 0.1, 0.1))


def test_too_few_seeds_get_no_verdict_but_the_mean_of_five_has_an_interval():
    one = verdict_of("train_loss", arm([0], train_loss=[1]), arm([0], train_loss=[2]))
    assert one.outcome == "no verdict"
    # A proportion has an interval for a single run, too wide to say anything but within a margin of 1.
    assert verdict_of("failed", arm([0], failed=[True]), arm([0]), margin=1).outcome == "no verdict"
    # Differences −1.2, −1.1, −1, −0.9, −0.8: the mean −1, s² = 0.025, and Student's t for 95 % and 4 degrees is 2.7764.
    values = np.array([0.8, 0.9, 1.0, 1.1, 1.2])
    five = verdict_of("train_loss", arm(range(5), train_loss=values), arm(range(5), train_loss=np.full(5, 2.0)))
    half = 2.776445105 * np.sqrt(0.025 / 5)
    assert five.mean[:3] == pytest.approx((-1, -1 - half, -1 + half))
    assert five.outcome == "no verdict"


def test_runs_are_paired_by_their_seeds_and_those_of_one_alone_are_left_out():
    a, b = arm([5, 1, 3], train_loss=[50, 10, 30]), arm([3, 4, 5], train_loss=[31, 0, 51])
    verdict = verdict_of("train_loss", a, b)
    assert (verdict.pairs, verdict.median_a, verdict.median_b, verdict.mean.value) == (2, 40, 41, -1)
    none = verdict_of("train_loss", arm([0], train_loss=[1]), arm([1], train_loss=[1]))
    assert (none.outcome, none.pairs) == ("no verdict", 0)


def test_misses_count_as_later_than_all_and_pairs_of_two_misses_say_nothing():
    times = [10, 20, 30, 40, 50, 60, np.inf, np.inf]
    a, b = arm(iterations_to_target=times), arm(iterations_to_target=[100] * 7 + [np.inf])
    verdict = verdict_of("iterations_to_target", a, b, target=0.25)
    # Seed 6: +inf. Seed 7: anything. So the upper end is +inf and the lower −inf.
    assert verdict.difference[1:3] == (-np.inf, np.inf)
    assert verdict.outcome == "no verdict"
    a = arm(iterations_to_target=[10, 20, 30, 40, 50, 60, 70, 80])
    b = arm(iterations_to_target=[100] * 6 + [np.inf] * 2)
    verdict = verdict_of("iterations_to_target", a, b, target=0.25)
    assert (verdict.outcome, verdict.difference[1:3]) == ("better", (-np.inf, -40))
    failed = verdict_of("train_loss", arm(train_loss=np.full(8, np.inf)), arm(train_loss=np.ones(8)))
    assert (failed.outcome, failed.difference[1:3]) == ("worse", (np.inf, np.inf))
    never = arm(iterations_to_target=np.full(8, np.inf))
    assert verdict_of("iterations_to_target", never, never, target=0.25).outcome == "no verdict"


def test_failed_runs_are_compared_by_their_proportions():
    verdict = verdict_of("failed", arm(failed=[1, 1, 0, 0, 0, 0, 0, 0]), arm())
    assert np.isnan(verdict.mean.value)
    assert (verdict.median_a, verdict.median_b, verdict.difference.value) == (0.25, 0, 0.25)
    assert verdict.outcome == "no difference found"


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=12),
    st.sampled_from([None, 0.01, 0.5]),
)
def test_an_outcome_says_no_more_than_its_interval_and_turns_with_the_pair(pairs, margin):
    x, y = np.transpose(pairs)
    arms = arm(range(len(x)), train_loss=x), arm(range(len(y)), train_loss=y)
    one, other = (verdict_of("train_loss", *arms, pair=pair, margin=margin) for pair in ("xy", "yx"))
    low, high = one.difference.low, one.difference.high
    if one.outcome in ("better", "worse"):
        assert (high < 0) == (one.outcome == "better")
        assert (low > 0) == (one.outcome == "worse")
    elif one.outcome == "equivalent":
        assert max(abs(low), abs(high)) <= margin * np.median(y)
    elif one.outcome == "no difference found":
        assert low <= 0 <= high
    else:
        assert len(x) < 6
    assert other.difference.low == pytest.approx(-high, nan_ok=True)
    assert other.wins.value == pytest.approx(1 - one.wins.value)
    if margin is None:
        mirrored = {"better": "worse", "worse": "better"}
        assert other.outcome == mirrored.get(one.outcome, one.outcome)


def test_seconds_are_known_no_better_than_the_rounds_in_which_a_step_was_measured_agree():
    def timed(iterations, seconds):
        values = np.full(8, float(iterations))
        own = arm(iterations_to_target=values, seconds_to_target=values * np.median(seconds))
        return own._replace(seconds_per_step=np.asarray(seconds))

    # A step of x costs 0.9 to 1.1 of one of y, in rounds that were slow and fast for both.
    x, y = timed(100, [0.9, 2.0, 4.4]), timed(100, [1.0, 2.0, 4.0])
    verdict = verdict_of("seconds_to_target", x, y)
    # Nominally both take 200 seconds.
    assert verdict.difference[:3] == pytest.approx((0, -20, 20))
    assert np.isnan(verdict.mean.low)
    assert verdict.outcome == "no difference found"
    assert verdict_of("seconds_to_target", timed(50, [0.9, 2.0, 4.4]), y).outcome == "better"

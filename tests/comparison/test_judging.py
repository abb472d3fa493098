"""What may be said of paired runs, from runs made by hand."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentum_jax as mj
from momentum_jax.comparison.arms import Arm, arm_of, common_target, with_times
from momentum_jax.comparison.judging import judge
from momentum_jax.comparison.procedure import check_same_task
from momentum_jax.results.record import Record
from momentum_jax.results.result import from_records
from momentum_jax.space import Trial

TRIAL = Trial(mj.OptimizerConfig("sgd", learning_rate=0.1), 128)
N = 8


def arm(seeds=range(N), *, curves=None, failed=None, **values):
    seeds = np.asarray(list(seeds))
    failed = np.zeros(len(seeds), bool) if failed is None else np.asarray(failed)
    curves = np.ones([len(seeds), 3]) if curves is None else np.asarray(curves, float)
    return Arm(TRIAL, seeds, 0, curves, failed, None, {k: np.asarray(v, float) for k, v in values.items()})


def verdict_of(metric, a, b, *, level=0.95, margin=None, target=None):
    return judge("same", metric, {"x": a, "y": b}, "x", "y", level=level, margin=margin, target=target)


def losses(*differences):
    """Of y 1, 1, …, and of x these differences more."""
    return arm(train_loss=1 + np.asarray(differences)), arm(train_loss=np.ones(len(differences)))


def test_a_difference_is_found_where_the_interval_leaves_out_zero_and_the_sentence_says_just_that():
    # With 8 seeds the 95 % interval of the median goes from the least but none to the greatest: P(X = 0) is 1/256.
    verdict = verdict_of("train_loss", *losses(-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8))
    assert (verdict.outcome, verdict.pairs, verdict.median_a, verdict.median_b) == ("better", 8, pytest.approx(0.55), 1)
    assert verdict.difference[:3] == pytest.approx((-0.45, -0.8, -0.1))
    expected = "x has a lower loss on the training set than y: 0.55 against 1 (−80.0 % to −10.0 %; 8 seeds)."
    assert verdict.sentence == expected
    turned = judge(
        "same",
        "train_loss",
        dict(zip("xy", losses(-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8), strict=True)),
        "y",
        "x",
        level=0.95,
        margin=None,
        target=None,
    )
    assert turned.outcome == "worse"
    assert turned.sentence.startswith("y has a higher loss on the training set than x: 1 against 0.55")


def test_where_the_interval_holds_zero_no_difference_is_found_and_its_ends_are_said():
    verdict = verdict_of("train_loss", *losses(-0.003, 0.004, 0.001, -0.001, 0.002, -0.002, 0, 0))
    assert verdict.outcome == "no difference found"
    assert verdict.sentence == (
        "No difference found in the loss on the training set between x and y: 1 against 1 (−0.3 % to +0.4 %; 8 seeds)."
    )


def test_within_the_margin_two_are_equivalent_and_beyond_it_they_are_not():
    differences = (-0.003, 0.004, 0.001, -0.001, 0.002, -0.002, 0, 0)
    assert verdict_of("train_loss", *losses(*differences), margin=0.005).outcome == "equivalent"
    assert verdict_of("train_loss", *losses(*differences), margin=0.0035).outcome == "no difference found"
    assert "within ±0.5 %" in verdict_of("train_loss", *losses(*differences), margin=0.005).sentence


def test_of_an_accuracy_more_is_better_and_a_failed_run_has_the_worst():
    a, b = arm(test_accuracy=[0.9] * 7 + [-np.inf]), arm(test_accuracy=[0.8] * 8)
    verdict = verdict_of("test_accuracy", a, b)
    assert verdict.outcome == "no difference found"
    assert verdict.difference.low == -np.inf
    assert "+10.0 percentage points or less" in verdict.sentence
    assert verdict_of("test_accuracy", arm(test_accuracy=np.full(8, 0.9)), b).sentence == (
        "x has a higher accuracy on the test set than y: 90.00 % against 80.00 % (+10.0 to +10.0 percentage points; "
        "8 seeds)."
    )


def test_too_few_seeds_get_no_verdict_but_the_mean_of_five_has_an_interval():
    one = verdict_of("train_loss", arm([0], train_loss=[1]), arm([0], train_loss=[2]))
    assert one.outcome == "no verdict"
    assert one.sentence == (
        "No verdict on the loss on the training set of x and y, 1 against 2: one seed gives no interval."
    )
    # Differences −1.2, −1.1, −1, −0.9, −0.8: the mean −1, s² = 0.025, and Student's t for 95 % and 4 degrees is 2.7764.
    values = np.array([0.8, 0.9, 1.0, 1.1, 1.2])
    five = verdict_of("train_loss", arm(range(5), train_loss=values), arm(range(5), train_loss=np.full(5, 2.0)))
    half = 2.776445105 * np.sqrt(0.025 / 5)
    assert five.mean[:3] == pytest.approx((-1, -1 - half, -1 + half))
    assert five.outcome == "no verdict"
    assert "5 seeds are too few for an interval of 95 %" in five.sentence


def test_runs_are_paired_by_their_seeds_and_those_of_one_alone_are_left_out():
    a, b = arm([5, 1, 3], train_loss=[50, 10, 30]), arm([3, 4, 5], train_loss=[31, 0, 51])
    verdict = verdict_of("train_loss", a, b)
    assert (verdict.pairs, verdict.median_a, verdict.median_b, verdict.mean.value) == (2, 40, 41, -1)
    none = verdict_of("train_loss", arm([0], train_loss=[1]), arm([1], train_loss=[1]))
    assert "no seed has runs of both" in none.sentence


def test_times_with_misses_count_as_later_than_all_and_two_misses_say_nothing():
    times = [10, 20, 30, 40, 50, 60, np.inf, np.inf]
    a, b = arm(iterations_to_target=times), arm(iterations_to_target=[100] * 7 + [np.inf])
    verdict = verdict_of("iterations_to_target", a, b, target=0.25)
    # Seed 6: +inf. Seed 7: anything. So the upper end is +inf and the lower −inf.
    assert verdict.difference[1:3] == (-np.inf, np.inf)
    assert verdict.outcome == "no verdict"
    assert verdict.sentence.endswith("45 against 100: too many runs failed or missed the target.")
    a = arm(iterations_to_target=[10, 20, 30, 40, 50, 60, 70, 80])
    b = arm(iterations_to_target=[100] * 6 + [np.inf] * 2)
    verdict = verdict_of("iterations_to_target", a, b, target=0.25)
    assert verdict.sentence == (
        "x needs fewer iterations to a loss of 0.25 than y: 45 against 100 (−40.0 % or less; 8 seeds)."
    )
    failed = verdict_of("train_loss", arm(train_loss=np.full(8, np.inf)), arm(train_loss=np.ones(8)))
    assert failed.sentence == "x has a higher loss on the training set than y: failed against 1 (8 seeds)."
    never = arm(iterations_to_target=np.full(8, np.inf))
    sentence = verdict_of("iterations_to_target", never, never, target=0.25).sentence
    assert sentence == (
        "No verdict on the iterations to a loss of 0.25 of x and y, never against never: neither reaches the target."
    )


def test_failed_runs_are_compared_by_their_shares():
    a, b = arm(failed=[1, 1, 0, 0, 0, 0, 0, 0]), arm()
    a, b = (x._replace(values={"failed": x.failed.astype(float)}) for x in (a, b))
    verdict = verdict_of("failed", a, b)
    assert (verdict.median_a, verdict.median_b, verdict.difference.value) == (0.25, 0, 0.25)
    assert verdict.outcome == "no difference found"


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=12),
    st.sampled_from([None, 0.01, 0.5]),
)
def test_an_outcome_says_no_more_than_its_interval_and_turns_with_the_pair(pairs, margin):
    x, y = np.transpose(pairs)
    arms = {"x": arm(range(len(x)), train_loss=x), "y": arm(range(len(y)), train_loss=y)}
    one, other = (
        judge("same", "train_loss", arms, *pair, level=0.95, margin=margin, target=None) for pair in ("xy", "yx")
    )
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


def test_the_time_to_the_target_is_that_of_the_smoothed_loss_and_never_for_a_run_that_failed():
    falling = np.concatenate([np.full(40, 2.0), np.full(40, 0.5)])
    both = arm(range(2), curves=[falling, falling], failed=[False, True])
    iterations = np.arange(0, 160, 2)
    timed = with_times(both._replace(seconds_per_step=np.array([0.4, 0.5, 0.9])), iterations, 1.0)
    # The window has 11 records and is symmetric, so that the smoothed loss passes 1.25, the middle, at the step.
    assert timed.values["iterations_to_target"][0] in (82, 84)
    assert timed.values["seconds_to_target"][0] == timed.values["iterations_to_target"][0] / 2
    assert timed.values["iterations_to_target"][1] == np.inf
    assert "seconds_to_target" not in with_times(both, iterations, 1.0).values


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


def test_the_common_target_is_what_the_median_run_of_every_arm_reaches():
    def level(*lows, failed=False):
        return arm(range(3), curves=[np.full(20, low) for low in lows], failed=[failed] * 3)

    # Medians 0.123 and 0.2; the larger, rounded up to two digits.
    assert common_target([level(0.1, 0.123, 9), level(0.1, 0.2001, 0.3)]) == 0.21
    assert common_target([level(0.1, 0.123, 9), level(1, 1, 1, failed=True)]) == 0.13
    assert common_target([level(1, 1, 1, failed=True)]) is None
    # Losses may be negative: −1.234 is reached where −1.2 is.
    assert common_target([level(-1.234, -1.234, -1.234), level(-5, -5, -5)]) == -1.2
    assert common_target([level(0, 0, 0)]) == 0


def result_of(label="a", *, loss=1.0, failed=(), seeds=(0, 1), digest="d", **changes):
    seeds = tuple(seeds)
    cfg = mj.Config(iterations=4, seeds=seeds, optimizers={label: TRIAL.optimizer}, **changes)
    history = np.full(4, loss, np.float32)
    finals = {"test_loss": np.asarray([0.5]), "test_accuracy": np.asarray([0.75])}
    runs = [Record(history, history, {}, -1, finals, i in failed, None) for i in range(len(seeds))]
    return from_records(cfg, {label: [runs]}, np.arange(4), [4], {"data": {"digest": digest}})


def test_a_failed_run_has_the_worst_value_of_every_metric():
    values = arm_of(result_of(failed=[1]), "a", None).values
    assert values["test_loss"].tolist() == [0.5, np.inf]
    assert values["test_accuracy"].tolist() == [0.75, -np.inf]
    assert values["mean_loss"].tolist() == [1, np.inf]
    assert values["failed"].tolist() == [0, 1]
    assert math.isinf(arm_of(result_of(loss=np.inf), "a", None).values["mean_loss"][0])


def test_results_of_other_tasks_or_data_are_refused_by_the_first_difference():
    check_same_task([result_of("a", seeds=(0,)), result_of("b", seeds=(1, 2))])
    with pytest.raises(mj.InputError, match="batch_size is 128 in one and 64 in another"):
        check_same_task([result_of("a"), result_of("b", batch_size=64)])
    with pytest.raises(mj.InputError, match=r"different data .* digests d and e"):
        check_same_task([result_of("a"), result_of("b", digest="e")])
    other = dataclasses.replace(result_of("b"), provenance={"data": {"digest": "d"}, "functions": {"loss": "mine"}})
    with pytest.raises(mj.InputError, match="its functions are None in one and"):
        check_same_task([result_of("a"), other])


def test_results_are_judged_as_they_are_and_refused_where_that_would_flatter():
    compared = mj.compare_results(result_of("a", seeds=range(7)), result_of("b", loss=2.0, seeds=range(1, 8)))
    verdict = compared.verdict("given", "mean_loss", "b", "a")
    assert (verdict.pairs, verdict.median_a, verdict.outcome) == (6, 2, "worse")
    with pytest.raises(mj.InputError, match="label 'a'"):
        mj.compare_results(result_of("a"), result_of("a"))
    with pytest.raises(mj.InputError, match="two or more optimizers, not only 'a'"):
        mj.compare_results(result_of("a"))
    with pytest.raises(mj.InputError, match="did you mean 'mean_loss'"):
        mj.compare_results(result_of("a"), result_of("b"), judge_by=["mean_los"])
    with pytest.raises(mj.InputError, match="did you mean 'given, mean_loss, b, a'"):
        compared.verdict("given", "mean_loss", "a", "b")

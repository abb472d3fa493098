"""The sentences that say what a verdict, a sweep and a comparison come to, word by word."""

from functools import partial

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.wording import (
    format_value,
    note_on_budget,
    note_on_few_seeds,
    note_on_given_target,
    note_on_no_target,
    note_on_other_searches,
    notes_on_failures,
    notes_on_runs,
    notes_on_skipped,
    notes_on_target,
    notes_on_tuning,
    open_ends,
    title_of,
    title_of_tuning,
)
from momentum_jax.space import Trial
from tests.comparison.by_hand import arm, losses, verdict_of
from tests.report.judged import sweep_of

FALLING = -0.1 * np.arange(1, 9)
AROUND = (-0.003, 0.004, 0.001, -0.001, 0.002, -0.002, 0, 0)
SENTENCES = [
    (
        partial(verdict_of, "train_loss", *losses(*FALLING)),
        "x has a lower loss on the training set than y: 0.55 against 1 (−80.0 % to −10.0 %; 8 seeds).",
    ),
    (
        partial(verdict_of, "train_loss", *losses(*FALLING), pair="yx"),
        "y has a higher loss on the training set than x: 1 against 0.55 (+18.2 % to +145.5 %; 8 seeds).",
    ),
    (
        partial(verdict_of, "train_loss", *losses(*AROUND)),
        "No difference found in the loss on the training set between x and y: 1 against 1 (−0.3 % to +0.4 %; 8 seeds).",
    ),
    (
        partial(verdict_of, "train_loss", *losses(*AROUND), margin=0.005),
        "x and y are equivalent in the loss on the training set, within ±0.5 %: 1 against 1 (−0.3 % to +0.4 %; "
        "8 seeds).",
    ),
    (
        partial(verdict_of, "test_accuracy", arm(test_accuracy=np.full(8, 0.9)), arm(test_accuracy=[0.8] * 8)),
        "x has a higher accuracy on the test set than y: 90.00 % against 80.00 % (+10.0 to +10.0 percentage points; "
        "8 seeds).",
    ),
    (
        partial(verdict_of, "test_accuracy", arm(test_accuracy=[0.9] * 7 + [-np.inf]), arm(test_accuracy=[0.8] * 8)),
        "No difference found in the accuracy on the test set between x and y: 90.00 % against 80.00 % "
        "(+10.0 percentage points or less; 8 seeds).",
    ),
    (
        partial(
            verdict_of,
            "test_accuracy",
            arm(test_accuracy=np.full(8, 0.8)),
            arm(test_accuracy=np.full(8, 0.8)),
            margin=0.01,
        ),
        "x and y are equivalent in the accuracy on the test set, within ±1 percentage points: 80.00 % against 80.00 % "
        "(+0.0 to +0.0 percentage points; 8 seeds).",
    ),
    (
        partial(
            verdict_of,
            "iterations_to_target",
            arm(iterations_to_target=10 * np.arange(1, 9)),
            arm(iterations_to_target=[100] * 6 + [np.inf] * 2),
            target=0.25,
        ),
        "x needs fewer iterations to a loss of 0.25 than y: 45 against 100 (−40.0 % or less; 8 seeds).",
    ),
    (
        partial(verdict_of, "train_loss", arm(train_loss=np.full(8, np.inf)), arm(train_loss=np.ones(8))),
        "x has a higher loss on the training set than y: failed against 1 (8 seeds).",
    ),
    (
        partial(verdict_of, "train_loss", arm([0], train_loss=[1]), arm([0], train_loss=[2])),
        "No verdict on the loss on the training set of x and y, 1 against 2: an interval needs 6 seeds, not 1.",
    ),
    (
        partial(verdict_of, "train_loss", arm([0], train_loss=[1]), arm([1], train_loss=[1])),
        "No verdict on the loss on the training set of x and y, unknown against unknown: no seed has runs of both.",
    ),
    (
        partial(verdict_of, "train_loss", *losses(*FALLING[:5])),
        "No verdict on the loss on the training set of x and y, 0.7 against 1: an interval needs 6 seeds, not 5.",
    ),
    (
        partial(
            verdict_of,
            "iterations_to_target",
            arm(iterations_to_target=np.full(8, np.inf)),
            arm(iterations_to_target=np.full(8, np.inf)),
            target=0.25,
        ),
        "No verdict on the iterations to a loss of 0.25 of x and y, never against never: neither reaches the target.",
    ),
    (
        partial(
            verdict_of,
            "iterations_to_target",
            arm(iterations_to_target=[10, 20, 30, 40, 50, 60, np.inf, np.inf]),
            arm(iterations_to_target=[100] * 7 + [np.inf]),
            target=0.25,
        ),
        "No verdict on the iterations to a loss of 0.25 of x and y, 45 against 100: too many runs failed or missed the "
        "target.",
    ),
    (
        # Of 2 in 8 and of 0 in 8 the intervals of Clopper and Pearson at 97.5 % are 2.2 to 69.4 % and 0 to 42.2 %.
        partial(verdict_of, "failed", arm(failed=[True, True] + [False] * 6), arm()),
        "No difference found in the proportion of failed runs between x and y: 25.00 % against 0.00 % "
        "(−40.0 to +69.4 percentage points; 8 seeds).",
    ),
]


@pytest.mark.parametrize(("make_verdict", "sentence"), SENTENCES, ids=[sentence[:60] for _, sentence in SENTENCES])
def test_a_sentence_says_the_outcome_the_medians_the_interval_and_the_seeds_or_why_there_is_no_verdict(
    make_verdict, sentence
):
    assert make_verdict().sentence == sentence


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("train_loss", 0.123456, "0.1235"),
        ("train_loss", np.inf, "failed"),
        ("train_loss", np.nan, "unknown"),
        ("test_accuracy", 0.96803, "96.80 %"),
        ("test_accuracy", -np.inf, "failed"),
        ("failed", 0.25, "25.00 %"),
        ("iterations_to_target", 334.0, "334"),
        ("iterations_to_target", np.inf, "never"),
        ("seconds_to_target", 1.2345, "1.23 s"),
        ("perplexity", 12.0, "12"),
    ],
)
def test_a_value_is_written_with_the_digits_and_the_unit_of_its_metric(metric, value, text):
    assert format_value(metric, value) == text


def test_titles_say_the_target_as_a_number_and_what_the_tuning_minimises():
    assert title_of("iterations_to_target", 0.25) == "iterations to a loss of 0.25"
    assert title_of("iterations_to_target", None) == "iterations to the target"
    assert title_of("test_perplexity", 0.25) == "test perplexity"
    titles = [title_of_tuning({"tune_by": name}, "nats") for name in ("test_loss", "test_accuracy", "perplexity")]
    assert titles == ["loss on held-out examples (nats)", "1 − accuracy on held-out examples", "perplexity"]


def test_notes_say_what_was_left_out_what_is_unfinished_and_what_runs_miss():
    timed = arm([0, 1], iterations_to_target=[np.inf, np.inf])
    protocols = {
        "same": Protocol("same learning rate", {"x": timed._replace(missing=3), "y": timed}, None),
        "matched": Protocol("same effective learning rate", {}, "it is not defined"),
    }
    assert list(notes_on_skipped(protocols)) == ["same effective learning rate: left out, since it is not defined"]
    protocols.pop("matched")
    assert list(notes_on_runs(protocols)) == [
        "same learning rate: unfinished, 3 runs still to come; the verdicts rest on the others"
    ]
    reaching = arm([0, 1], iterations_to_target=[3, 4])
    missing = {"same": Protocol("same learning rate", {"x": timed, "y": reaching}, None)}
    assert list(notes_on_target(missing, 0.5, 1)) == [
        "same learning rate: 2 of 2 runs of x miss the target loss 0.5 and count as later than all that reach it"
    ]
    (coarse, _) = notes_on_target(missing, 0.5, 10)
    assert coarse == (
        "the loss is smoothed over 11 recorded iterations, which span 101 (record_every is 10); so times to the target "
        "are not comparable with those at another record_every"
    )
    unequal = {"same": protocols["same"]._replace(arms={"x": arm([0, 1, 2]), "y": arm([0, 1])})}
    assert list(notes_on_runs(unequal)) == [
        "same learning rate: the numbers of runs differ (x 3, y 2); only seeds that both have are compared"
    ]


@pytest.mark.parametrize(
    ("diverged", "bad", "why"),
    [
        (8, 0, "8 of 8 runs of x failed: they reached a loss that is not finite"),
        (7, 1, "8 of 8 runs of x failed: 7 reached a loss that is not finite; 1 ended no better than a constant"),
        (0, 8, "8 of 8 runs of x failed: no run ended better than a constant prediction after 4 iterations: train"),
        (0, 3, "3 of 8 runs of x failed: they ended no better than a constant prediction"),
    ],
)
def test_a_note_counts_the_causes_of_failures(diverged, bad, why):
    curves = np.where(np.arange(8)[:, None] < diverged, np.nan, np.ones([8, 3]))
    failing = arm(curves=curves, failed=np.arange(8) < diverged + bad)
    (note,) = notes_on_failures({"same": Protocol("same learning rate", {"x": failing, "y": arm()}, None)}, 4)
    assert note.startswith(f"same learning rate: {why}")


def test_a_note_says_how_many_seeds_a_verdict_needs():
    assert note_on_few_seeds(2, 3, 0.95) == (
        "verdicts need 7 seeds, not 2, for 3 pairs of optimizers in all protocols at 95 %; so there are only medians "
        "and ranges"
    )
    assert note_on_few_seeds(7, 3, 0.95) is None
    assert "need 6 seeds, not 5, for 1 pair of" in note_on_few_seeds(5, 1, 0.95)
    assert "need 9 seeds, not 8, for 9 pairs of" in note_on_few_seeds(8, 9, 0.95)


def test_a_note_says_why_there_is_no_target_and_suggests_one():
    assert note_on_no_target(3, 0.25) == (
        "iterations and seconds to a target loss are not judged: a target is taken from 10 rerun seeds or more, not "
        "from 3; give as many, or a target, such as 0.25"
    )
    assert note_on_no_target(3, None).endswith("not from 3; give as many, or a target")
    assert "more than a tenth of the runs that chose a best trial failed; give a target" in note_on_no_target(10, None)
    assert note_on_given_target(0.25).endswith("only if mj.compare_results is given a target, such as 0.25")
    assert note_on_given_target(None).endswith("only if mj.compare_results is given a target")


def test_the_ends_of_a_search_along_effective_learning_rates_are_those_of_these():
    def trial(rate, momentum):
        return Trial(mj.OptimizerConfig("momentum", learning_rate=rate, momentum=momentum), 128)

    # By effective learning rate: 1, 0.5, 2. The second has the lowest learning rate and the highest momentum.
    trials = [trial(0.5, 0.5), trial(0.05, 0.9), trial(2.0, 0.0)]
    assert open_ends(trials, 1) == {
        "momentum": ("highest", 0.9),
        "effective_learning_rate": ("lowest", pytest.approx(0.5)),
    }
    assert open_ends(trials, 0) == {}
    # A momentum of 0 has nothing beyond it.
    assert open_ends(trials, 2) == {"effective_learning_rate": ("highest", 2.0)}
    # The learning rates of a grid come more than once.
    grid = [trial(rate, momentum) for rate in (0.5, 1.0) for momentum in (0.0, 0.5, 0.9)]
    assert open_ends(grid, 4) == {"learning_rate": ("highest", 1.0)}


def test_the_ends_of_what_was_searched_are_those_of_the_space():
    def trial(rate, momentum):
        return Trial(mj.OptimizerConfig("momentum", learning_rate=rate, momentum=momentum), 128)

    # The third has the highest learning rate, and by far the highest effective one.
    trials = [trial(0.05, 0.5), trial(0.3, 0.2), trial(0.5, 0.9)]
    momentum, rate = ("highest", 0.9), ("highest", 0.5)
    assert open_ends(trials, 2).keys() == {"momentum", "effective_learning_rate"}
    assert open_ends(trials, 2, {"learning_rate": "0.01:1.0:log", "momentum": "0.0:0.99:lin"}) == {
        "learning_rate": rate,
        "momentum": momentum,
    }
    # Three quarters of the way from 0.01 to 100, by the logarithm, are 10.
    assert open_ends(trials, 2, {"learning_rate": "0.01:100.0:log"}) == {}
    assert open_ends(trials, 0, {"learning_rate": "0.01:100.0:log"}) == {"learning_rate": ("lowest", 0.05)}
    # Some of the values that were listed were not drawn.
    assert open_ends(trials, 2, {"momentum": "0.2,0.5,0.9"}) == {"momentum": momentum}
    assert open_ends(trials, 2, {"momentum": "0.2,0.5,0.9,0.99"}) == {}
    # Four trials along a line of equal effective learning rates.
    line = [trial(0.1 * (1 - m), m) for m in (0.3, 0.6, 0.7, 0.9)]
    assert open_ends(line, 3, {"effective_learning_rate": "0.1", "momentum": "0.0:0.99:lin"}) == {"momentum": momentum}
    # Computed back from the learning rates, some of these differ in the last digit.
    grid = [trial(rate * (1 - m), m) for rate in (0.1, 0.7) for m in (0.2, 0.3, 0.6, 0.9)]
    for best in range(4):
        ends = open_ends(grid, best, {"effective_learning_rate": "0.1,0.7"})
        assert ends == {"effective_learning_rate": ("lowest", 0.1)}
    # A third has no end of digits; what comes back has twelve.
    thirds = [trial(rate * (1 - 0.9), 0.9) for rate in (1 / 30, 0.5)]
    lowest = open_ends(thirds, 0, {"effective_learning_rate": f"{1 / 30},0.5"})
    assert lowest == {"effective_learning_rate": ("lowest", pytest.approx(1 / 30))}


def test_the_warnings_of_a_comparison_are_on_what_was_searched():
    draws = {label: [{"learning_rate": 10.0**-i, "momentum": 0.0} for i in (3, 2, 1)] for label in "ab"}
    tuning = sweep_of(draws, (8, 9))
    losses = {label: own[..., -1] for label, own in tuning.evaluations["train_loss"].items()}
    space = {"a": {"learning_rate": "0.001:0.1:log"}, "b": {"learning_rate": "0.001:1000.0:log"}}
    (warning,) = notes_on_tuning(tuning, losses, (), space)
    assert warning == (
        "tuning: a: the best trial has the highest learning rate that was tried, 0.1; what is better may lie beyond it"
    )


def test_a_note_says_what_the_best_of_another_search_could_be_unless_it_was_a_grid():
    draws = {label: [{"learning_rate": 0.01 * (i + 1)} for i in range(4)] for label in "ab"}
    tuning = sweep_of(draws, (8, 9))
    losses = {"a": np.tile([[1.0], [2.0], [3.0], [4.0]], 2), "b": np.tile([[9.0], [np.inf], [7.0], [np.inf]], 2)}
    # Four trials: at 90 % the third least value; that of b is infinite.
    assert note_on_other_searches(tuning, losses, {"search": "sobol", "trials": 4}, 0.9) == (
        "the search varies: the best tuning loss of 4 other trials would be at most 3 with a (here 1), at 90 % each"
    )
    assert note_on_other_searches(tuning, losses, {"search": "grid", "trials": 4}, 0.9) is None
    assert note_on_other_searches(tuning, {"b": losses["b"]}, {"search": "sobol", "trials": 4}, 0.9) is None


def test_a_budget_that_was_too_small_is_said_with_the_metrics_that_show_it():
    assert note_on_budget("momentum", "sgd", 3, ["test_loss", "test_accuracy"]) == (
        "the tuning budget was too small, or its choice unlucky: momentum, whose space contains that of sgd, loses to "
        "it after 3 trials of each (loss on the test set, accuracy on the test set)"
    )


def test_an_interval_that_ends_below_minus_100_per_cent_is_told_in_the_unit_of_the_metric():
    # The differences are measured by y's median, 1, and its greatest losses are 1.2 higher than those of x.
    x = arm(train_loss=np.full(8, 0.8))
    y = arm(train_loss=[0.5, 0.5, 0.9, 1.0, 1.0, 1.4, 2.0, 2.0])
    assert verdict_of("train_loss", x, y).sentence.endswith("0.8 against 1 (−1.2 to +0.3; 8 seeds).")

"""The answer in two sentences agrees with the verdicts, for every combination of outcomes and protocols."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from momentum_jax.comparison.answer import answer_of, answer_of_sweep
from momentum_jax.comparison.answer_sentences import LONGEST, MOST_WORDS, best_trials_sentences, name_of
from momentum_jax.comparison.metrics import METRICS, metric_of
from tests.comparison.by_hand import OUTCOMES, PAIRS, TITLES, comparison
from tests.report.judged import comparison_of, sweep_of

# What only this protocol's phrase contains.
MARKS = {"same": "the same learning rate", "matched": "the same effective", "tuned": "its best", "given": "onfigured"}
WORDS = {
    "helps": "helps ",
    "does not help": " not help",
    "no difference found": "no difference was found in the loss on the training set",
    "cannot be told": "cannot be told",
}


def check(answer):
    """Holds for all answers."""
    text = " ".join(answer.sentences)
    assert 1 <= len(answer.sentences) <= 2
    for sentence in answer.sentences:
        assert len(sentence) <= LONGEST
        assert len(sentence.split()) <= MOST_WORDS
        assert sentence.endswith((".", "…"))
        assert not sentence.endswith("..")
        assert sentence == " ".join(sentence.split())
        assert not any(wrong in sentence for wrong in (",,", " ,", ":.", "()"))
    return text


COMBINATIONS = [
    {name: (outcome,) for name, outcome in zip(TITLES, outcomes, strict=False) if outcome}
    for outcomes in itertools.product([*OUTCOMES, None], repeat=3)
    if any(outcomes)
]


def test_each_protocol_is_named_once_and_with_what_its_verdict_says_for_every_combination_of_outcomes():
    for outcomes in [*COMBINATIONS, *({"given": (outcome,)} for outcome in OUTCOMES)]:
        answer = answer_of(comparison(outcomes))
        text = check(answer)
        assert [(part.protocol, part.kind) for part in answer.parts] == [
            (name, OUTCOMES[outcome][1]) for name, (outcome,) in outcomes.items()
        ]
        clauses = [clause for sentence in answer.sentences for clause in sentence.split("; ")]
        for part in answer.parts:
            assert text.count(MARKS[part.protocol]) == 1, text
            (own,) = (clause for clause in clauses if MARKS[part.protocol] in clause)
            assert [kind for kind, words in WORDS.items() if words in own.replace("Whether momentum helps", "")] == [
                part.kind
            ], text


READ = [
    (
        ("better", "no difference found", "no difference found"),
        "Momentum helps at the same learning rate, 0.01: its loss on the training set is 70.0 % (65.9 to 74.1) lower "
        "than with sgd, since its effective learning rate is ten times larger. At the same effective learning rate and "
        "with each at its best of 24 trials, no difference was found in the loss on the training set (intervals "
        "−4.1 % to +4.1 % and −4.1 % to +4.1 %).",
    ),
    (
        ("failed", "equivalent", "better"),
        "Momentum helps with each at its best of 24 trials: "
        "its loss on the training set is 70.0 % (65.9 to 74.1) lower than with sgd. "
        "It does not help at the same learning rate, 0.01: every run of momentum failed; at the same effective "
        "learning rate, 0.1, no difference was found in the loss on the training set (within ±1 %, interval −0.0041 % "
        "to +0.0041 %).",
    ),
    (
        ("no verdict", "skipped", "no verdict"),
        "Whether momentum helps at the same learning rate and with each at its best of 24 trials cannot be told: an "
        "interval needs 7 seeds, not 1. At the same effective learning rate, 0.1, it cannot be told: it is "
        "not defined.",
    ),
    (
        ("no difference found", "no difference found", "worse"),
        "Momentum does not help with each at its best of 24 trials: its loss on the training set is 50.0 % (45.9 to "
        "54.1) higher than with sgd. At the same learning rate and at the same effective learning rate, no difference "
        "was found in the loss on the training set (intervals −4.1 % to +4.1 % and −4.1 % to +4.1 %).",
    ),
    (
        ([0.9] * PAIRS, [0.9] * PAIRS, [0.95] * PAIRS),
        "Momentum helps at the same learning rate, at the same effective learning rate and with each at its best of 24 "
        "trials: its loss on the training set is 10.0 %, 10.0 % and 5.0 % lower than with sgd, respectively, the first "
        "at an effective learning rate ten times larger.",
    ),
    (
        ("better", "better", "better"),
        "Momentum helps at the same learning rate, at the same effective learning rate and with each at its best of 24 "
        "trials: its loss on the training set is 70.0 % (65.9 to 74.1) lower than with sgd, the first at an effective "
        "learning rate ten times larger.",
    ),
    (
        # 1.5 lower than 1 is 150 % lower, which no loss that is not negative could be.
        ([-0.5] * PAIRS, [0.9] * PAIRS, [0.95] * PAIRS),
        "Momentum helps at the same learning rate, at the same effective learning rate and with each at its best of 24 "
        "trials: its loss on the training set is 1.5, 0.1 and 0.05 lower than with sgd, respectively, the first at an "
        "effective learning rate ten times larger.",
    ),
]
THREE = [
    (
        (("better", "failed"), ("no difference found", "skipped"), ("no difference found", "better")),
        "Against sgd at the same learning rate, 0.01: momentum helps (loss on the training set 70.0 % (65.9 to 74.1) "
        "lower, effective learning rate ten times larger) and lion does not help (every run of lion failed). At the "
        "same effective learning rate, 0.1: it cannot be told for momentum and lion (it is not defined); with each at "
        "its best of 24 trials: lion helps (loss on the training set 70.0 % (65.9 to 74.1) lower) and no difference "
        "was found for momentum (interval −4.1 % to +4.1 %).",
    ),
    (
        (([-0.5] * PAIRS, [0.9] * PAIRS),) * 2,
        "Against sgd at the same learning rate and at the same effective learning rate: momentum and lion help (loss "
        "on the training set 0.1 to 1.5 lower).",
    ),
]
# By what happened at the same learning rate: why, in the part of that protocol.
WHYS = {
    "better": "its effective learning rate is ten times larger",
    "worse": "its effective learning rate is ten times larger",
    "equivalent": "within ±1 %",
    "no difference found": "",
    "no verdict": "an interval needs 6 seeds, not 1",
    "failed": "every run of momentum failed",
    "skipped": "it is not defined",
}


@pytest.mark.parametrize(("outcomes", "text"), READ)
def test_the_answer_on_two_optimizers_reads_as_it_should(outcomes, text):
    compared = comparison({name: (outcome,) for name, outcome in zip(TITLES, outcomes, strict=False)})
    assert check(answer_of(compared)) == text


@pytest.mark.parametrize(("outcomes", "text"), THREE)
def test_the_answer_on_three_optimizers_holds_each_against_the_first(outcomes, text):
    compared = comparison(dict(zip(TITLES, outcomes, strict=False)), ("sgd", "momentum", "lion"))
    assert check(answer_of(compared)) == text


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_part_says_why_and_only_a_difference_is_explained_by_the_effective_learning_rate(outcome):
    (part,) = answer_of(comparison({"same": (outcome,)})).parts
    assert part.why == WHYS[outcome]


def test_that_no_run_failed_is_said_only_if_that_was_judged():
    failed = comparison({"same": ("failed",)}, judge_by=["iterations_to_target"])
    assert answer_of(failed).sentences == (
        "Whether momentum helps at the same learning rate, 0.01, cannot be told: no metric could be judged.",
    )
    assert answer_of(failed).sure == "12 seeds."
    judged = answer_of(comparison({"same": ("better",)}, judge_by=["failed"]))
    assert [(part.kind, part.why) for part in judged.parts] == [("no difference found", "no run failed")]


@pytest.mark.parametrize(
    ("outcomes", "sure"),
    [
        ({"same": ("better",)}, "12 seeds; all intervals hold at 95 %."),
        # Momentum has runs of one of the 12 seeds.
        ({"same": ("no verdict",)}, "1 shared seed; verdicts at 95 % need 6 seeds."),
        ({"same": ("no verdict",), "tuned": ("better",)}, "1 to 12 shared seeds; verdicts at 95 % need 7 seeds."),
    ],
)
def test_an_answer_counts_the_seeds_that_both_have_runs_of(outcomes, sure):
    assert answer_of(comparison(outcomes)).sure == sure


def test_ends_that_do_not_fit_a_sentence_are_counted():
    ends = {f"o{i}": [f"highest hyperparameter {i}"] for i in range(12)}
    _, beyond = best_trials_sentences("loss", [(0.5, "o1 with learning rate 0.1")], ends, [])
    assert beyond == "Better may lie beyond what was tried for 12 optimizers."


def test_a_long_name_of_a_metric_is_shortened():
    (text,) = answer_of(comparison({"same": ("better",)}, metric="m" * 400)).sentences
    assert f"its {'m' * 49}… is 70.0 % (66.8 to 73.2) lower than with sgd" in text


def test_more_of_an_accuracy_is_better():
    outcomes = {"tuned": ("better",)}
    answer = answer_of(comparison(outcomes, metric="test_accuracy", change=lambda losses: 1 - losses / 2))
    assert answer.sentences == (
        "Momentum helps with each at its best of 24 trials: its accuracy on the test set is 35.0 percentage points "
        "(33.4 to 36.6) higher than with sgd.",
    )


@pytest.mark.parametrize(
    ("losses", "size"),
    [
        # With 12 seeds and one pair, the interval of 95 % is from the third smallest to the third largest.
        (1 / np.arange(100, 112), "106 times (102 to 109) lower"),
        (np.arange(100.0, 112), "106 times (102 to 109) higher"),
        (np.linspace(0.11, 0.12, PAIRS), "88.5 % (88.2 to 88.8) lower"),
        # No factor leads to 0.
        (np.zeros(PAIRS), "100 % (100 to 100) lower"),
    ],
)
def test_beyond_a_factor_of_ten_a_difference_is_told_as_a_factor_the_median_of_the_ratios_by_seed(losses, size):
    (sentence,) = answer_of(comparison({"tuned": (losses.tolist(),)})).sentences
    assert f"its loss on the training set is {size} than with sgd." in sentence


def test_a_sweep_names_the_best_trial_and_what_comes_after_it():
    best = [(0.1, "a with learning rate 0.1"), (0.2, "b"), (0.3, "c"), (0.4, "d")]
    texts = [best_trials_sentences("median training loss", best[:n], {}, [])[0] for n in (1, 2, 3, 4)]
    first = "The lowest median training loss is that of a with learning rate 0.1 (0.1)"
    assert texts == [
        f"{first}.",
        f"{first}; after it comes b (0.2).",
        f"{first}; after it come b (0.2) and c (0.3).",
        f"{first}; after it come b (0.2), c (0.3) and 1 more.",
    ]


def test_what_failed_is_counted_in_the_answer_of_a_sweep_and_of_a_comparison():
    swept = sweep_of({"a": [{"learning_rate": rate} for rate in (0.01, 0.1, 1.0)]}, (0, 1))
    assert answer_of_sweep(swept).sentences[-1] == "2 of 6 runs failed, and with them 1 of 3 trials."
    # A trial fails by its median: with one run of three failed it does not.
    swept.failed["a"][2, 0] = False
    swept.missing["a"][0, 0] = True
    assert answer_of_sweep(swept).sentences[-1].endswith("1 of 5 runs failed, and with them 1 of 3 trials.")
    compared = comparison_of(trials=6)
    assert answer_of(compared).sure.startswith(
        "8 seeds; each tuned by 6 trials with 2 other seeds (4 of 24 runs failed, and with them 2 of 12 trials);"
    )
    compared.judged[0].failed["sgd"][0, :3] = True
    assert answer_of(compared).sure.startswith("8 seeds (3 of 24 runs failed); each tuned")


def test_a_tuned_optimizer_that_loses_to_itself_is_warned_of_first():
    outcomes = {"same": ("better",), "matched": ("better",), "tuned": ("no difference found",)}
    compared = comparison(outcomes)
    (warning,) = [note for note in compared.notes if "search" in note]
    assert warning == (
        "momentum at its best of 24 trials loses to itself at the same learning rate and at the same effective "
        "learning rate (loss on the training set): the search was too small, or its choice unlucky"
    )
    assert answer_of(compared).warnings[0] == warning
    # All are told of in one sentence.
    three = comparison({"same": ("better",) * 2, "tuned": ("worse",) * 2}, ("sgd", "momentum", "my lion"))
    assert [note for note in three.notes if "search" in note] == [
        "momentum and 'my lion' at their best of 24 trials lose to themselves at the same learning rate (loss on the "
        "training set): the search was too small, or its choice unlucky"
    ]
    better = comparison({"same": ("no difference found",), "tuned": ("better",)})
    assert not [note for note in better.notes if "search" in note]


HOSTILE = ["'" * 40, '"' * 40, 'it\'s "so"' * 20, "\\n\\t" * 20, "a" * 5000, "<b>" * 30, "a'b", 'a"b']


@pytest.mark.parametrize("label", HOSTILE)
def test_a_label_is_clipped_before_it_is_quoted_and_keeps_its_backslashes_as_they_are(label):
    name = name_of(label)
    assert len(name) <= 30
    assert name[0] == name[-1]
    assert name[0] in "'\""
    # The quote that closes is the only one of its kind.
    assert name[0] not in name[1:-1] or name.count(name[0]) == len(name)
    assert (
        name[1:-1].replace("'", '"').removesuffix("…")
        == label.replace("'", '"')[: len(name) - 2 - name.endswith(("…'", '…"'))]
    )


LABELS = st.text(min_size=1, max_size=400).filter(lambda text: text.isprintable() and text.strip() == text)


@settings(max_examples=60, deadline=None)
@example(["a", "b", "c"], "accuracy", random.Random(4))
@given(
    st.lists(LABELS, min_size=2, max_size=12, unique=True),
    LABELS.filter(lambda name: name not in METRICS),
    st.randoms(use_true_random=False),
)
def test_whatever_the_labels_and_the_metric_the_answer_is_two_sentences_of_one_line(labels, metric, drawn):
    outcomes = {name: tuple(drawn.choice([*OUTCOMES]) for _ in labels[1:]) for name in ("same", "matched", "tuned")}
    # Of an accuracy more is better, and a failure counts as −inf.
    sign = 1 if metric_of(metric).less_is_better else -1
    answer = answer_of(comparison(outcomes, tuple(labels), metric=metric, change=lambda losses: sign * losses))
    text = " ".join(answer.sentences)
    assert text.isprintable()
    assert all(len(sentence) <= LONGEST for sentence in answer.sentences)
    assert len(answer.parts) == 3 * (len(labels) - 1)

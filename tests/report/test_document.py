"""What the page is given to show, from results made by hand."""

import base64
import dataclasses
import json

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from momentum_jax.analysis import Interval, least_for_median
from momentum_jax.report.document import comparison_document, curves, matrix, sweep_document, table, training_document
from momentum_jax.report.document.parallel import parallel_of
from momentum_jax.report.document.trials import trials_part
from momentum_jax.report.page import page
from momentum_jax.results.stacked import OnDemand
from tests.report.judged import LABELS, comparison_among, comparison_of, record, sweep_of, trained

GRID = [{"learning_rate": rate, "momentum": m} for rate in (0.01, 0.1, 1.0) for m in (0.0, 0.9)]


@pytest.fixture(scope="module")
def compared():
    return comparison_of()


@pytest.fixture(scope="module")
def document(compared):
    return comparison_document(compared, "momentum-jax compare")


def curve_of(curve):
    values = np.frombuffer(base64.b64decode(curve["values"]["base64"]), "<f4")
    return values.reshape(curve["values"]["shape"])


def test_a_document_is_json_without_numbers_that_json_has_not(document):
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))


def test_the_matrix_has_the_verdicts_by_metric_and_protocol_in_words_and_numbers(compared, document):
    matrix = document["matrix"]
    assert [p["title"] for p in matrix["protocols"]] == ["same learning rate, 0.1", "each at its best"]
    # What is warned of goes first.
    warning = next(note for note in compared.notes if note.endswith("the search was too small, or its choice unlucky"))
    assert document["notes"] == [warning, *(note for note in compared.notes if note != warning)]
    assert document["optimizers"] == list(LABELS)
    (pair,) = matrix["pairs"]
    assert (pair["b"], pair["a"]) == LABELS
    for metric, row in zip(matrix["metrics"], pair["cells"], strict=True):
        for protocol, cell in zip(matrix["protocols"], row, strict=True):
            verdict = compared.verdict(protocol["name"], metric["name"], LABELS[1], LABELS[0])
            assert (cell["outcome"], cell["sentence"]) == (verdict.outcome, verdict.sentence)
            assert (cell["low"], cell["difference"], cell["high"]) == (verdict.difference[1], *verdict.difference[::2])
            # Relative to the median of the optimizer that the other is held against, or in percentage points.
            scale = 100 if metric["name"] == "test_accuracy" else 100 / verdict.median_b
            assert number_in(cell["size"]) == pytest.approx(scale * verdict.difference.value, abs=0.05)
            back = 100 if metric["name"] == "test_accuracy" else 100 / verdict.median_a
            assert number_in(cell["mirrored"]) == pytest.approx(-back * verdict.difference.value, rel=0.01, abs=0.05)


def number_in(size):
    return float(size.split("\xa0")[0].replace("−", "-").replace(",", ""))


def with_verdict(compared, **changes):
    """The comparison with only its verdict on the training loss in the first protocol, changed."""
    verdict = compared.verdict("same", "train_loss", *LABELS[::-1])
    return dataclasses.replace(compared, verdicts=(verdict._replace(**changes),))


def test_a_size_below_minus_100_percent_is_in_the_unit_of_the_metric_as_in_the_answer(compared):
    # No loss can be lower than another by more than all of it; medians of differences can.
    changes = {"difference": Interval(-1.2, -1.3, -1.1, 0.99), "median_a": 2.0, "median_b": 0.16, "outcome": "better"}
    shown = comparison_document(with_verdict(compared, **changes), "")
    assert shown["matrix"]["pairs"][0]["cells"][0][0]["size"] == "−1.2"
    assert "1.2 (1.1 to 1.3) lower" in shown["answer"]["sentences"][0]
    assert "in the metric's unit where that would be below −100 %" in shown["matrix"]["note"]


def test_only_losses_that_are_known_to_be_cross_entropies_have_a_unit(compared):
    def of_own_task(result):
        return dataclasses.replace(result, provenance={"functions": {"loss": "mine:loss"}})

    assert '"nats"' in json.dumps(comparison_document(compared, ""))
    own = dataclasses.replace(
        compared, judged=tuple(map(of_own_task, compared.judged)), tuning=of_own_task(compared.tuning)
    )
    for shown in (
        comparison_document(own, ""),
        sweep_document(own.tuning, ""),
        training_document([of_own_task(trained("a", 0.1))], ""),
    ):
        assert "nats" not in json.dumps(shown)


def test_the_note_says_why_a_metric_has_no_verdict(compared):
    some, few = compared.verdicts[0], {"metric": "test_loss", "outcome": "no verdict", "pairs": 3}
    shown = comparison_document(dataclasses.replace(compared, verdicts=(some, some._replace(**few))), "")
    needed = least_for_median(some.difference.level)
    assert shown["matrix"]["note"].endswith(
        f"There is no verdict on the loss on the test set: an interval needs {needed} seeds, not 3."
    )


def test_every_part_of_the_answer_is_the_verdict_of_the_matrix_on_the_first_metric():
    kinds = {
        "better": "helps",
        "worse": "does not help",
        "equivalent": "no difference found",
        "no difference found": "no difference found",
        "no verdict": "cannot be told",
    }
    labels = ["sgd", "momentum", "nesterov", "qhm"]
    shown = comparison_document(comparison_among(labels, seeds=12), "")
    matrix = shown["matrix"]
    protocols = [protocol["name"] for protocol in matrix["protocols"]]
    cells = {(p["a"], p["b"], protocols[i]): c for p in matrix["pairs"] for i, c in enumerate(p["cells"][0])}
    assert [part["b"] for part in shown["answer"]["parts"]] == ["sgd"] * 9
    found = {key: kinds[cell["outcome"]] for key, cell in cells.items() if key[1] == "sgd"}
    assert found == {(p["a"], p["b"], p["protocol"]): p["kind"] for p in shown["answer"]["parts"]}
    # The comparison has both, so that the test can tell them apart.
    assert {"helps", "does not help"} <= set(found.values())


def test_the_matrix_leaves_out_what_says_nothing_and_pairs_that_are_too_many(monkeypatch):
    all_failed = comparison_document(comparison_among(["sgd", "momentum"], failed=True), "")
    # As many runs of both failed, and there is no other verdict.
    assert all_failed["matrix"] is None
    assert {part["kind"] for part in all_failed["answer"]["parts"]} == {"cannot be told"}
    monkeypatch.setattr(matrix, "MOST_CELLS", 40)
    cut = comparison_document(comparison_among(["sgd", "momentum", "nesterov", "x" * 5000], seeds=12), "")["matrix"]
    assert (len(cut["pairs"]), cut["left_out"]) == (3, 3)
    assert {pair["b"] for pair in cut["pairs"]} == {"sgd"}
    assert max(len(c["sentence"]) for p in cut["pairs"] for row in p["cells"] for c in row) < 400


def test_curves_are_the_losses_before_the_update_whole_if_they_are_few(compared, document):
    arm = compared.protocols["tuned"].arms["sgd"]
    (curve,) = (c for c in document["curves"] if (c["group"], c["label"]) == ("each at its best", "sgd"))
    np.testing.assert_array_equal(curve_of(curve), arm.losses_before)
    assert curve["iterations"] == list(range(60))
    assert "mean of" not in document["curves_note"]


def test_curves_with_too_many_numbers_are_thinned_by_means_and_then_by_runs_and_both_are_said(compared, monkeypatch):
    arm = compared.protocols["tuned"].arms["sgd"]
    monkeypatch.setattr(curves, "MOST_POINTS", 7)
    monkeypatch.setattr(curves, "FEWEST_POINTS", 7)
    monkeypatch.setattr(curves, "MOST_NUMBERS", 14)
    thinned = curves.curves_part({("", "sgd"): arm.losses_before}, compared.iterations, "nats")
    (curve,) = thinned["curves"]
    # 60 iterations in blocks of 9, the last of 6.
    assert curve["iterations"] == [0, 9, 18, 27, 36, 45, 54]
    expected = [[run[i : i + 9].astype(float).mean() for i in curve["iterations"]] for run in arm.losses_before[:2]]
    np.testing.assert_allclose(curve_of(curve), expected, rtol=1e-6)
    assert thinned["curves_note"].endswith(
        "mean of 9 recorded iterations. Of 8 runs of each optimizer the first 2 are drawn."
    )


def test_the_three_ways_show_every_run_and_what_was_left_out(compared, document):
    metric = next(m for m in document["three_way"]["metrics"] if m["name"] == "test_loss")
    assert [s["skipped"] for s in metric["protocols"]] == [None, "it is not defined", None]
    arm = metric["protocols"][2]["arms"][0]
    values = compared.protocols["tuned"].arms["sgd"].values["test_loss"]
    assert arm["values"] == values.tolist()
    # The interval of 8 runs at 95 % goes from the least to the greatest.
    assert (arm["value"], arm["low"], arm["high"]) == (pytest.approx(np.median(values)), values.min(), values.max())
    assert arm["detail"] == "learning rate 0.05, batches of 128"


def test_with_too_few_seeds_the_page_has_ranges_and_no_verdicts():
    few = comparison_of(seeds=6)
    document = comparison_document(few, "")
    assert document["matrix"] is None
    assert "need 7 seeds" in document["answer"]["sure"]
    assert any(note.startswith("verdicts need 7 seeds, not 6") for note in document["notes"])
    metric = next(m for m in document["three_way"]["metrics"] if m["name"] == "test_loss")
    values = few.protocols["tuned"].arms["sgd"].values["test_loss"]
    arm = metric["protocols"][2]["arms"][0]
    assert (arm["low"], arm["high"]) == (values.min(), values.max())
    assert document["three_way"]["bar"] == "range"


def test_a_label_in_a_sentence_of_the_page_is_cut_by_its_width():
    labels = ["sgd", "\u5b66" * 50]
    rates = [{"learning_rate": rate} for rate in (0.01, 0.1)]
    note = sweep_document(sweep_of(dict.fromkeys(labels, rates), (0, 1)), "")["sensitivity_note"]
    pairs = comparison_document(comparison_among(labels), "")["matrix"]["pairs"]
    for text in (note, *(cell["sentence"] for pair in pairs for row in pair["cells"] for cell in row)):
        # Each takes two columns.
        assert "\u5b66…" in text
        assert "\u5b66" * 30 not in text


def test_the_title_has_the_names_that_fit_as_the_title_of_a_figure_has():
    rates = [{"learning_rate": rate} for rate in (0.01, 0.1)]
    assert sweep_document(sweep_of(dict.fromkeys("abcd", rates), (0,)), "")["title"].startswith("a, b, c, d on ")
    long = [letter * 20 for letter in "abc"]
    assert sweep_document(sweep_of(dict.fromkeys(long, rates), (0,)), "")["title"].startswith("3 optimizers on ")


def test_trials_of_a_grid_are_a_matrix_and_others_are_points():
    (grid,) = sweep_document(sweep_of({"m": GRID}, (0, 1)), "")["heatmaps"]
    assert (grid["x"]["name"], grid["y"]["name"]) == ("learning rate", "momentum")
    assert (grid["x"]["values"], grid["y"]["values"]) == ([0.01, 0.1, 1.0], [0.0, 0.9])
    assert grid["effective"]
    assert grid["best"][0] == 0.1
    assert np.shape(grid["z"]) == (2, 3)
    assert [row[2] for row in grid["z"]] == ["inf", "inf"]
    assert [row[2] for row in grid["failed"]] == [2, 2]
    (drawn, _) = comparison_document(comparison_of(), "")["heatmaps"]
    assert "z" not in drawn
    assert len(drawn["points"]["x"]) == 6


def test_sensitivity_takes_the_best_trial_of_each_rate_and_the_range_of_its_seeds():
    result = sweep_of({"m": GRID}, (0, 1))
    (curve,) = sweep_document(result, "")["sensitivity"]
    assert curve["rates"] == [0.01, 0.1, 1.0]
    medians = np.median(result.train_loss["m"], axis=1)
    assert curve["losses"] == [medians[:2].min(), medians[2:4].min(), "inf"]
    best = int(np.argmin(medians[:2]))
    assert (curve["low"][0], curve["high"][0]) == (
        result.train_loss["m"][best].min(),
        result.train_loss["m"][best].max(),
    )


def test_the_expected_best_begins_where_no_choice_of_trials_fails_altogether():
    (curve,) = sweep_document(sweep_of({"m": GRID}, (0, 1)), "")["budget"]
    assert curve["trials"] == [1, 2, 3, 4, 5, 6]
    assert [best == "inf" for best in curve["best"]] == [True, True, False, False, False, False]


def test_the_table_has_a_row_a_run_and_says_what_is_left_out(compared, document, monkeypatch):
    rows = document["table"]["rows"]
    columns = {column["name"]: column for column in document["table"]["columns"]}
    assert [columns["stage"]["texts"][i] for i in rows["stage"]] == ["judging"] * 24 + ["tuning"] * 24
    assert [columns["optimizer"]["texts"][i] for i in rows["optimizer"][:16]] == ["sgd"] * 16
    assert columns["learning_rate"]["title"] == "Learning rate"
    assert document["table"]["left_out"] == 0
    kinds = {column["name"]: column["kind"] for column in document["table"]["columns"]}
    assert (kinds["optimizer"], kinds["learning_rate"], kinds["failed"]) == ("text", "number", "bool")
    monkeypatch.setattr(table, "MOST_ROWS", 5)
    cut = comparison_document(compared, "")["table"]
    assert (len(cut["rows"]["seed"]), cut["left_out"]) == (5, 43)


def test_an_unfinished_sweep_is_shown_as_far_as_it_is_and_said_to_be():
    missing = {("m", i, seed) for i in (0, 1) for seed in (0, 1)} | {("m", 2, 1)}
    shown = sweep_document(sweep_of({"m": GRID}, (0, 1), missing=missing), "")
    assert shown["notes"][0] == "unfinished: 5 runs still to come"
    assert shown["sensitivity"][0]["rates"] == [0.1, 1.0]
    json.dumps(shown, allow_nan=False)


def test_the_notes_of_a_sweep_say_what_its_warnings_say_once_and_more_in_words():
    rates = [{"learning_rate": rate} for rate in (0.01, 0.1)]
    shown = sweep_document(sweep_of({"m": rates, "bad": [{"learning_rate": 1}]}, (0, 1), missing={("m", 0, 1)}), "")
    assert shown["answer"]["warnings"][0] == "unfinished: 1 run still to come"
    *warnings, edge = shown["notes"]
    assert warnings == shown["answer"]["warnings"]
    assert edge.startswith("m: the best trial has the highest learning rate that was tried, 0.1;")


def test_trainings_are_judged_as_configured_and_one_optimizer_alone_only_drawn():
    both = training_document([trained("a", 0.1), trained("b", 0.05)], "")
    assert both["kind"] == "training"
    assert {protocol["title"] for protocol in both["matrix"]["protocols"]} == {"as configured"}
    assert both["answer"]["sure"].endswith("momentum-jax compare also tunes them, which can change the answer.")
    alone = training_document([trained("a", 0.1)], "")
    assert (alone["matrix"], alone["answer"]["parts"], len(alone["curves"])) == (None, [], 1)


def test_of_many_runs_the_first_are_dots_and_the_page_says_so():
    document = comparison_document(comparison_of(seeds=120), "")
    assert document["three_way"]["note"].startswith("Of 120 runs the first 100 are dots")
    assert len(document["three_way"]["metrics"][0]["protocols"][0]["arms"][0]["values"]) == 100


def test_a_learning_rate_that_is_alone_within_ten_percent_of_the_best_is_named_and_no_range():
    rates = [{"learning_rate": rate} for rate in (0.001, 0.01, 0.1)]
    result = sweep_of({"wide": rates, "narrow": rates}, (0,))
    losses = {"wide": np.asarray([[0.4], [0.2], [0.21]]), "narrow": np.asarray([[0.4], [0.2], [0.3]])}
    assert trials_part(result, losses, "loss")["sensitivity_note"] == (
        "wide: within 10 % of its best from 0.01 to 0.1, a factor of 10 (the highest that was tried, so the range "
        "may be wider). narrow: only 0.01 of those tried comes within 10 % of its best."
    )


def test_all_trials_have_curves_behind_the_best_each_the_median_of_its_finished_runs():
    result = sweep_of(
        {"m": GRID, "alone": GRID[:1]}, (0, 1, 2), missing={("m", 0, 2), ("m", 1, 0), ("m", 1, 1), ("m", 1, 2)}
    )
    result.losses_before["m"][2, :2, 30:] = np.nan
    document = sweep_document(result, "")
    (curves,) = document["trial_curves"]
    assert (curves["label"], curves["values"]["shape"], curves["values"]["bytes"]) == ("m", [5, 60], 2)
    halves = np.frombuffer(base64.b64decode(curves["values"]["base64"]), "<u2").astype("<u4") << 16
    values = halves.view("<f4").reshape(5, 60)
    losses = np.where(np.isfinite(result.losses_before["m"]), result.losses_before["m"], np.inf)
    expected = [np.median(losses[0, :2], axis=0), *np.median(losses[2:], axis=1)]
    # bfloat16 has eight significant bits.
    np.testing.assert_allclose(values, expected, rtol=2**-8)
    assert np.isinf(values[1, 30:]).all()
    assert document["trial_curves_iterations"] == list(range(60))
    assert document["trial_curves_note"] == "Faint lines are all 5 trials, each the median of its runs."


def test_curves_of_too_many_trials_are_thinned_and_then_left_out_evenly(monkeypatch):
    result = sweep_of({"m": GRID}, (0,))
    monkeypatch.setattr(curves, "MOST_TRIAL_POINTS", 10)
    monkeypatch.setattr(curves, "FEWEST_TRIAL_POINTS", 10)
    monkeypatch.setattr(curves, "MOST_TRIAL_NUMBERS", 30)
    thinned = curves.trial_curves_part(result, curves.read_trial_curves(result, {}), "")
    assert thinned["trial_curves"][0]["values"]["shape"] == [3, 10]
    # The middle of each six iterations.
    assert thinned["trial_curves_iterations"] == list(range(2, 60, 6))
    assert thinned["trial_curves_note"].startswith("Faint lines are one in 2 of the 6 trials")


class _Kept:
    """The histories of a result as a folder keeps them, which must be read run by run."""

    def __init__(self, result):
        self.result = result

    def __call__(self):
        raise AssertionError("all histories are read at once")

    def each(self):
        for label, losses in self.result.losses_before.items():
            for trial, seed in np.ndindex(losses.shape[:2]):
                yield (
                    label,
                    (trial, seed),
                    record(0.1, 60, np.random.default_rng(0))._replace(losses_before=losses[trial, seed]),
                )


def test_the_histories_of_a_sweep_are_read_run_by_run_and_give_the_same_page():
    result = sweep_of({"m": GRID, "n": GRID[:3]}, (0, 1))
    on_demand = OnDemand(("m", "n"), _Kept(result), ("losses_before",))
    assert sweep_document(dataclasses.replace(result, losses_before=on_demand), "") == sweep_document(result, "")


def test_trials_are_lines_over_all_hyperparameters_from_the_best_to_the_failed():
    trials = [
        {"learning_rate": 0.001, "momentum": 0.9},
        {"learning_rate": 0.1, "momentum": 0.5},
        {"learning_rate": 1.0, "momentum": 0.9},
    ]
    (shown,) = sweep_document(sweep_of({"m": trials, "one": [{"learning_rate": r} for r in (0.1, 1.0)]}, (0, 1)), "")[
        "parallel"
    ]
    assert shown["label"] == "m"
    assert [axis["name"] for axis in shown["axes"]] == ["learning rate", "momentum"]
    assert [axis["log"] for axis in shown["axes"]] == [True, False]
    assert shown["axes"][0]["values"] == [0.1, 0.001, 1.0]
    assert shown["losses"] == [*sorted(shown["losses"][:2]), "inf"]
    assert shown["failed"] == [0, 0, 2]


def test_an_axis_of_categories_has_their_texts_and_one_of_numbers_knows_what_has_none():
    varying = {"nesterov": [True, False, None], "batch_size": [32, None, 64], "schedule": ["cosine", "cosine", "step"]}
    finished, failed = np.ones(3, bool), np.zeros(3, int)
    axes = parallel_of("m", varying, np.asarray([1.0, 2.0, 3.0]), finished, failed, 10)["axes"]
    texts = [[axis["texts"][i] for i in axis["values"]] for axis in (axes[0], axes[2])]
    assert texts == [["yes", "no", "none"], ["cosine", "cosine", "step"]]
    assert axes[1]["values"] == [32, None, 64]


def test_the_page_of_a_sweep_of_three_thousand_runs_has_at_most_one_and_a_half_megabytes_besides_plotly():
    rng = np.random.default_rng(0)
    draws = [[{"learning_rate": 10 ** rng.uniform(-3, 1), "momentum": rng.uniform()} for _ in range(500)] for _ in "ab"]
    result = sweep_of(dict(zip("ab", draws, strict=True)), range(3), iterations=600)
    document = sweep_document(result, "")
    assert len(page(document).encode()) - len(get_plotlyjs().encode()) < 1_500_000
    assert [curve["values"]["shape"][0] for curve in document["trial_curves"]] == [500, 500]
    assert len(document["table"]["rows"]["seed"]) == 3000


@pytest.mark.exhaustive
def test_the_page_of_very_many_runs_stays_below_six_megabytes_and_says_what_it_leaves_out():
    document = comparison_document(comparison_of(seeds=1200), "")
    assert document["three_way"]["note"].startswith("Of 1200 runs the first 100 are dots")
    assert "of each optimizer the first" in document["curves_note"]
    assert document["table"]["left_out"] > 0
    assert len(page(document).encode()) < 6_000_000

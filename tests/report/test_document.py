"""What the page is given to show, from results made by hand."""

import base64
import json

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.report.document import comparison_document, curves, sweep_document, table, training_document
from momentum_jax.report.page import page
from tests.report.judged import LABELS, comparison_of, sweep_of

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


def test_verdicts_are_those_of_the_comparison_by_the_title_of_their_protocol(compared, document):
    assert [v["sentence"] for v in document["verdicts"]] == [v.sentence for v in compared.verdicts]
    assert {v["protocol"] for v in document["verdicts"]} == {"same learning rate, 0.1", "each at its best"}
    assert document["notes"] == list(compared.notes)
    assert "a note" in document["notes"]
    assert document["optimizers"] == list(LABELS)


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
    thinned = curves.curves_part({("", "sgd"): arm}, compared.iterations)
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
    assert document["verdicts"] == []
    assert any(note.startswith("verdicts need 7 seeds, not 6") for note in document["notes"])
    metric = next(m for m in document["three_way"]["metrics"] if m["name"] == "test_loss")
    values = few.protocols["tuned"].arms["sgd"].values["test_loss"]
    arm = metric["protocols"][2]["arms"][0]
    assert (arm["low"], arm["high"]) == (values.min(), values.max())
    assert document["three_way"]["bar"] == "range"


def test_trials_of_a_grid_are_a_matrix_and_others_are_points():
    (grid,) = sweep_document(sweep_of({"m": GRID}, (0, 1)), "")["heatmaps"]
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
    assert [best is None for best in curve["best"]] == [True, True, False, False, False, False]


def test_the_table_has_a_row_a_run_and_says_what_is_left_out(compared, document, monkeypatch):
    rows = document["table"]["rows"]
    assert rows["stage"] == ["judging"] * 24 + ["tuning"] * 24
    assert rows["optimizer"][:16] == ["sgd"] * 16
    assert document["table"]["left_out"] == 0
    kinds = {column["name"]: column["kind"] for column in document["table"]["columns"]}
    assert (kinds["optimizer"], kinds["learning_rate"], kinds["failed"]) == ("text", "number", "bool")
    monkeypatch.setattr(table, "MOST_ROWS", 5)
    cut = comparison_document(compared, "")["table"]
    assert (len(cut["rows"]["seed"]), cut["left_out"]) == (5, 43)


def test_an_unfinished_sweep_is_shown_as_far_as_it_is_and_said_to_be():
    missing = {("m", i, seed) for i in (0, 1) for seed in (0, 1)} | {("m", 2, 1)}
    shown = sweep_document(sweep_of({"m": GRID}, (0, 1), missing=missing), "")
    assert shown["notes"][0].startswith("unfinished: 5 runs are still to come")
    assert shown["sensitivity"][0]["rates"] == [0.1, 1.0]
    json.dumps(shown, allow_nan=False)


def test_trainings_are_judged_as_configured_and_one_optimizer_alone_only_drawn():
    def result(label, level):
        sweep = sweep_of({label: [{"learning_rate": level}]}, range(8))
        own = {name: {label: values[label][0]} for name, values in sweep.evaluations.items()}
        flat = {
            name: {label: getattr(sweep, name)[label][0]}
            for name in ("losses", "losses_before", "failed", "diverged_at")
        }
        return mj.Result(
            **flat,
            config=sweep.config,
            iterations=sweep.iterations,
            metrics={},
            evaluations=own,
            evaluation_iterations=sweep.evaluation_iterations,
            params={},
            provenance=sweep.provenance,
        )

    both = training_document([result("a", 0.1), result("b", 0.05)], "")
    assert both["kind"] == "training"
    assert {v["protocol"] for v in both["verdicts"]} == {"as configured"}
    alone = training_document([result("a", 0.1)], "")
    assert (alone["verdicts"], len(alone["curves"])) == ([], 1)


def test_of_many_runs_the_first_are_dots_and_the_page_says_so():
    document = comparison_document(comparison_of(seeds=120), "")
    assert document["three_way"]["note"].startswith("Of 120 runs the first 100 are dots")
    assert len(document["three_way"]["metrics"][0]["protocols"][0]["arms"][0]["values"]) == 100


@pytest.mark.exhaustive
def test_the_page_of_very_many_runs_stays_below_six_megabytes_and_says_what_it_leaves_out():
    document = comparison_document(comparison_of(seeds=1200), "")
    assert document["three_way"]["note"].startswith("Of 1200 runs the first 100 are dots")
    assert "of each optimizer the first" in document["curves_note"]
    assert document["table"]["left_out"] > 0
    assert len(page(document).encode()) < 6_000_000

"""What the commands print at their end fits a terminal of 80 columns and 24 lines, and `--json` prints all of it."""

import dataclasses
import io
import json
import math
import pathlib
import re

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.cli import compare, sweep, train
from momentum_jax.cli.announcement import announcement
from momentum_jax.cli.documents import comparison_document, plain, print_json, sweep_document, training_document
from momentum_jax.cli.terminal import _Console
from momentum_jax.comparison.answer import answer_of, answer_of_sweep, answer_of_training
from momentum_jax.report.command import compare_command
from momentum_jax.space import Trial
from tests.comparison.by_hand import comparison
from tests.report.judged import comparison_of, sweep_of
from tests.results.made import make_result

FOLDER = pathlib.Path("runs/mnist-comparison-0123abcd")
SECONDS = {"importing": 1.4, "loading": 0.5, "compiling": 2.8, "training": 4.0, "evaluating": 0.3, "drawing": 0.2}
HOSTILE = ["<b>x</b>", "[bold]", "a label with spaces", "x" * 5000, "$\\x$"]


def screen(show):
    """What a function prints to a terminal of 80 columns; and on how many lines."""
    file = io.StringIO()
    options = {"markup": False, "highlight": False, "emoji": False, "soft_wrap": True}
    show(_Console(width=80, file=file, force_terminal=True, color_system=None, **options))
    lines = file.getvalue().splitlines()
    return file.getvalue(), sum(max(1, math.ceil(len(line.rstrip()) / 80)) for line in lines)


def trained(optimizers=None, seeds=1, **fields):
    cfg = mj.Config(iterations=2000, seeds=seeds, **({"optimizers": optimizers} if optimizers else {}))
    rng = np.random.default_rng(0)
    losses = {label: rng.normal(size=[seeds, 2000]).astype(np.float32) for label in cfg.optimizers}
    evaluations = {
        name: {label: rng.normal(size=[seeds, 2]) for label in cfg.optimizers}
        for name in ("train_loss", "test_loss", "test_accuracy")
    }
    return make_result(
        cfg,
        iterations=np.arange(2000),
        losses_after=losses,
        losses_before=losses,
        evaluation_iterations=np.asarray([1000, 2000]),
        evaluations=evaluations,
        **fields,
    )


def many(labels):
    return {label: mj.OptimizerConfig("sgd", learning_rate=0.01 * (i + 1)) for i, label in enumerate(labels)}


COMPARISONS = {
    "two optimizers": lambda: comparison_of(20, 16),
    "too few seeds": lambda: comparison_of(2, 16),
    "three optimizers": lambda: comparison(
        {"same": ("better", "failed"), "matched": ("skipped", "skipped"), "tuned": ("no difference found", "worse")},
        ("sgd", "momentum", "lion"),
    ),
    "three optimizers, of which nothing is alike": lambda: comparison(
        {"same": ("better", "worse"), "matched": ("worse", "better"), "tuned": ("equivalent", "no verdict")},
        ("sgd", "momentum", "lion"),
    ),
    "four protocols": lambda: comparison(
        dict.fromkeys(("same", "matched", "tuned", "tuned_alone"), ("better", "no verdict")),
        ("sgd", "momentum", "lion"),
    ),
    "thirty optimizers": lambda: comparison(
        dict.fromkeys(("same", "tuned"), (("better", "worse", "no verdict", "failed", "equivalent") * 6)[:29]),
        tuple(f"o{i}" for i in range(30)),
    ),
    "hostile labels": lambda: comparison(
        dict.fromkeys(("same", "matched", "tuned"), ("better", "worse", "no verdict", "failed")), tuple(HOSTILE)
    ),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_summary_of_a_comparison_fits_a_terminal_and_gives_the_answer(name):
    compared = COMPARISONS[name]()
    answer = answer_of(compared)
    text, height = screen(lambda out: compare._print_comparison(out, compared, answer, FOLDER))
    assert height <= 24, text
    words = text.split()
    for sentence in (*answer.sentences, answer.sure):
        assert [word for word in sentence.split() if len(word) < 30 and word not in words] == []
    assert f"written: {FOLDER}/ with report.html" in text
    assert "next: " in text


@pytest.mark.parametrize(
    ("seeds", "flags"), [((0, 1), "--seeds 7"), ((100, 101), "5 more seeds and"), ((1, 0), "5 more seeds and")]
)
def test_only_seeds_that_a_count_stands_for_are_kept_by_a_greater_count(seeds, flags):
    compared = comparison_of(2, 16)
    compared = dataclasses.replace(compared, config=dataclasses.replace(compared.config, seeds=seeds))
    text, _ = screen(lambda out: compare._print_comparison(out, compared, answer_of(compared), FOLDER))
    assert text.splitlines()[-1] == f"next: the same command with {flags} --out {FOLDER} keeps these runs"


def test_the_medians_have_batch_sizes_and_parameters_of_schedules_that_vary():
    compared = comparison({"same": ("better",), "matched": ("skipped",), "tuned": ("better",)})

    def arm_at(arm, rate, batch_size):
        schedule = mj.Schedule("step_decay", init_value=rate, transition_steps=500, decay_rate=0.5)
        return arm._replace(trial=Trial(mj.OptimizerConfig("sgd", learning_rate=schedule), batch_size))

    settings = iter([(0.1, 32), (0.2, 64), (0.3, 32), (0.4, 128)])
    protocols = {
        name: p._replace(arms={label: arm_at(arm, *next(settings)) for label, arm in p.arms.items()})
        for name, p in compared.protocols.items()
    }
    text, _ = screen(lambda out: compare._print_medians(out, dataclasses.replace(compared, protocols=protocols)))
    cells = [line.split() for line in text.splitlines()]
    assert "learning rate: init" in text
    rows = [words[-4:-1] for words in cells if {"sgd", "momentum"} & set(words)]
    assert rows == [
        ["sgd", "0.1", "32"],
        ["momentum", "0.2", "64"],
        ["sgd", "0.3", "32"],
        ["momentum", "0.4", "128"],
    ]


@pytest.mark.parametrize(
    "result",
    [
        lambda: trained(),
        lambda: trained(seeds=10),
        lambda: trained({"a": mj.OptimizerConfig("sgd", learning_rate=0.1)}, seeds=3),
        lambda: trained(many([f"o{i}" for i in range(40)]), seeds=8),
        lambda: trained(many(HOSTILE), seeds=8),
    ],
    ids=["one seed", "ten seeds", "one optimizer", "forty optimizers", "hostile labels"],
)
def test_the_summary_of_a_training_fits_a_terminal_and_gives_the_answer(result):
    result = result()
    answer = answer_of_training(result)
    text, height = screen(lambda out: train._print_result(out, result, answer, SECONDS, FOLDER))
    assert height <= 24, text
    assert " ".join(answer.sentences) in " ".join(text.split())
    assert "next: momentum-jax" in text


def test_the_command_of_a_fair_comparison_is_whole_or_left_out():
    for optimizers, printed in ((many("abc"), True), (many([f"o{i}" for i in range(40)]), False)):
        result = trained(optimizers)
        text, _ = screen(lambda out, r=result: train._print_result(out, r, answer_of_training(r), SECONDS, FOLDER))
        assert (compare_command(result.config, 20) in text) == printed
        assert ("momentum-jax compare" in text) == printed


def test_evaluations_without_a_loss_are_printed_in_the_unit_of_their_metric():
    result = trained(many("a"))
    result = dataclasses.replace(result, evaluations={"test_accuracy": {"a": np.asarray([[0.5, 0.9123]])}})
    text, _ = screen(lambda out: train._print_evaluations(out, result))
    assert [line.split() for line in text.splitlines()[-2:]] == [["1000", "50.00", "%"], ["2000", "91.23", "%"]]


def test_the_summary_of_a_sweep_fits_a_terminal_and_names_the_best_trials():
    trials = [{"learning_rate": rate, "momentum": 0.9} for rate in (0.001, 0.01, 0.1, 1.0)]
    result = sweep_of({f"o{i}": trials for i in range(10)}, range(3))
    answer = answer_of_sweep(result)
    text, height = screen(lambda out: sweep._print_result(out, result, answer, FOLDER, "heatmap"))
    assert height <= 24, text
    assert " ".join(answer.sentences) in " ".join(text.split())
    assert "learning rate 0.1" in answer.sentences[0]


def test_a_sweep_says_which_best_trial_lies_at_an_end_and_which_optimizer_failed():
    rates = {"a": (0.001, 0.01), "b": (0.01, 0.1, 0.2), "c": (1.0,), "d": (0.15, 0.5), "e": (0.16, 0.5)}
    result = sweep_of({label: [{"learning_rate": rate} for rate in own] for label, own in rates.items()}, range(3))
    answer = answer_of_sweep(result)
    assert answer.sentences[0].startswith("The lowest median training loss is that of b with learning rate 0.1 (0.2")
    assert answer.sentences[1] == (
        "The best trial of a had the highest learning rate and the best trials of d and e had the lowest learning rate "
        "that was tried, so that better may lie beyond; every trial of c failed; 3 of 30 runs failed, and with them "
        "1 of 10 trials."
    )
    assert answer.warnings == (
        "c: every trial failed: no run ended better than a constant prediction after 60 iterations: train longer",
    )


def test_one_optimizer_is_told_what_it_reached_and_why_its_runs_failed():
    sgd = {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)}
    reached = answer_of_training(trained(sgd, seeds=3, failed={"sgd": np.asarray([False, True, False])}))
    assert reached.sentences[0].startswith("sgd ends after 2,000 iterations with a loss on the training set of ")
    assert reached.sentences[1] == "1 of 3 runs failed."
    never = {"failed": {"sgd": np.full(3, True)}, "diverged_at": {"sgd": np.full(3, -1)}}
    assert answer_of_training(trained(sgd, seeds=3, **never)).sentences == (
        "Every run of sgd failed: no run ended better than a constant prediction after 2,000 iterations: train longer.",
    )
    diverged = never | {"diverged_at": {"sgd": np.asarray([7, 5, -1])}}
    assert answer_of_training(trained(sgd, seeds=3, **diverged)).sentences == (
        "Every run of sgd failed: 2 reached a loss that is not finite, first at iteration 5; 1 ended no better than a "
        "constant prediction.",
    )


def read(document):
    """The document as a script reads it, where NaN and Infinity are no JSON."""
    return json.loads(json.dumps(plain(document), allow_nan=False), parse_constant=pytest.fail)


def test_the_documents_are_finite_json_that_holds_what_the_table_leaves_out(capsys):
    compared = COMPARISONS["three optimizers"]()
    answer = answer_of(compared)
    document = read(comparison_document(compared, answer, FOLDER))
    assert document["kind"] == "comparison"
    assert document["answer"]["sentences"] == list(answer.sentences)
    assert [part["kind"] for part in document["answer"]["parts"]] == [part.kind for part in answer.parts]
    assert len(document["verdicts"]) == len(compared.verdicts)
    # A failed run is no number.
    lion = document["protocols"]["same"]["optimizers"]["lion"]
    assert lion["metrics"]["train_loss"] == {"median": "inf", "values": ["inf"] * 12}
    assert document["protocols"]["matched"] == {
        "title": "same effective learning rate, 0.1",
        "skipped": "it is not defined",
        "optimizers": {},
    }
    result = trained(seeds=2)
    document = read(training_document(result, answer_of_training(result), SECONDS, FOLDER))
    assert document["state"] == "finished"
    values = document["optimizers"]["momentum"]["metrics"]["test_accuracy"]["values"]
    assert values[0] == float(result.test_accuracy["momentum"][0])
    swept = sweep_of({"a": [{"learning_rate": 0.1}, {"learning_rate": 1.0}]}, range(3), missing={("a", 1, 2)})
    document = read(sweep_document(swept, answer_of_sweep(swept), FOLDER))
    assert [document[name] for name in ("state", "runs", "missing", "failed")] == ["interrupted", 6, 1, 2]
    assert document["best"]["a"]["hyperparameters"]["learning_rate"] == 0.1
    print_json({"η": [math.nan, math.inf, np.float32(0.5), (np.int64(2), None)]})
    assert capsys.readouterr().out == '{"\\u03b7": [null, "inf", 0.5, [2, null]]}\n'


def test_the_readme_lists_the_keys_of_every_document():
    text = pathlib.Path(compare.__file__).with_name("README.md").read_text()
    # By key, the kinds of documents that have it.
    listed = {
        key: re.findall(r"\w+", kinds)
        for keys, kinds in re.findall(
            r"^\| (`.*?`) \| ([\w, ]+) \|", text.partition("## `compare-tasks`")[0], re.MULTILINE
        )
        for key in re.findall(r"`(\w+)`", keys)
    }
    compared, swept = COMPARISONS["two optimizers"](), sweep_of({"a": [{"learning_rate": 0.1}]}, range(3))
    result = trained(seeds=2)
    documents = [
        comparison_document(compared, answer_of(compared), FOLDER),
        training_document(result, answer_of_training(result), SECONDS, FOLDER),
        sweep_document(swept, answer_of_sweep(swept), FOLDER),
    ]
    for document in documents:
        assert set(document) == {key for key, kinds in listed.items() if {"all", document["kind"]} & set(kinds)}
    keys = {*plain(documents[0]["answer"]), *documents[1]["optimizers"]["momentum"]}
    assert {key for key in keys if f"`{key}`" not in text} == set()


def announced(seeds, finished=0):
    """The lines that a comparison of sgd and momentum announces."""
    optimizers = {name: mj.Config().optimizers[name] for name in ("sgd", "momentum")}
    options = {
        "space": None,
        "search": "random",
        "trials": None,
        "search_seed": 0,
        "tuning_seeds": 3,
        "rerun_trials": 3,
        "rerun_seeds": 10,
        "learning_rate": None,
        "effective_learning_rate": None,
        "level": 0.95,
    }
    return announcement(mj.Config(seeds=seeds, optimizers=optimizers), options, finished).splitlines()


def test_a_comparison_says_how_many_runs_it_trains_and_whether_the_seeds_suffice_before_it_trains():
    # In two of four protocols momentum has the same learning rate, and in two sgd is the same, so that 6 trials are
    # judged. The space of momentum contains that of sgd.
    assert announced(20) == [
        "trains at most 276 runs of 2,000 iterations: 96 to tune (2 optimizers x 16 trials x 3 seeds), 60 to rerun the "
        "best 3 (10 seeds), then 120 to judge (20 seeds); at the end it times an iteration of each optimizer",
        "20 seeds to judge with are enough for verdicts at 95 %, which take 8",
    ]
    assert announced(20, finished=7)[0].split("; ")[1] == "7 are there already"
    # `compare` itself warns of too few.
    assert len(announced(6)) == 1

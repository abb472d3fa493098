"""`momentum-jax compare` and `momentum-jax report`."""

import dataclasses
import json
import pathlib
import re
import shlex

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.cli import compare
from momentum_jax.cli.arguments import config_flags, config_of, parse
from momentum_jax.comparison import procedure
from momentum_jax.comparison.answer import answer_of, seeds_needed
from momentum_jax.comparison.wording import format_value

SMALL = ["--hidden-sizes", "8", "--iterations", "20", "--batch-size", "16"]


@pytest.fixture
def printed(main, idx, capsys, compiled_quickly):
    """Runs a command in this process and gives what it prints."""

    def run(command, *arguments):
        data = ["--dataset", str(idx), *SMALL] if command in ("compare", "sweep", "train") else []
        main([command, *data, *arguments])
        return capsys.readouterr().out

    return run


def refusal(main, capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


COMPARED = [
    *("--optimizer", "a=sgd,learning_rate=0.05", "--optimizer", "b=momentum,learning_rate=0.05,momentum=0.9"),
    *("--trials", "2", "--tuning-seeds", "1", "--rerun-seeds", "1", "--seeds", "2", "--judge-by", "test_loss"),
    *("mean_loss", "--out", "o"),
]


def command_on(page):
    """The words after `momentum-jax compare` of the command that a page names."""
    text = re.search(r'"command":"(.*?[^\\])"', page.read_text())[1].encode().decode("unicode_escape")
    words = shlex.split(text)
    assert words[:2] == ["momentum-jax", "compare"]
    return words[2:]


def test_a_comparison_prints_tables_and_verdicts_and_leaves_a_page_that_report_writes_again(printed, main, capsys):
    out = printed("compare", *COMPARED)
    compared = mj.Comparison.load("o")
    median = np.median(compared.protocols["same"].arms["a"].values["test_loss"])
    assert f" {format_value('test_loss', median)} " in out
    # Two seeds are too few.
    answer, needed = answer_of(compared), seeds_needed(compared)
    assert all(sentence in out.splitlines() for sentence in (*answer.sentences, answer.sure))
    assert f"an interval needs {needed} seeds, not 2" in out
    assert f"written: o/ with report.html: {len(compared.notes)} notes" in out
    assert out.splitlines()[-1] == f"next: the same command with --seeds {needed} --out o keeps these runs"
    main(["status", "o"])
    tuning, rerunning, judging = (line for line in capsys.readouterr().out.splitlines() if "runs" in line)
    assert re.fullmatch(r"tuning: finished: 4 of 4 runs, \d failed", tuning)
    assert re.fullmatch(r"rerunning: finished: 4 of 4 runs, \d failed", rerunning)
    assert re.fullmatch(r"judging: finished: (\d+) of \1 runs, \d failed", judging)
    # The same again for a script; all runs are there.
    document = json.loads(printed("compare", *COMPARED, "--json"))
    assert document["answer"]["sentences"] == list(answer.sentences)
    assert (document["folder"], document["page"]) == ("o", "o/report.html")
    main(["status", "o", "--json"])
    status = json.loads(capsys.readouterr().out)
    assert [stage["state"] for stage in status["stages"].values()] == ["finished"] * 3
    page = pathlib.Path("o/report.html")
    first = page.read_bytes()
    page.unlink()
    assert printed("report", "o").startswith("written: o/report.html")
    assert page.read_bytes() == first
    # The command on the page says what was given, and what was not the default.
    arguments = parse(command_on(page), "", "", [*config_flags(), *compare._FLAGS])
    assert config_of(arguments) == compared.config
    given = {
        "trials": 2,
        "tuning_seeds": 1,
        "rerun_trials": 3,
        "rerun_seeds": 1,
        "judge_by": ("test_loss", "mean_loss"),
        "search": "sobol",
    }
    assert {name: getattr(arguments, name) for name in given} == given
    assert arguments.grid == (
        "a.effective_learning_rate=0.001:10.0:log",
        "b.effective_learning_rate=0.001:10.0:log",
        "b.momentum=0.0:0.99:revlog",
    )
    assert "holds a comparison" in refusal(main, capsys, "report", "o", "o")


@pytest.mark.exhaustive
def test_the_command_on_the_page_of_a_comparison_finds_all_runs_finished(printed, main, monkeypatch):
    printed("compare", *COMPARED)
    trained = []
    monkeypatch.setattr("momentum_jax.sweeps.workers.train_batches", lambda *_: trained.append(1))
    main(["compare", *command_on(pathlib.Path("o/report.html")), "--out", "o"])
    assert not trained
    printed("report", "o", "--figures", "paper")
    names = {"curves", "three_way_1", "tuning", "heatmap"}
    kinds = (".png", ".svg", ".pdf")
    assert {path.name for path in pathlib.Path("paper").iterdir()} == {f"{n}{k}" for n in names for k in kinds}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_a_task_of_text_is_compared_by_name_and_judged_by_what_it_evaluates(main, capsys):
    rules = ["momentum=momentum,learning_rate=0.3,momentum=0.9", "adam=optax.adam,learning_rate=0.03"]
    main(
        [
            *("compare", "--task", "char_transformer,layers=1,width=8,heads=2,context=8", "--seeds", "2"),
            *("--iterations", "60", "--trials", "2", "--tuning-seeds", "1", "--rerun-seeds", "0"),
            *("--grid", "learning_rate=0.01,0.03"),
            *(word for rule in rules for word in ("--optimizer", rule)),
            *("--search", "grid", "--judge-by", "test_bits_per_character", "--out", "o"),
        ]
    )
    out = capsys.readouterr().out
    compared = mj.Comparison.load("o")
    # 2 heads are the default.
    assert compared.config.task == "char_transformer,layers=1,width=8,context=8"
    verdict = compared.verdict("tuned", "test_bits_per_character", "adam", "momentum")
    assert format_value("test_bits_per_character", verdict.median_a) in out
    # Uniform guesses among 76 characters cost log₂ 76 = 6.25 bits each.
    assert 0 < verdict.median_a < 6.25
    page = pathlib.Path("o/report.html").read_text()
    assert "test bits per character" in page
    assert "--task char_transformer" in " ".join(command_on(pathlib.Path("o/report.html")))


def test_a_page_of_a_sweep_and_of_trainings_names_what_repeats_them(printed, main, capsys):
    grid = ["--grid", "a.learning_rate=0.01,0.1", "--optimizer", "a=sgd,learning_rate=0.01"]
    printed("sweep", *grid, "--out", "s")
    out = printed("report", "s", "--out", "s.html", "--figures", "paper")
    assert out.splitlines() == [
        "written: s.html",
        *(f"written: paper/sensitivity.{kind}" for kind in ("png", "svg", "pdf")),
    ]
    assert "--grid a.learning_rate=0.01,0.1" in pathlib.Path("s.html").read_text()
    for label in "ab":
        printed("train", "--optimizer", f"{label}=sgd,learning_rate=0.0{ord(label) - 96}", "--out", label)
    printed("report", "a", "b", "--out", "both.html")
    text = pathlib.Path("both.html").read_text()
    assert text.count("momentum-jax train --dataset") == 2
    assert "verdicts need 6 seeds, not 1, for 1 pair" in text
    assert "show it alone" in refusal(main, capsys, "report", "a", "s")
    assert "holds no complete result" in refusal(main, capsys, "report", "nothing")
    assert "DIR: the folder of a result is needed" in refusal(main, capsys, "report")
    printed("train", "--optimizer", "c=sgd,learning_rate=0.1", "--sampling", "epochs", "--out", "c")
    assert "not of one task" in refusal(main, capsys, "report", "a", "c")


def test_what_a_comparison_cannot_use_is_refused_by_name(main, capsys, idx):
    arguments = ["compare", "--dataset", str(idx), *SMALL]
    assert "did you mean 'test_loss'" in refusal(main, capsys, *arguments, "--judge-by", "test_los")
    assert "only 'a'" in refusal(main, capsys, *arguments, "--optimizer", "a=sgd,learning_rate=0.1")
    assert "'sdg.learning_rate'" in refusal(main, capsys, *arguments, "--grid", "sdg.learning_rate=0.1:1:log")
    for rates in ("1,2", "none", "fast", "(1,2)"):
        error = refusal(main, capsys, *arguments, "--learning-rate", rates)
        assert "learning" in error
        assert error.count("\n") == 1
    assert "judge_by must be one or more" in refusal(main, capsys, *arguments, "--judge-by")
    assert "target 0.5 is used by none" in refusal(
        main, capsys, *arguments, "--target", "0.5", "--judge-by", "test_loss"
    )
    assert "trials" in refusal(main, capsys, *arguments, "--search", "grid", "--grid", "sgd.learning_rate=0.1,1")
    assert "local:N" in refusal(main, capsys, *arguments, "--cluster", "local:0", "--out", "o")
    assert not list(pathlib.Path.cwd().iterdir())


def test_too_few_seeds_are_said_in_one_line_before_the_training(main, capsys, idx, monkeypatch):
    def train(*_, **__):
        raise mj.InputError("training begins")

    monkeypatch.setattr(procedure, "run_sweep", train)
    error = refusal(main, capsys, "compare", "--dataset", str(idx), *SMALL, "--seeds", "2")
    # The warning comes before what is to be trained is listed.
    warning, *_, training = error.splitlines()
    assert warning.startswith("warning: verdicts need 8 seeds, not 2, for 4 pairs of optimizers")
    assert training == "momentum-jax: training begins"


def test_the_plan_that_fits_into_a_time_is_said_before_the_training(main, capsys, idx, monkeypatch):
    def train(*_, **__):
        raise mj.InputError("training begins")

    def choose(within, trials, planned, plan, *_):
        cfg = planned.cfg
        given = {"trials": trials, "seeds": list(cfg.seed_tuple), "iterations": cfg.iterations}
        told = {"seconds": within, "asked": given, "seeds": 9, "predicted": 450.0, "metric": "train_loss"}
        chosen = plan(cfg=dataclasses.replace(cfg, seeds=9, iterations=15), trials=4)
        return chosen._replace(values=chosen.values | {"within": told | {"resolves": 0.04}}), None

    monkeypatch.setattr(procedure, "run_sweep", train)
    monkeypatch.setattr(procedure, "choose", choose)
    error = refusal(main, capsys, "compare", "--dataset", str(idx), *SMALL, "--within", "10m")
    assert error.splitlines()[-4:] == [
        "trains at most 138 runs of 15 iterations: 24 to tune (2 optimizers x 4 trials x 3 seeds), 60 to rerun the "
        "best 3 (10 seeds), then 54 to judge (9 seeds); at the end it times an iteration of each optimizer",
        "9 seeds to judge with are enough for verdicts at 95 %, which take 8",
        "planned to take about 7.5 min of 10 min; they can resolve differences in the training loss over about 4 %",
        "momentum-jax: training begins",
    ]
    # Another time has another folder.
    (folder,) = pathlib.Path("runs").iterdir()
    assert folder.name.endswith("-10m")


@pytest.mark.parametrize("text", ["10", "m", "10 min", "-5m", "1e2s", "infh"])
def test_a_time_without_a_unit_is_refused(main, capsys, text):
    error = refusal(main, capsys, "compare", f"--within={text}")
    assert error == f"momentum-jax: --within must be a time such as 90s, 10m or 2h, not {text!r}\n"
    assert not list(pathlib.Path.cwd().iterdir())

"""`momentum-jax compare-tasks`: what it asks for, prints and writes. Nothing is trained."""

import json
import pathlib
import re

import pytest

from momentum_jax.cli import compare_tasks as command
from momentum_jax.comparison.suite import _SUITE, suite
from momentum_jax.comparison.task_answer import answer_of_tasks
from momentum_jax.config import Config
from tests.comparison.timed import three_tasks


@pytest.fixture
def asked(main, monkeypatch):
    """What `compare_tasks` was called with; it gives three tasks that are there."""
    calls = []

    def compare_tasks(tasks, optimizers, **options):
        calls.append((tasks, optimizers, options))
        return three_tasks()

    monkeypatch.setattr(command, "compare_tasks", compare_tasks)
    monkeypatch.setattr(command, "write_page", lambda shown, path: path.parent.mkdir(parents=True, exist_ok=True))
    return calls


def test_the_answer_is_printed_and_the_page_links_to_that_of_each_task(asked, main, capsys):
    main(["compare-tasks", "--fast"])
    out = capsys.readouterr().out
    answer = answer_of_tasks(three_tasks())
    assert all(sentence in out.splitlines() for sentence in (*answer.sentences, answer.sure))
    assert ["c", "40", "never"] in [line.split() for line in out.splitlines()]
    ((tasks, optimizers, options),) = asked
    folder = options["folder"]
    assert re.fullmatch(r"runs/tasks-[0-9a-f]{8}", str(folder))
    assert out.splitlines()[-1] == f"written: {folder}/ with report.html: 3 tasks, with a page each"
    page = (folder / "report.html").read_text()
    assert '"page":"a/report.html"' in page
    assert answer.sentences[0] in page
    assert tasks == suite(fast=True)
    assert list(optimizers) == ["sgd", "momentum"]
    assert options["trials"] == 8
    # A pilot chooses what is not given.
    main(["compare-tasks", "--fast", "--within", "2h"])
    _, (_, _, options) = asked
    assert (options["within"], options["cfg"]) == (7200, None)
    assert "trials" not in options
    # Another time has another folder.
    assert str(options["folder"]) == f"{folder}-2h"


def test_tasks_budget_and_space_are_those_that_are_given_and_json_is_one_document(asked, main, capsys):
    rules = ["--optimizer", "a=sgd,learning_rate=0.1", "--optimizer", "b=momentum,learning_rate=0.1"]
    budget = [
        *("--iterations", "50", "--seeds", "3", "--trials", "4", "--rerun-trials", "2", "--rerun-seeds", "5"),
        *("--grid", "learning_rate=0.1,1", "--search", "grid"),
    ]
    main(["compare-tasks", "--task", "mlp", "--task", "logistic", *rules, *budget, "--json", "--out", "o"])
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["page"]) == ("tasks", "o/report.html")
    assert document["profiles"]["tuned"]["times"][1][2] == "inf"
    assert [entry["sooner"] for entry in document["summary"]] == [2, 2]
    assert document["tasks"]["a"]["target"] == 0.5
    ((tasks, optimizers, options),) = asked
    assert tasks == {name: Config(task=name, iterations=50) for name in ("mlp", "logistic")}
    assert list(optimizers) == ["a", "b"]
    assert options["space"] == {"learning_rate": (0.1, 1)}
    assert (options["cfg"].seeds, options["trials"], options["search"]) == ((0, 1, 2), 4, "grid")
    assert (options["rerun_trials"], options["rerun_seeds"]) == (2, 5)
    # Those that the README lists.
    text = pathlib.Path(command.__file__).with_name("README.md").read_text()
    table = text.partition("## `compare-tasks`")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    assert {key for cell in cells for key in re.findall(r"`(\w+)`", cell)} == document.keys()


@pytest.mark.parametrize(
    "changes",
    [
        ["--task", "mlp"],
        ["--iterations", "3"],
        ["--seeds", "4"],
        ["--optimizer", "a=sgd,learning_rate=0.1", "--optimizer", "b=sgd,learning_rate=0.2"],
    ],
)
def test_what_is_compared_has_a_folder_of_its_own_whatever_the_order_of_the_tasks(changes, asked, main):
    usual, reordered = (["--task", a, "--task", b] for a, b in (("mlp", "logistic"), ("logistic", "mlp")))
    for arguments in (usual, reordered, changes if "--task" in changes else [*usual, *changes]):
        main(["compare-tasks", *arguments, "--quiet"])
    first, again, other = (options["folder"] for _, _, options in asked)
    assert first == again != other


def test_the_suite_is_all_kinds_of_tasks_and_leaves_out_what_is_not_there(monkeypatch, tmp_path):
    fashion = _SUITE["Fashion-MNIST convnet"]
    monkeypatch.setitem(fashion, "dataset", str(tmp_path))
    names = {cfg.task.partition(",")[0] for cfg in suite().values()}
    assert names == {"mlp", "autoencoder", "logistic", "char_transformer", "least_squares", "convnet"}
    monkeypatch.setitem(fashion, "dataset", str(tmp_path / "nowhere"))
    assert _SUITE.keys() - suite().keys() == {"Fashion-MNIST convnet"}

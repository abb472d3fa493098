"""`comparison.json`: what is begun, gone on with and refused."""

import json
import os

import pytest

import momentum_jax as mj
from momentum_jax.comparison.folder import FORMAT, HEAD, open_head, read_head, write_head
from tests.sealing import rewrite_sealed

PLAN = {
    "config": mj.Config().to_json(),
    "trials": 3,
    "tuning_seeds": (2, 5),
    "rerun_trials": 2,
    "rerun_seeds": [7],
    "tune_by": "test_loss",
    "schedules_replaced": [],
    "space": {"sgd": {"learning_rate": "0.001:1:log"}},
    "search": "random",
    "search_seed": 0,
    "validation": 10,
    "learning_rate": None,
    "effective_learning_rate": None,
    "own_task": False,
    "contained": [["momentum", "sgd"]],
}


def begin(folder, plan=PLAN):
    with open_head(folder, plan) as head:
        return head


def test_a_folder_that_was_begun_gives_what_was_written_last(tmp_path):
    folder = tmp_path / "new" / "c"
    head = begin(folder)
    assert head == {"format": FORMAT, "plan": PLAN | {"tuning_seeds": [2, 5]}} == read_head(folder)
    write_head(folder, head | {"protocols": {}})
    assert begin(folder) == head | {"protocols": {}}
    assert [path.name for path in folder.iterdir()] == [HEAD]


def test_what_a_killed_process_left_behind_of_the_file_keeps_no_one_out_and_is_removed(tmp_path):
    left = tmp_path / f".{HEAD}.0123456789abcdef.tmp"
    for _ in range(2):
        left.write_text('{"form')
        (tmp_path / f".{HEAD}.lock").touch()
        begin(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [HEAD]


def test_a_folder_is_for_one_comparison_at_a_time(tmp_path):
    with open_head(tmp_path, PLAN):
        with pytest.raises(mj.InputError, match=rf"is in use by another comparison \(process {os.getpid()} on "):
            begin(tmp_path)
        assert read_head(tmp_path)["plan"]["trials"] == 3
    begin(tmp_path)


def test_a_folder_of_another_comparison_or_of_something_else_is_refused(tmp_path):
    begin(tmp_path / "c")
    with pytest.raises(mj.InputError, match=r"holds another comparison: trials is 3, not 4; choose another folder"):
        begin(tmp_path / "c", PLAN | {"trials": 4})
    with pytest.raises(mj.InputError, match="holds files that are not a comparison"):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    (tmp_path / "file").touch()
    with pytest.raises(mj.InputError, match="cannot be written: Not a directory"):
        begin(tmp_path / "file" / "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "holds no comparison"),
        (json.dumps({"format": 2, "plan": {}}), rf"has format 2, and this version reads and writes format {FORMAT}"),
        ("[]", "has format None, and this version"),
        (json.dumps({"format": FORMAT, "plan": {}}), "is damaged: its digest is of another content"),
        ("[" * 10_000, "nested more than 200 deep"),
    ],
)
def test_a_comparison_that_cannot_be_read_is_refused_and_the_reason_said(tmp_path, content, message):
    (tmp_path / HEAD).write_text(content)
    with pytest.raises(mj.InputError, match=message):
        mj.Comparison.load(tmp_path)
    with pytest.raises(mj.InputError, match=message):
        begin(tmp_path)


PROTOCOLS = {"same": {"title": "same rate", "skipped": None, "trials": {"sgd": 0}}}


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head | {"seconds_per_step": {"sgd": [[0.2]]}},
        lambda head: head | {"protocols": {"same": PROTOCOLS["same"] | {"trials": {"sgd": 1}}}},
        lambda head: head | {"plan": head["plan"] | {"trials": 4}},
    ],
    ids=["a time", "the trial that was judged", "the plan"],
)
def test_a_changed_number_is_found(tmp_path, change):
    head = begin(tmp_path) | {"protocols": PROTOCOLS, "seconds_per_step": {"sgd": [[0.1]]}}
    write_head(tmp_path, head)
    assert read_head(tmp_path) == head
    written = json.loads((tmp_path / HEAD).read_bytes())
    (tmp_path / HEAD).write_text(json.dumps(change(written)))
    with pytest.raises(mj.InputError, match=r"comparison\.json is damaged: its digest is of another content"):
        read_head(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocols": None}, "protocols must be an object, not None"),
        ({"protocols": {"same": {"title": "x", "trials": {}}}}, "protocols.same.skipped is missing"),
        ({"protocols": {"same": PROTOCOLS["same"] | {"trials": {"sgd": True}}}}, "trials.sgd must be an integer"),
        ({"seconds_per_step": {"sgd": [0.1]}}, r"seconds_per_step.sgd\[0\] must be a list"),
        ({"judging": {}}, "judging.judge_by is missing"),
        ({"plan": {}}, "plan.config is missing"),
    ],
)
def test_what_has_another_form_is_refused_though_its_digest_is_right(tmp_path, change, words):
    begin(tmp_path)
    rewrite_sealed(tmp_path / HEAD, lambda head: head | change)
    with pytest.raises(mj.InputError, match=rf"comparison\.json is damaged: .*{words}"):
        mj.Comparison.load(tmp_path)

"""`comparison.json`: what is begun, gone on with and refused."""

import json

import pytest

import momentum_jax as mj
from momentum_jax.comparison.folder import FORMAT, HEAD, open_head, read_head, write_head

PLAN = {"trials": 3, "tuning_seeds": (2, 5)}


def test_a_folder_that_was_begun_gives_what_was_written_last(tmp_path):
    folder = tmp_path / "new" / "c"
    head = open_head(folder, PLAN)
    assert head == {"format": FORMAT, "plan": {"trials": 3, "tuning_seeds": [2, 5]}} == read_head(folder)
    write_head(folder, head | {"protocols": {}})
    assert open_head(folder, PLAN) == head | {"protocols": {}}


def test_what_a_killed_process_left_behind_of_the_file_keeps_no_one_out(tmp_path):
    left = tmp_path / f".{HEAD}.abcdefgh"
    left.write_text('{"form')
    open_head(tmp_path, PLAN)
    assert {path.name for path in tmp_path.iterdir()} == {HEAD}


def test_a_folder_of_another_comparison_or_of_something_else_is_refused(tmp_path):
    open_head(tmp_path / "c", PLAN)
    with pytest.raises(mj.InputError, match=r"holds another comparison: trials is 3, not 4; choose another folder"):
        open_head(tmp_path / "c", PLAN | {"trials": 4})
    with pytest.raises(mj.InputError, match="holds files that are not a comparison"):
        open_head(tmp_path, PLAN)
    (tmp_path / "file").touch()
    with pytest.raises(mj.InputError, match="cannot be written: Not a directory"):
        open_head(tmp_path / "file" / "c", PLAN)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "holds no comparison"),
        (
            json.dumps({"format": FORMAT - 1, "plan": {}}),
            r"in format 1, and this version of the program reads format 2",
        ),
        ("[]", "in format None, and this version"),
    ],
)
def test_a_comparison_that_cannot_be_read_is_refused_and_the_reason_said(tmp_path, content, message):
    (tmp_path / HEAD).write_text(content)
    with pytest.raises(mj.InputError, match=message):
        mj.Comparison.load(tmp_path)
    with pytest.raises(mj.InputError, match=message):
        open_head(tmp_path, PLAN)

"""A training's folder: readable by others, written whole or not at all, and never over something else."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import pathlib
import shutil

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import lock, write_atomically
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.results import result_folder
from momentum_jax.results.result import Result
from momentum_jax.results.result_folder import check_output_folder
from tests.results.made import FILES, RECORDED, make_result, with_leaf


def test_the_files_are_read_by_pyarrow_json_and_numpy_without_pickles(tmp_path):
    result = with_leaf([np.arange(2.0), np.arange(6).reshape(2, 3)])
    result.metrics["norm"] = result.losses
    result.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert Config.from_json(json.loads((tmp_path / "config.json").read_text("utf-8"))) == result.config
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["provenance"] == result.provenance

    runs = pq.read_table(tmp_path / "runs.parquet")
    described = result.table()
    assert runs.select(described.column_names).equals(described)
    assert runs.column_names[len(described.column_names) :] == [
        *("iterations", "losses", "losses_before", "metric.norm"),
        *("evaluation.train_loss", "evaluation.test_loss", "evaluation.test_accuracy", "params"),
    ]
    (row,) = (row for row in runs.to_pylist() if (row["optimizer"], row["seed"]) == ("momentum", 2**32 - 1))
    assert row["iterations"] == list(range(RECORDED))
    assert row["losses"] == result.losses["momentum"][1].tolist()
    assert row["evaluation.test_loss"] == result.evaluations["test_loss"]["momentum"][1].tolist()
    with np.load(io.BytesIO(row["params"]), allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["json", "leaf_0", "leaf_1"]
        np.testing.assert_array_equal(arrays["leaf_1"], np.arange(6).reshape(2, 3)[1])


def test_final_columns_are_empty_where_the_last_evaluation_is_not_of_the_end(tmp_path):
    make_result(iterations=np.arange(RECORDED) + 1).save(tmp_path)
    assert pq.read_table(tmp_path / "runs.parquet").column("test_loss").null_count == 6


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [truncated, flipped, None, lambda content: b""], ids=["cut", "flip", "gone", "empty"]
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_or_missing_file_is_refused(tmp_path, name, damage):
    make_result().save(tmp_path)
    path = tmp_path / name
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(InputError, match=tmp_path.name if name == "result.json" else name):
        Result.load(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_files_of_two_savings_are_refused(tmp_path, name):
    make_result().save(tmp_path / "a")
    make_result(Config(seeds=2, l2=0.5), dtype=np.float64).save(tmp_path / "b")
    shutil.copy(tmp_path / "b" / name, tmp_path / "a" / name)
    with pytest.raises(InputError, match="of another saving"):
        Result.load(tmp_path / "a")


@pytest.mark.parametrize(
    "change",
    [
        lambda summary: [],
        lambda summary: summary | {"sha256": 3},
        lambda summary: {name: value for name, value in summary.items() if name != "provenance"},
        lambda summary: summary | {"format": 4},
        lambda summary: summary | {"evaluation_iterations": [2, 6]},
        lambda summary: summary | {"provenance": {"devices": 3}},
    ],
    ids=["no object", "no digests", "a part missing", "a later format", "another iteration", "another provenance"],
)
def test_a_changed_result_json_is_refused(tmp_path, change):
    make_result().save(tmp_path)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")
    with pytest.raises(InputError, match=tmp_path.name):
        Result.load(tmp_path)


def test_a_folder_without_a_result_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        Result.load(tmp_path / "nowhere")


def test_a_result_of_the_same_config_is_replaced_and_other_files_stay(tmp_path):
    make_result().save(tmp_path)
    (tmp_path / "losses.png").write_bytes(b"figure")
    again = make_result(provenance={"run": 2})
    again.save(tmp_path)
    assert Result.load(tmp_path) == again
    assert sorted(contents(tmp_path)) == sorted([*FILES, "losses.png"])


def test_a_result_whose_optimizers_come_in_another_order_is_of_the_same_config(tmp_path):
    make_result().save(tmp_path)
    cfg = make_result().config
    again = make_result(dataclasses.replace(cfg, optimizers=dict(reversed(cfg.optimizers.items()))))
    again.save(tmp_path)
    assert Result.load(tmp_path) == again


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ({"l2": 0.5}, {"l2": 0.25}, "its l2 is 0.5, not 0.25"),
        ({"seeds": 1}, {"seeds": 2}, r"its seeds is \[0\], not \[0, 1\]"),
        (
            {"optimizers": {"a": OptimizerConfig("x", n=1)}},
            {"optimizers": {"a": OptimizerConfig("x", n=1.5)}},
            "its optimizers.a.hyperparameters.n is 1, not 1.5",
        ),
    ],
)
def test_a_result_of_another_config_is_refused_and_left_untouched(tmp_path, there, here, said):
    make_result(Config(**there)).save(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=said):
        make_result(Config(**here)).save(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ({"l2": 0}, {"l2": 0.0}),
        (
            {"optimizers": {"a": OptimizerConfig("sgd", learning_rate=1)}},
            {"optimizers": {"a": OptimizerConfig("sgd", learning_rate=1.0)}},
        ),
    ],
    ids=["l2", "learning_rate"],
)
def test_a_whole_number_written_as_an_integer_is_the_same_config_or_refused(tmp_path, there, here):
    make_result(Config(**there)).save(tmp_path)
    if Config(**there).digest == Config(**here).digest:
        make_result(Config(**here)).save(tmp_path)
    else:
        with pytest.raises(InputError, match="another config"):
            make_result(Config(**here)).save(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", ["", "text", "[]", "3", "{}", '{"dataset": "mnist"}', '{"optimizers": []}'])
def test_a_file_of_another_program_under_one_of_the_names_is_left_as_it_was(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="not a result of this program"):
        make_result(Config()).save(tmp_path)
    assert contents(tmp_path) == {name: text.encode()}


@pytest.mark.parametrize("below", ["file", "file/folder", "file/folder/deeper"])
def test_a_folder_below_a_regular_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match=rf"cannot write the result to '.*{below}': Not a directory"):
        make_result().save(tmp_path / below)
    with pytest.raises(InputError, match=r"cannot be written: '.*file.*': Not a directory"):
        check_output_folder(tmp_path / below, make_result().config)
    assert contents(tmp_path) == {"file": b"text"}


def no_room(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_is_reported_and_the_old_result_stays(tmp_path, monkeypatch):
    make_result().save(tmp_path)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        with pytest.raises(InputError, match="No space left on device"):
            make_result(provenance={"run": 2}).save(tmp_path)
    assert contents(tmp_path) == before
    assert Result.load(tmp_path) == make_result()


def test_an_interruption_between_two_files_leaves_a_folder_that_is_refused_and_can_be_written_anew(
    tmp_path, monkeypatch
):
    make_result().save(tmp_path)
    replace, written = os.replace, []

    def interrupted(temporary, path):
        written.append(pathlib.Path(path).name)
        if written[-1] == "result.json":
            raise KeyboardInterrupt
        replace(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_result(dtype=np.float64).save(tmp_path)
    assert written[-1] == "result.json"
    assert sorted(contents(tmp_path)) == sorted(FILES)
    with pytest.raises(InputError, match="of another saving"):
        Result.load(tmp_path)
    make_result(dtype=np.float64).save(tmp_path)
    assert Result.load(tmp_path) == make_result(dtype=np.float64)


@pytest.mark.parametrize(("step", "old"), [("fsync", None), ("fsync", b"old"), ("replace", b"old"), ("fchmod", b"old")])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, step, old):
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, no_room)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new")
    assert contents(tmp_path) == ({"file": old} if old else {})


def test_a_bfloat16_leaf_is_stored_as_its_bits(tmp_path):
    leaf = np.asarray([1.5, -2], ml_dtypes.bfloat16)
    with_leaf(leaf).save(tmp_path)
    packed = pq.read_table(tmp_path / "runs.parquet").column("params").to_pylist()[:2]
    for content, entry in zip(packed, leaf.view(np.uint16), strict=True):
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            np.testing.assert_array_equal(arrays["leaf_0"], entry)


def test_a_result_of_the_earlier_format_is_neither_read_nor_written_over(tmp_path):
    make_result().save(tmp_path)
    (tmp_path / "runs.parquet").rename(tmp_path / "history.parquet")
    summary = json.loads((tmp_path / "result.json").read_text("utf-8"))
    (tmp_path / "result.json").write_text(json.dumps(summary | {"format": 1}))
    before = contents(tmp_path)
    for attempt in (lambda: Result.load(tmp_path), lambda: make_result().save(tmp_path)):
        with pytest.raises(InputError, match=r"holds a result of format 1, and this version .* format 3, whose runs"):
            attempt()
    assert contents(tmp_path) == before


def rewrite(folder, name, content):
    """Replaces a file of a result, with digests that agree with it."""
    (folder / name).write_bytes(content)
    summary = json.loads((folder / "result.json").read_bytes())
    summary["sha256"][name] = hashlib.sha256(content).hexdigest()
    summary["sha256"]["result.json"] = result_folder._digest_of_summary(summary)
    (folder / "result.json").write_text(json.dumps(summary))


def with_column(folder, name, column):
    table = pq.read_table(folder / "runs.parquet")
    sink = io.BytesIO()
    pq.write_table(table.set_column(table.column_names.index(name), name, column(table.column(name))), sink)
    rewrite(folder, "runs.parquet", sink.getvalue())


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("losses", lambda c: c.cast(pa.large_list(pa.float64())), "float32 are not stored as float64"),
        ("losses", lambda c: pa.array([row.as_py()[:-1] for row in c], c.type), "not as long as its shape says"),
        ("losses", lambda c: pa.nulls(len(c), c.type), "not as long as its shape says"),
        ("failed", lambda c: pa.array(["no"] * len(c)), r"failed\[0\] must be true or false, not 'no'"),
        ("diverged_at", lambda c: pa.array([1.5] * len(c)), r"diverged_at\[0\] must be an integer, not 1.5"),
        ("iterations", lambda c: pa.array([[0.5] * RECORDED] * len(c)), "its iterations are not integers"),
        ("iterations", lambda c: pa.array([[0, 1]] * len(c)), "do not have 2 entries"),
        ("params", lambda c: pa.array([b"x"] * len(c)), "File is not a zip file"),
    ],
)
def test_runs_of_other_dtypes_and_shapes_are_refused_though_their_digests_are_right(tmp_path, name, column, words):
    make_result().save(tmp_path)
    with_column(tmp_path, name, column)
    with pytest.raises(InputError, match=f"runs.parquet cannot be used: .*{words}"):
        Result.load(tmp_path)


def test_runs_that_are_not_of_the_config_are_refused_before_they_are_read(tmp_path, monkeypatch):
    make_result().save(tmp_path)
    table = pq.read_table(tmp_path / "runs.parquet")
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables([table] * 1000), sink)
    rewrite(tmp_path, "runs.parquet", sink.getvalue())
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("read"))
    words = f"runs.parquet cannot be used: it has {1000 * len(table)} rows, and can have at most {len(table)}"
    with pytest.raises(InputError, match=words):
        Result.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("runs.parquet", b"garbage" * 9, "runs.parquet cannot be used: Parquet magic bytes not found"),
        ("config.json", b"{}", "config.json is not of this program: task is not there"),
        ("config.json", b"[]", "config.json is not of this program: a config is an object"),
        ("config.json", b"[" * 10_000, "config.json is not of this program: it is nested more than 200 deep"),
    ],
)
def test_garbage_is_refused_though_its_digest_is_right(tmp_path, name, content, words):
    make_result().save(tmp_path)
    rewrite(tmp_path, name, content)
    with pytest.raises(InputError, match=words):
        Result.load(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path, name):
    make_result().save(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"holds no complete result: {name} is not a regular file"):
        Result.load(tmp_path)


def test_a_folder_into_which_another_writes_is_refused_and_left_as_it_is(tmp_path):
    make_result().save(tmp_path)
    with lock(tmp_path / ".result.json.lock", "it", "training"):
        before = contents(tmp_path)
        for attempt in (
            lambda: make_result().save(tmp_path),
            lambda: check_output_folder(tmp_path, make_result().config),
        ):
            with pytest.raises(InputError, match=rf"is in use by another training \(process {os.getpid()} on "):
                attempt()
        assert contents(tmp_path) == before
        assert Result.load(tmp_path) == make_result()


def test_what_a_killed_writer_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    left = [tmp_path / f".{name}.0123456789abcdef.tmp" for name in (*FILES, "mine")]
    for path in left:
        path.write_bytes(b"half")
    make_result().save(tmp_path)
    assert sorted(contents(tmp_path)) == sorted([*FILES, left[-1].name])

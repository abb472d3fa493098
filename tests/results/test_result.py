"""A result on disk: equal to the bit, readable by others, and never written over something else."""

import dataclasses
import errno
import io
import json
import os
import pathlib
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flax import nnx

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import write_atomically
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.results.result import Result

FILES = ("config.json", "result.json", "runs.parquet")
RECORDED = 5


def make_result(cfg=None, *, dtype=np.float32, **fields):
    """A result of the right shapes whose numbers are noise; nothing is trained."""
    cfg = cfg or Config(seeds=(3, 2**32 - 1), iterations=RECORDED)
    rng = np.random.default_rng(0)
    seeds = len(cfg.seed_tuple)

    def by_label(*shape):
        return {label: rng.normal(size=(seeds, *shape)).astype(dtype) for label in cfg.optimizers}

    defaults = {
        "iterations": np.arange(RECORDED),
        "losses": by_label(RECORDED),
        "losses_before": by_label(RECORDED),
        "metrics": {},
        "evaluation_iterations": np.asarray([2, RECORDED]),
        "evaluations": {name: by_label(2) for name in ("train_loss", "test_loss", "test_accuracy")},
        "failed": {label: np.arange(seeds) == 1 for label in cfg.optimizers},
        "diverged_at": {label: np.arange(seeds) * 3 - 1 for label in cfg.optimizers},
        "params": {label: {"kernel": entry} for label, entry in by_label(4, 3).items()},
        "provenance": {"versions": {"jax": "1"}, "devices": 2, "seconds": {"training": 0.1}, "umlaut": "ä"},
    }
    return Result(config=cfg, **(defaults | fields))


def with_leaf(leaf):
    return make_result(params={label: {"leaf": leaf} for label in Config().optimizers})


def with_metric(values):
    return make_result(metrics={"metric": dict(zip(Config().optimizers, values, strict=True))})


def specials(dtype):
    """Every kind of number that has no place in JSON; the second NaN has the sign bit that 0/0 sets on x86."""
    numbers = np.resize(np.asarray([np.nan, np.inf, -np.inf, -0.0, 1e-45], dtype), (2, RECORDED))
    numbers[1, 0] = np.copysign(numbers[1, 0], -1)
    return numbers


def with_specials(dtype):
    histories = {label: specials(dtype) for label in Config().optimizers}
    return make_result(losses=histories, losses_before=histories, metrics={"norm": histories})


class Layer(NamedTuple):
    kernel: np.ndarray


ROUND_TRIPS = {
    "float32": make_result(),
    "float64": make_result(dtype=np.float64),
    "one seed": make_result(Config(seeds=1)),
    "special numbers in float32 histories": with_specials(np.float32),
    "special numbers in float64 histories": with_specials(np.float64),
    "special numbers in evaluations": make_result(
        evaluations={"train_loss": {label: specials(np.float32) for label in Config().optimizers}}
    ),
    "no evaluations": make_result(evaluations={}),
    "fewer iterations than the config's": make_result(Config(iterations=2000, seeds=2)),
    "thinned histories": make_result(iterations=np.arange(0, RECORDED * 10, 10, dtype=np.int32)),
    "schedules, tuples, words, booleans and none": make_result(
        Config(
            seeds=2,
            optimizers={
                "ä/b=c": OptimizerConfig(
                    "optax.sgd",
                    learning_rate=Schedule("warmup_cosine", peak_value=0.1, warmup_steps=2, decay_steps=5),
                    nesterov=True,
                    momentum=None,
                ),
                "b": OptimizerConfig("x", betas=(0.9, 0.99), mode="fast"),
            },
        )
    ),
    "an infinite hyperparameter": make_result(
        Config(seeds=2, optimizers={"a": OptimizerConfig("optax.clip", max_delta=float("inf"))})
    ),
    "a factory": make_result(Config(seeds=2, optimizers={"a": OptimizerConfig(make_result, learning_rate=0.1)})),
    "a metric of integers": with_metric([np.arange(10, dtype=np.int32).reshape(2, 5)] * 3),
    "a metric of booleans": with_metric([np.eye(2, 5, dtype=bool)] * 3),
    "a metric of vectors": with_metric([np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)] * 3),
    "a metric of matrices": with_metric([np.random.default_rng(0).normal(size=(2, 5, 3, 2))] * 3),
    "a metric of vectors of one entry": with_metric([np.ones([2, 5, 1], np.float32)] * 3),
    "a metric of empty vectors": with_metric([np.ones([2, 5, 0], np.float32)] * 3),
    "a metric of bfloat16": with_metric([np.ones([2, 5], ml_dtypes.bfloat16)] * 3),
    "a metric of vectors of bfloat16": with_metric([np.ones([2, 5, 3], ml_dtypes.bfloat16)] * 3),
    "a metric with another shape for each label": with_metric(
        [np.ones([2, 5, *shape], np.float32) for shape in ((), (3,), (2, 2))]
    ),
    "bfloat16 parameters": with_leaf(np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)),
    "float16 parameters": with_leaf(np.ones(2, np.float16)),
    "8-bit parameters": with_leaf(np.ones(2, ml_dtypes.float8_e4m3fn)),
    "integer parameters": with_leaf(np.ones([2, 1], np.int8)),
    "parameters in Fortran's order": with_leaf(np.asfortranarray(np.arange(6.0).reshape(2, 3))),
    "special numbers in parameters": with_leaf(specials(np.float32)),
    "parameters on a device": with_leaf(jnp.ones([2, 3])),
    "parameters that are one array": make_result(params={label: np.ones(2) for label in Config().optimizers}),
    "nested parameters": with_leaf(
        [{"a": np.zeros([2, 1])}, (np.ones(2), None, [np.full(2, 2)]), {}, [], (), {0: np.ones([2, 0])}]
    ),
}


@pytest.mark.parametrize("kind", ROUND_TRIPS)
def test_a_result_comes_back_from_disk_equal_to_the_bit(tmp_path, kind):
    result = ROUND_TRIPS[kind]
    result.save(tmp_path / "new" / "folder")
    loaded = Result.load(tmp_path / "new" / "folder")
    if kind == "a factory":
        # Nothing is imported by a name found in a file: it comes back as the name.
        assert loaded.config.digest == result.config.digest
    else:
        assert loaded.config == result.config
    assert loaded == result
    for label in result.config.optimizers:
        assert loaded.losses[label].tobytes() == result.losses[label].tobytes()
        assert jax.tree.structure(loaded.params[label]) == jax.tree.structure(result.params[label])


def test_histories_keep_their_labels_whatever_order_they_are_held_in(tmp_path):
    losses = {label: np.full([2, RECORDED], i, np.float32) for i, label in enumerate(reversed(Config().optimizers))}
    make_result(losses=losses).save(tmp_path)
    for label, values in Result.load(tmp_path).losses.items():
        np.testing.assert_array_equal(values, losses[label])


def test_parameters_that_are_no_arrays_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="cannot be saved: dicts, lists and tuples of arrays can"):
        with_leaf(object()).save(tmp_path / "result")
    assert not (tmp_path / "result").exists()


def test_variables_of_nnx_come_back_as_the_arrays_that_they_hold(tmp_path):
    # As an array of its own, NumPy would make raw bytes of it.
    array = np.arange(4).astype(ml_dtypes.bfloat16).reshape(2, 2)
    with_leaf(nnx.State({"kernel": nnx.Param(array)})).save(tmp_path)
    loaded = Result.load(tmp_path).params["sgd"]["leaf"]["kernel"]
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)
    assert with_leaf(nnx.Param(array)) == with_leaf(array)
    assert with_leaf(nnx.Param(array)) != with_leaf(array.view(np.uint16))


def test_a_named_tuple_of_parameters_comes_back_as_a_dict_of_its_fields(tmp_path):
    with_leaf(Layer(np.ones(2))).save(tmp_path)
    np.testing.assert_array_equal(Result.load(tmp_path).params["sgd"]["leaf"]["kernel"], np.ones(2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("losses", {label: specials(np.float32) for label in Config().optimizers}),
        ("iterations", np.arange(1, RECORDED + 1)),
        ("failed", {label: np.asarray([True, True]) for label in Config().optimizers}),
        ("evaluations", {}),
        ("params", {label: {"kernel": np.zeros([2, 4, 3], np.float32)} for label in Config().optimizers}),
        ("provenance", {}),
        ("config", Config(seeds=2)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_results_that_differ_in_one_field_are_not_equal(field, value):
    assert dataclasses.replace(make_result(), **{field: value}) != make_result()
    assert make_result() == make_result()


def test_results_are_told_apart_by_the_sign_of_a_zero_and_by_dtype():
    zero = {label: np.zeros([2, RECORDED]) for label in Config().optimizers}
    for other in ({k: -v for k, v in zero.items()}, {k: v.astype(np.float32) for k, v in zero.items()}):
        assert make_result(losses=zero) != make_result(losses=other)


def test_the_final_columns_are_the_last_evaluation_and_empty_where_there_is_none():
    result = make_result()
    np.testing.assert_array_equal(result.test_loss["sgd"], result.evaluations["test_loss"]["sgd"][:, -1])
    assert make_result(evaluations={}).test_accuracy == {}


def test_the_table_has_a_row_a_run_with_every_hyperparameter_and_null_where_there_is_none():
    steps = Schedule("step_decay", init_value=0.1, transition_steps=7, decay_rate=0.5)
    cfg = Config(
        seeds=(4, 2),
        optimizers={
            "b": OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
            "a": OptimizerConfig("sgd", learning_rate=steps),
        },
    )
    result = make_result(cfg)
    del result.evaluations["test_accuracy"]
    table = result.table()
    schedule_columns = ("schedule", "decay_rate", "init_value", "transition_steps")
    assert table.column_names == [
        "optimizer",
        "learning_rate",
        "momentum",
        *(f"learning_rate.{name}" for name in schedule_columns),
        "seed",
        "final_train_loss",
        "test_loss",
        "test_accuracy",
        "failed",
        "diverged_at",
    ]
    columns = table.to_pydict()
    assert columns["optimizer"] == ["b", "b", "a", "a"]
    assert columns["seed"] == [4, 2, 4, 2]
    assert columns["learning_rate"] == [0.1, 0.1, None, None]
    assert columns["momentum"] == [0.9, 0.9, None, None]
    assert columns["learning_rate.schedule"] == [None, None, "step_decay", "step_decay"]
    assert columns["learning_rate.transition_steps"] == [None, None, 7, 7]
    assert columns["final_train_loss"] == [*result.train_loss["b"].tolist(), *result.train_loss["a"].tolist()]
    assert columns["test_accuracy"] == [None] * 4
    assert columns["failed"] == [False, True] * 2
    assert columns["diverged_at"] == [None, 2] * 2


def test_the_tables_types_do_not_depend_on_the_values():
    table = make_result(evaluations={}, diverged_at={label: np.full(2, -1) for label in Config().optimizers}).table()
    types = {name: table.schema.field(name).type for name in table.column_names}
    assert types["diverged_at"] == pa.int64()
    assert {types[name] for name in ("final_train_loss", "test_loss", "test_accuracy")} == {pa.float64()}


@pytest.mark.parametrize("values", [(True, 0.5), ("word", 0.5), ((1, 2), 0.5)], ids=repr)
def test_optimizers_with_hyperparameters_of_different_types_under_one_name_have_a_table(values):
    optimizers = {str(i): OptimizerConfig("x", h=value) for i, value in enumerate(values)}
    assert len(make_result(Config(seeds=2, optimizers=optimizers)).table()) == 4


@pytest.mark.parametrize("name", ["seed", "optimizer", "failed"])
def test_a_hyperparameter_with_the_name_of_a_column_does_not_take_its_place(name):
    # optax.noisy_sgd has a hyperparameter named seed.
    optimizer = OptimizerConfig("optax.noisy_sgd", **{name: 7})
    table = make_result(Config(seeds=2, optimizers={"a": optimizer})).table()
    assert table.column("optimizer").to_pylist() == ["a", "a"]
    assert table.column("seed").to_pylist() == [0, 1]
    assert table.column("failed").to_pylist() == [False, True]
    assert 7 in table.to_pylist()[0].values()


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
        lambda summary: summary | {"format": 3},
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
    with pytest.raises(InputError, match=r"cannot be written: '.*file': Not a directory"):
        make_result().save(tmp_path / below)
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


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, step, old):
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, no_room)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new")
    assert contents(tmp_path) == ({"file": old} if old else {})


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert contents(tmp_path) == {"plain": b"", "file": b"content"}


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
        with pytest.raises(InputError, match=r"holds a result of format 1, and this version .* format 2, whose runs"):
            attempt()
    assert contents(tmp_path) == before

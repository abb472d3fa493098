"""A result comes back from disk equal to the bit, and has a table with one row a run."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx

from momentum_jax._base.errors import InputError
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.results.record import Record
from momentum_jax.results.result import Result
from momentum_jax.space import Trial
from tests.results.made import RECORDED, from_records, make_result, with_leaf


def with_metric(values):
    return make_result(metrics={"metric": dict(zip(Config().optimizers, values, strict=True))})


def specials(dtype):
    """Every kind of number that has no place in JSON; the second NaN has the sign bit that 0/0 sets on x86."""
    numbers = np.resize(np.asarray([np.nan, np.inf, -np.inf, -0.0, 1e-45], dtype), (2, RECORDED))
    numbers[1, 0] = np.copysign(numbers[1, 0], -1)
    return numbers


def with_specials(dtype):
    histories = {label: specials(dtype) for label in Config().optimizers}
    return make_result(losses_after=histories, losses_before=histories, metrics={"norm": histories})


class Layer(NamedTuple):
    kernel: np.ndarray


ROUND_TRIPS = {
    "float32": make_result(),
    "float64": make_result(dtype=np.float64),
    "one seed": make_result(Config(seeds=1)),
    "special numbers in float32 histories": with_specials(np.float32),
    "special numbers in float64 histories": with_specials(np.float64),
    "special numbers in evaluations": make_result(
        evaluations={"train_loss": {label: specials(np.float32) for label in Config().optimizers}},
        evaluation_iterations=np.arange(specials(np.float32).shape[1]),
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
    make_result(losses_after=losses).save(tmp_path)
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
        ("losses_after", {label: specials(np.float32) for label in Config().optimizers}),
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
        assert make_result(losses_after=zero) != make_result(losses_after=other)


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


def test_runs_that_are_missing_have_no_numbers_and_neither_failed_nor_diverged():
    cfg = Config(seeds=2, iterations=3, optimizers={name: OptimizerConfig("x") for name in "ab"})
    losses = np.ones(3, np.float32)
    metrics = {"count": np.ones(3, np.int32), "half": np.ones(3, ml_dtypes.bfloat16)}
    record = Record(losses, losses, metrics, 2, {"train_loss": losses[:1]}, True, {"w": losses})
    trial = Trial(cfg.optimizers["a"], 8)
    records = {"a": [[record, None]], "b": [[None, None], [None, None]]}
    result = from_records(cfg, records, np.arange(3), [3], {}, {"a": (trial,), "b": (trial, trial)})
    assert result.missing["a"].tolist() == [[False, True]]
    assert result.missing["b"].all()
    assert result.losses["b"].shape == result.params["b"]["w"].shape == (2, 2, 3)
    for label in "ab":
        there = ~result.missing[label]
        for values in (result.losses[label], result.params[label]["w"], result.metrics["half"][label].astype(float)):
            np.testing.assert_array_equal(np.isnan(values).all(axis=-1), result.missing[label])
        np.testing.assert_array_equal(result.metrics["count"][label][..., 0], there)
        np.testing.assert_array_equal(result.failed[label], there)
        np.testing.assert_array_equal(result.diverged_at[label], np.where(there, 2, -1))
    assert result.metrics["half"]["b"].dtype == ml_dtypes.bfloat16
    assert len(result.table()) == 1

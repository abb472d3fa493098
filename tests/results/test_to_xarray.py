"""The dataset of a result: the arrays of the result itself, with named axes."""

import dataclasses
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
import xarray

import momentum_jax as mj
from tests.report.judged import sweep_of
from tests.results.made import RECORDED, make_result

GRID = [{"learning_rate": rate, "momentum": 0.9} for rate in (0.1, 0.01)]
WARMUP = mj.Schedule("warmup_cosine", peak_value=0.3, warmup_steps=5, decay_steps=100)


def trained(optimizers=None, **fields):
    """Two seeds of the tutorial's optimizers, or of others."""
    options = {} if optimizers is None else {"optimizers": optimizers}
    return make_result(mj.Config(seeds=(3, 7), iterations=RECORDED, **options), **fields)


def same(one, other):
    """A NaN equals a NaN."""
    np.testing.assert_array_equal(one, other)
    assert one.dtype == other.dtype


def test_the_dataset_of_a_training_has_its_arrays_and_a_trial_for_each_optimizer():
    result = trained()
    data = result.to_xarray()
    assert isinstance(data, xarray.Dataset)
    assert dict(data.sizes) == {"trial": 3, "seed": 2, "iteration": RECORDED, "evaluation": 2}
    assert data.optimizer.values.tolist() == list(result.config.optimizers)
    assert data.seed.values.tolist() == [3, 7]
    same(data.iteration.values, result.iterations)
    same(data.evaluation.values, result.evaluation_iterations)
    for position, label in enumerate(result.config.optimizers):
        of_label = data.isel(trial=position)
        for name in ("losses_before", "losses_after", "failed", "diverged_at"):
            same(of_label[name].values, getattr(result, name)[label])
        for name, by_label in result.evaluations.items():
            assert of_label[name].dims == ("seed", "evaluation")
            same(of_label[name].values, by_label[label])
    assert data.losses_before.dims == ("trial", "seed", "iteration")
    assert "missing" not in data


def test_what_was_not_recorded_is_not_there():
    data = trained(losses_after={}, evaluations={}, evaluation_iterations=np.asarray([], int)).to_xarray()
    assert set(data.data_vars) == {"losses_before", "failed", "diverged_at"}


def test_the_dataset_of_a_sweep_has_a_trial_after_the_other_and_nan_for_runs_to_come():
    result = sweep_of({"a": GRID, "b": [{"learning_rate": 0.3}]}, (0, 1), missing=[("a", 1, 0)])
    data = result.to_xarray()
    same(data.losses_before.values, np.concatenate([result.losses_before["a"], result.losses_before["b"]]))
    assert data.optimizer.values.tolist() == ["a", "a", "b"]
    assert data.learning_rate.values.tolist() == [0.1, 0.01, 0.3]
    # b has the default momentum, and no hyperparameter of that name.
    same(data.momentum.values, np.array([0.9, 0.9, np.nan]))
    assert data.missing.values.tolist() == [[False, False], [True, False], [False, False]]
    assert np.isnan(data.losses_before.values[1, 0]).all()
    assert np.isnan(data.train_loss.values[1, 0]).all()
    assert not data.failed.values[1, 0]
    assert data.diverged_at.values[1, 0] == -1
    at_rate = data.isel(trial=data.learning_rate == 0.01)
    same(at_rate.losses_before.values, result.losses_before["a"][1:])


@pytest.mark.parametrize("result", [trained(), sweep_of({"z": GRID, "a": [{"learning_rate": 0.3}]}, (0, 1))])
def test_a_trial_has_its_own_numbers_whatever_the_order_of_the_labels(result):
    fields = {name: getattr(result, name) for name in ("losses_before", "failed", "diverged_at", "evaluations")}
    fields["metrics"] = {"norm": result.losses_before}
    data = dataclasses.replace(result, metrics=fields["metrics"]).to_xarray()
    # `jax.tree.map` sorts the keys of dicts.
    ordered = dataclasses.replace(result, **jax.tree.map(lambda a: a, fields))
    assert list(ordered.losses_before) != list(result.losses_before)
    assert ordered.to_xarray().equals(data)


def test_hyperparameters_are_numbers_or_text_by_the_names_of_the_table():
    optimizers = {
        "a": mj.OptimizerConfig("sgd", learning_rate=WARMUP, seed=1),
        "b": mj.OptimizerConfig(
            "momentum", learning_rate=1, convention="inside", nesterov=True, trial=2**60, odd=(1, 2)
        ),
    }
    data = trained(optimizers).to_xarray()
    columns = {name: data[name].values.tolist() for name in data.coords if data[name].dims == ("trial",)}
    del columns["trial"]
    nan = pytest.approx(np.nan, nan_ok=True)
    assert columns == {
        "optimizer": ["a", "b"],
        "batch_size": [128, 128],
        "learning_rate.schedule": ["warmup_cosine", ""],
        "learning_rate.peak_value": [0.3, nan],
        "learning_rate.init_value": [0.0, nan],
        "learning_rate.end_value": [0.0, nan],
        "learning_rate.warmup_steps": [5.0, nan],
        "learning_rate.decay_steps": [100.0, nan],
        "hyperparameter.seed": [1.0, nan],
        "learning_rate": [nan, 1.0],
        "convention": ["", "inside"],
        "nesterov": ["", "true"],
        # float64 would round it.
        "hyperparameter.trial": ["", str(2**60)],
        "odd": ["", "(1, 2)"],
    }


def test_metrics_keep_their_further_axes_and_names_that_are_taken_get_a_prefix():
    rng = np.random.default_rng(0)
    labels = mj.Config().optimizers
    names = {"position": (4, 2), "position_0": (), "train_loss": (), "trial": (3,)}
    metrics = {name: {label: rng.normal(size=(2, RECORDED, *axes)) for label in labels} for name, axes in names.items()}
    result = trained(metrics=metrics)
    data = result.to_xarray()
    assert data.position.dims == ("trial", "seed", "iteration", "position_0", "position_1")
    assert data["metric.position_0"].dims == ("trial", "seed", "iteration")
    assert data["metric.trial"].dims == ("trial", "seed", "iteration", "trial_0")
    assert data.train_loss.dims == ("trial", "seed", "evaluation")
    for name, variable in (("position", "position"), ("train_loss", "metric.train_loss"), ("trial", "metric.trial")):
        same(data[variable].values, np.stack(list(metrics[name].values())))


def test_a_metric_whose_shape_depends_on_the_optimizer_is_refused_with_what_to_do():
    metrics = {"m": {label: np.zeros((2, RECORDED, i)) for i, label in enumerate(mj.Config().optimizers)}}
    with pytest.raises(mj.InputError, match=r"metric 'm' has arrays of different shapes, .*dataclasses.replace"):
        trained(metrics=metrics).to_xarray()
    dataclasses.replace(trained(metrics=metrics), metrics={}).to_xarray()


def test_bfloat16_becomes_float32_without_rounding():
    result = trained(dtype=ml_dtypes.bfloat16)
    losses = result.to_xarray().losses_before.values
    same(losses[0], result.losses_before["sgd"].astype(np.float32))


def test_without_xarray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(mj.InputError, match="pip install xarray"):
        trained().to_xarray()


def test_a_result_whose_histories_were_taken_out_says_in_one_line_what_is_missing_and_how_to_keep_it(tmp_path):
    sweep = sweep_of({"a": GRID, "b": [{"learning_rate": 0.3}]}, (0, 1))
    for result in (trained(), sweep):
        emptied = dataclasses.replace(result, losses_before={}, losses_after={})
        assert "Result of a" in repr(emptied)
        uses = [emptied.to_xarray, lambda result=emptied: result.report(tmp_path / "page.html")]
        if result is not sweep:
            uses += [
                lambda result=emptied: mj.compare_results(result),
                lambda result=emptied: result.save(tmp_path / "saved"),
            ]
        for use in uses:
            with pytest.raises(mj.InputError, match="needs losses_before, and this result has none of ") as caught:
                use()
            assert "mj.Result.load" in str(caught.value)
            assert "\n" not in str(caught.value)
    # A task whose evaluation has no training loss is judged by its last loss.
    unevaluated = dataclasses.replace(sweep, losses_before={}, evaluations={})
    assert "Result of a" in repr(unevaluated)
    with pytest.raises(mj.InputError, match="needs losses_before"):
        unevaluated.plot()

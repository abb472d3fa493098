"""What a training records, evaluates and leaves behind."""

import dataclasses
import json
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.results.fingerprint import data_digest
from momentum_jax.training.validate import resolve_task
from tests.training.small import DATASET, PAIR, quadratic_task, same_bits, small

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.mark.parametrize(
    "dataset", [DATASET, pytest.param("mnist", marks=pytest.mark.exhaustive)], ids=["idx", "mnist"]
)
def test_evaluations_are_over_the_full_sets(dataset):
    result, data = mj.train(small(seeds=2, dataset=dataset)), mj.load_dataset(dataset)
    for i in range(2):
        layers = jax.tree.map(lambda p, i=i: p[i].astype(np.float64), result.params["sgd"])["params"]
        for x, y, loss in ((data.x_train, data.y_train, "train_loss"), (data.x_test, data.y_test, "test_loss")):
            hidden = np.maximum(x / 255 @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"], 0)
            logits = hidden @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]
            logits -= logits.max(axis=1, keepdims=True)
            log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            # float32 against float64: each example rounds at some 1e-7, and so does the mean over slices.
            np.testing.assert_allclose(getattr(result, loss)["sgd"][i], -log_p[np.arange(len(y)), y].mean(), rtol=2e-6)
        assert abs(result.test_accuracy["sgd"][i] - np.mean(logits.argmax(axis=1) == y)) < 3e-4


def test_a_diverging_run_is_recorded_and_its_neighbours_are_untouched():
    wild = {**PAIR, "wild": mj.OptimizerConfig("sgd", learning_rate=1e20)}
    result, tame = mj.train(small(optimizers=wild)), mj.train(small())
    assert result.failed["wild"].all()
    first = result.diverged_at["wild"][0]
    assert np.isfinite(result.losses_before["wild"][0, :first]).all()
    assert not np.isfinite(result.losses_before["wild"][0, first])
    assert np.isnan(result.losses_before["wild"][0, first + 1 :]).all()
    assert np.isnan(result.losses["wild"][0, first + 1 :]).all()
    for label in PAIR:
        assert result.losses[label].tobytes() == tame.losses[label].tobytes()
        assert result.diverged_at[label].tolist() == [-1]
        assert not result.failed[label].any()


@pytest.mark.parametrize("test", [(), {}], ids=["tuple", "dict"])
def test_test_data_without_arrays_cost_no_evaluation_and_are_given_to_it(test):
    given = []

    def evaluate(params, train, test):
        given.append(test)
        return {"norm": jnp.linalg.norm(params["w"])}

    task = dataclasses.replace(quadratic_task(), test=test, evaluate=evaluate)
    result = mj.train(small(), task=task, progress=False)
    assert np.isfinite(result.evaluations["norm"]["sgd"]).all()
    assert given[-1] == test


@pytest.mark.parametrize(
    ("devices", "chunk"),
    [(2, 10), *(pytest.param(*both, marks=pytest.mark.exhaustive) for both in ((1, 10), (1, 100), (2, 100)))],
)
def test_parameters_of_size_0_are_trained_beside_others(devices, chunk, tmp_path):
    with_empty = mj.Task(
        init=lambda key: {"w": jnp.zeros(3), "empty": jnp.zeros([0, 3]), "none": jnp.zeros([2, 0])},
        loss=lambda p, batch: jnp.mean((p["w"][None] - batch) ** 2) + p["empty"].sum() + p["none"].sum(),
        train=quadratic_task().train,
    )
    alone = mj.Task(
        init=lambda key: {"w": jnp.zeros(3)},
        loss=lambda p, batch: jnp.mean((p["w"][None] - batch) ** 2),
        train=quadratic_task().train,
    )
    # One optimizer, so that its runs are laid over both devices.
    cfg = small(seeds=3, optimizers={"momentum": PAIR["momentum"]})
    options = {"devices": jax.devices()[:devices], "chunk": chunk}
    result, expected = (mj.train(cfg, task=task, **options) for task in (with_empty, alone))
    assert result.losses["momentum"].tobytes() == expected.losses["momentum"].tobytes()
    assert result.params["momentum"]["empty"].shape == (3, 0, 3)
    result.save(tmp_path / "result")
    assert mj.Result.load(tmp_path / "result") == result
    swept = mj.sweep(cfg, {}, task=with_empty, keep_params=True, folder=tmp_path / "sweep", **options)
    assert swept.params["momentum"]["none"].shape == (1, 3, 2, 0)
    assert mj.Result.load(tmp_path / "sweep") == swept


def test_a_dead_network_has_failed_although_its_loss_is_finite():
    # Steps this large push every ReLU of a narrow network below zero; the output is constant from there.
    result = mj.train(small(hidden_sizes=(2, 2), optimizers={"dead": mj.OptimizerConfig("sgd", learning_rate=50.0)}))
    assert np.isfinite(result.losses["dead"]).all()
    assert result.diverged_at["dead"].tolist() == [-1]
    assert result.failed["dead"].tolist() == [True]


def test_a_task_of_ones_own_trains_and_is_evaluated_by_its_loss():
    task = quadratic_task()
    result = mj.train(small(iterations=300), task=task)
    best = float(np.mean(np.sum((task.train - task.train.mean(axis=0)) ** 2, axis=1)) / 2)
    np.testing.assert_allclose(result.train_loss["sgd"], best, rtol=0.02)
    assert set(result.evaluations) == {"train_loss", "test_loss"}
    assert result.test_accuracy == {}
    assert result.table().column("test_accuracy").null_count == 2


def test_progress_goes_from_the_beginning_to_the_end_of_every_phase():
    seen = []
    mj.train(small(), chunk=10, progress=lambda *call: seen.append(call))
    assert list(dict.fromkeys(phase for phase, *_ in seen)) == ["compiling", "training", "evaluating"]
    assert [call for call in seen if call[0] == "training"] == [("training", n, 30) for n in (0, 10, 20, 30)]
    for phase in ("compiling", "evaluating"):
        done = [call[1:] for call in seen if call[0] == phase]
        assert done[0][0] == 0
        assert done[-1][0] == done[-1][1] > 0


def test_ctrl_c_leaves_what_was_finished_with_the_bits_of_an_uninterrupted_run():
    whole = mj.train(small())

    def interrupt(phase, done, total):
        if phase == "training" and done == 20:
            os.kill(os.getpid(), signal.SIGINT)
            # The signal is handled at the next bytecode of the main thread, which this is.
            time.sleep(0.1)

    with pytest.raises(mj.Interrupted) as stop:
        mj.train(small(), chunk=10, progress=interrupt)
    result = stop.value.result
    assert result.iterations.tolist() == list(range(20))
    assert result.evaluation_iterations.tolist() == [20]
    for label in PAIR:
        assert result.losses[label].tobytes() == np.ascontiguousarray(whole.losses[label][:, :20]).tobytes()


def test_ctrl_c_after_the_last_iteration_leaves_a_complete_result():
    def interrupt(phase, done, total):
        if phase == "training" and done == total:
            raise KeyboardInterrupt

    same_bits(mj.train(small(), progress=interrupt), mj.train(small()))


def test_the_provenance_says_what_the_bits_depend_on(mnist):
    origin = mj.train(small(dataset="mnist", iterations=1, optimizers={"sgd": PAIR["sgd"]})).provenance
    assert origin["versions"]["jaxlib"]
    assert origin["data"] == {"source": "embedded MNIST", "digest": data_digest(resolve_task(mj.Config(), None))}
    assert origin["platform"] == "cpu"
    assert origin["devices"] == 2
    assert set(origin["seconds"]) == {"loading", "compiling", "training", "evaluating"}
    json.dumps(origin)

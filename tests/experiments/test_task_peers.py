"""The benchmark's loops of Flax and Optax do the work of the package's tasks."""

import dataclasses

import jax
import numpy as np
import pytest
import task_peers

import momentum_jax as mj
from momentum_jax.tasks.datasets import Dataset

SMALL = {
    "convnet": {"channels": (3, 4)},
    "char_transformer": {"layers": 1, "width": 8, "heads": 2, "context": 8},
    "autoencoder": {"hidden_sizes": (8,), "code": 3},
    "logistic": {},
    "least_squares": {"examples": 200, "dimensions": 3},
}


def small(name):
    arguments = SMALL[name]
    if name in ("convnet", "autoencoder", "logistic"):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, [350, 64]).astype(np.uint8)
        labels = rng.integers(0, 5, 350).astype(np.int32)
        dataset = Dataset(images[:300], labels[:300], images[300:], labels[300:], (8, 8), 5, "drawn")
        return arguments | {"dataset": dataset}
    return arguments


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", SMALL)
def test_the_losses_of_the_loop_are_those_of_the_package(name, monkeypatch):
    # So that twelve iterations change the losses by more than roundings do.
    monkeypatch.setitem(task_peers.LEARNING_RATES, name, 10 * task_peers.LEARNING_RATES[name])
    task = mj.make_task(name, **small(name))
    task = dataclasses.replace(task, evaluate=task_peers.no_evaluation)
    cfg = task_peers.config(name, 12)
    params = mj.initial_params(cfg, 0, task_peers.LABEL, task=task)
    loop, untrained = (task_peers.flax_loop(name, task, params) for _ in range(2))
    batches = mj.batch_indices(cfg, 0, task=task)
    # TrainState counts its steps with a Python integer.
    with jax.numpy_dtype_promotion("standard"):
        losses = np.concatenate([loop(batches[:5]), loop(batches[5:])])
        at_first = untrained(batches[-1:])[0]
    assert losses.shape == (12,)
    # In float32 the order of additions differs, and so does where 255 divides.
    np.testing.assert_allclose(losses, mj.train(cfg, task=task).losses_before[task_peers.LABEL][0], rtol=1e-4)
    assert abs(losses[-1] - at_first) > 1e-3 * at_first


def test_a_tenth_of_the_iterations_is_for_the_tasks_whose_steps_take_long():
    assert task_peers.LOSSES.keys() == task_peers.ITERATIONS.keys() == task_peers.LEARNING_RATES.keys() == SMALL.keys()
    found = {name: task_peers.iterations_of(name, 2000) for name in SMALL}
    assert found == {name: 2000 if name in ("logistic", "least_squares") else 200 for name in SMALL}
    assert task_peers.iterations_of("convnet", 1) == 1


@pytest.mark.usefixtures("compiled_quickly")
def test_a_run_that_diverges_is_not_measured(monkeypatch):
    # This process has its devices already.
    monkeypatch.setattr(task_peers, "cores", lambda: len(jax.devices()))
    monkeypatch.setitem(task_peers.LEARNING_RATES, "least_squares", 1e30)
    with pytest.raises(RuntimeError, match="least_squares diverged"):
        task_peers.task_seconds("least_squares", 1, 12, **SMALL["least_squares"])
    monkeypatch.setitem(task_peers.LEARNING_RATES, "least_squares", 0.01)
    assert task_peers.task_seconds("least_squares", 2, 12, **SMALL["least_squares"]) > 0

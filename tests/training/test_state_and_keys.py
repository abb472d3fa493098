"""Tasks with a state, a key or an augmentation: what each function gets, and the same bits as without company.

The oracle is a loop written out here: the run's own batches, weights and keys, one iteration after the other.
"""

import dataclasses
import os
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from tests.compilations import compilations
from tests.training.small import same_bits, same_trees

ROWS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
OPTIMIZERS = {
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
    "adam": mj.OptimizerConfig("optax.adam", learning_rate=0.1),
}


def init(key):
    return {"w": jax.random.normal(key, [3])}, {"mean": jnp.zeros([3]), "steps": jnp.int32(0)}


def loss(params, state, batch, key):
    """The distance to the batch with noise on the parameters; the state is a running mean of the batches."""
    batch = batch.astype(params["w"].dtype)
    noise = jax.random.normal(key, [3], batch.dtype) / 10
    value = jnp.mean(jnp.sum((params["w"][None] + noise[None] - batch) ** 2, axis=-1)) / 2
    mean = 0.9 * state["mean"] + 0.1 * batch.mean(axis=0).astype(state["mean"].dtype)
    return value, {"mean": mean, "steps": state["steps"] + 1}


def evaluate(params, state, train, test):
    del test
    distance = jnp.sum((params["w"] - train.mean(axis=0).astype(params["w"].dtype)) ** 2)
    return {"train_loss": distance, "drift": jnp.sum(state["mean"]), "steps": state["steps"]}


def augment(key, batch):
    return batch + jax.random.normal(key, batch.shape, batch.dtype) / 100


FULL = mj.Task(
    init=init, loss=loss, train=ROWS, test=ROWS[:50], evaluate=evaluate, has_state=True, has_key=True, augment=augment
)


def config(**changes):
    return mj.Config(**{"iterations": 30, "batch_size": 16, "seeds": 3, "optimizers": OPTIMIZERS, **changes})


def by_hand(cfg, label, seed, task):
    """The losses before and after each update, the parameters and the state at the end."""
    params, state = mj.initial_params(cfg, seed, label, task=task)
    optimizer = optax.adam(0.1) if label == "adam" else mj.momentum(0.1, 0.9)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, state, opt_state, batch, keys):
        batch = task.augment(keys.augment, batch)
        (value, state), grads = jax.value_and_grad(task.loss, has_aux=True)(params, state, batch, keys.loss)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        return params, state, opt_state, value, task.loss(params, state, batch, keys.loss)[0]

    before, after = [], []
    for iteration, rows in enumerate(mj.batch_indices(cfg, seed, task=task)):
        keys = mj.step_keys(seed, iteration)
        params, state, opt_state, *losses = step(params, state, opt_state, jnp.asarray(task.train[rows]), keys)
        before.append(losses[0])
        after.append(losses[1])
    return np.array(before), np.array(after), *jax.device_get((params, state))


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("label", OPTIMIZERS)
def test_each_step_has_the_state_of_the_step_before_and_its_own_key(label):
    cfg = config(seeds=(4,), dtype="float64")
    task = dataclasses.replace(FULL, train=ROWS.astype(np.float64))
    result = mj.train(cfg, task=task)
    # Optax's Adam computes with Python's floats and integers.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        before, after, params, state = by_hand(cfg, label, 4, task)
    # Float64, 30 iterations: the order of additions differs between one program and one for each iteration.
    close = {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(result.losses_before[label][0], before, **close)
    np.testing.assert_allclose(result.losses[label][0], after, **close)
    kept_params, kept_state = result.params[label]
    np.testing.assert_allclose(kept_params["w"][0], params["w"], **close)
    np.testing.assert_allclose(kept_state["mean"][0], state["mean"], **close)
    assert kept_state["steps"].tolist() == [30]
    assert result.evaluations["steps"][label].tolist() == [[30]]
    np.testing.assert_allclose(result.evaluations["drift"][label][0, 0], state["mean"].sum(), **close)


@pytest.mark.parametrize("chunk", [1, pytest.param(7, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_state_and_keys_have_the_same_bits_in_any_pieces_on_any_devices_and_alone(chunk, devices, compiled):
    del compiled
    whole = mj.train(config(), task=FULL)
    same_bits(mj.train(config(), task=FULL, chunk=chunk, devices=jax.devices()[:devices]), whole)
    alone = mj.train(config(seeds=(1,), optimizers={"adam": OPTIMIZERS["adam"]}), task=FULL)
    np.testing.assert_array_equal(alone.losses["adam"][0], whole.losses["adam"][1])
    same_trees(alone.params["adam"], jax.tree.map(lambda a: a[1:2], whole.params["adam"]))


def test_a_run_of_make_run_has_the_bits_of_train():
    from momentum_jax.training import make_run

    run = make_run(FULL, OPTIMIZERS["momentum"], iterations=30, batch_size=16)
    trained = jax.jit(run)({"learning_rate": jnp.float32(0.1), "momentum": jnp.float32(0.9)}, jnp.uint32(2))
    whole = mj.train(config(), task=FULL)
    same_trees(trained.params, jax.tree.map(lambda a: a[2], whole.params["momentum"]))
    np.testing.assert_array_equal(trained.history.loss, whole.losses["momentum"][2])
    assert int(trained.evaluation["steps"]) == 30


@pytest.mark.usefixtures("compiled_quickly")
def test_an_interrupted_training_goes_on_with_the_same_state_and_keys(tmp_path):
    def stop(phase, done, total):
        if phase == "training" and done >= 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(mj.Interrupted) as stopped:
        mj.train(config(), task=FULL, chunk=10, checkpoint=tmp_path / "c.npz", progress=stop)
    assert stopped.value.done == 20
    assert stopped.value.result.params["adam"][1]["steps"].tolist() == [20] * 3
    same_bits(mj.train(config(), task=FULL, chunk=10, checkpoint=tmp_path / "c.npz"), mj.train(config(), task=FULL))


@pytest.mark.usefixtures("compiled_quickly")
def test_a_sweep_keeps_parameters_and_state_as_init_gives_them(tmp_path):
    space = {"learning_rate": [0.05, 0.1]}
    kept = mj.sweep(config(), space, task=FULL, keep_params=True, folder=tmp_path / "sweep")
    params, state = kept.params["adam"]
    assert (params["w"].shape, state["steps"].shape) == ((2, 3, 3), (2, 3))
    assert (state["steps"] == 30).all()
    whole = mj.train(config(loss_after=False), task=FULL)
    same_trees(jax.tree.map(lambda a: a[1], kept.params["adam"]), whole.params["adam"])


@pytest.mark.usefixtures("compiled_quickly")
def test_a_metric_gets_the_state_after_the_iteration_last():
    def steps(params, opt_state, grads, state):
        del params, opt_state, grads
        return state["steps"]

    result = mj.train(config(seeds=(0,)), task=FULL, metrics={"steps": steps})
    assert result.metrics["steps"]["momentum"][0].tolist() == list(range(1, 31))


@pytest.mark.usefixtures("compiled_quickly")
def test_a_method_that_evaluates_twice_sees_the_same_key_and_its_state_is_discarded():
    def twice(learning_rate):
        def update(updates, state, params=None, *, value, value_fn, **_):
            # Equal only if key, state and batch are those of the loss whose gradient is taken.
            return jax.tree.map(lambda g: -learning_rate * g, updates), state + jnp.abs(value_fn(params) - value)

        return optax.GradientTransformationExtraArgs(lambda params: jnp.zeros([]), update)

    cfg = config(optimizers={"twice": mj.OptimizerConfig(twice, learning_rate=0.1)})
    result = mj.train(cfg, task=FULL, metrics={"difference": lambda params, state, grads, model: state})
    assert result.metrics["difference"]["twice"].max() == 0
    assert result.evaluations["steps"]["twice"].tolist() == [[30]] * 3


@pytest.mark.exhaustive
def test_statistics_stay_float32_beside_bfloat16_parameters_and_become_float64_with_them():
    for dtype, of_state in (("bfloat16", "float32"), ("float64", "float64")):
        params, state = mj.train(config(dtype=dtype, iterations=3), task=FULL).params["momentum"]
        assert (str(params["w"].dtype), str(state["mean"].dtype)) == (dtype, of_state)


class Network(nn.Module):
    """One that needs a state and a key."""

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(nn.BatchNorm(use_running_average=False)(x))


def with_network(**options):
    """A task whose loss applies the network without all that it needs."""
    return mj.Task(
        init=lambda key: Network().init({"params": key, "dropout": key}, ROWS[:2]),
        loss=lambda variables, batch: jnp.mean(Network().apply(variables, batch, **options)),
        train=ROWS,
    )


def refusals():
    def without(**changes):
        return dataclasses.replace(FULL, **changes)

    def grows(params, state, batch, key):
        value, state = loss(params, state, batch, key)
        return value, state | {"more": value}

    def widens(params, state, batch, key):
        value, state = loss(params, state, batch, key)
        return value, state | {"mean": state["mean"][:2]}

    return {
        "no state": (without(has_state=False), "keep the rest in the data, or in a state (has_state=True)"),
        "no key": (without(has_key=False), "the task's loss fails as a function of (params, state, batch)"),
        "no pair": (without(init=lambda key: init(key)[0]), "must give (params, state), not PyTreeDef"),
        "no new state": (without(loss=lambda p, s, b, k: loss(p, s, b, k)[0]), "must give (scalar, state)"),
        "structure": (without(loss=grows), "the task's loss must give a state of the same structure"),
        "shape": (without(loss=widens), "must keep state['mean'] of shape (3,) and dtype float32, not make it (2,)"),
        "no evaluation": (without(evaluate=None), "a task with has_state needs an evaluate of its own"),
        "augment": (without(augment=lambda key, batch: batch[:3]), "the task's augment must keep batch"),
        "augment fails": (
            without(augment=lambda batch: batch),
            "the task's augment fails as a function of (key, batch)",
        ),
        "no stream": (with_network(mutable=["batch_stats"]), "With has_key=True the loss gets a key: pass it as rngs"),
        "no collection": (
            with_network(rngs={"dropout": jax.random.key(0)}),
            'collection "batch_stats" is immutable. (https',
        ),
        "no function": (without(augment=3), "the task's augment must be a function of (key, batch), not 3"),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_does_not_fit_what_is_declared_is_refused_in_one_line_before_anything_compiles(name):
    task, message = refusals()[name]

    def attempt():
        with pytest.raises(InputError) as error:
            mj.train(config(), task=task)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    assert compilations(attempt) == 0

"""The benchmark's peers do the work of the tutorial's NumPy loop, and the plain script that of `momentum-jax`."""

import math
import sys

import command_costs
import jax
import jax.extend.core
import numpy as np
import peers
import plain_script
import pytest
from numpy_tutorial import MiniSGD, Momentum, gradient, loss

import momentum_jax as mj
from momentum_jax.tasks import image_classification
from tests.compiling import jit


def numpy_losses(params, batches, optimizers=None):
    """The tutorial's work in float64, losses [before and after, optimizers, iterations]: the oracle of all peers."""
    x, labels = peers.mnist()
    optimizers = optimizers or [MiniSGD(peers.LEARNING_RATE), Momentum(peers.LEARNING_RATE, peers.MOMENTUM)]
    losses = np.zeros([2, len(optimizers), len(batches)])
    for i, optimizer in enumerate(optimizers):
        network = {key: value.astype(np.float64) for key, value in params.items()}
        for iteration, rows in enumerate(batches):
            losses[0, i, iteration] = loss(network, x[rows], labels[rows])
            optimizer.update(network, gradient(network, x[rows], labels[rows]))
            losses[1, i, iteration] = loss(network, x[rows], labels[rows])
    return losses


@pytest.fixture(scope="module")
def tutorial():
    """Weights, some batches, and the losses that are right."""
    params = peers.initial_params(0)
    batches = np.random.default_rng(0).integers(0, 60_000, [20, peers.BATCH])
    return params, batches, numpy_losses(params, batches)


@pytest.mark.parametrize("peer", [peers.numpy_loop, peers.flax_loop])
def test_a_peer_does_the_work_of_the_numpy_loop(peer, tutorial):
    params, batches, expected = tutorial
    # The NumPy loop itself has no losses before the updates. In float32 a ReLU may fall on the other side of zero.
    losses = peer(params)(batches)
    np.testing.assert_allclose(losses, expected[-len(losses) :], rtol=1e-4)


def drawn(key, iterations):
    """The weights and batches that PureJaxRL's way draws from a key."""
    key, init_key = jax.random.split(key)
    layers = mj.MLP().init(init_key, np.zeros([1, 784], np.float32))["params"]
    params = {}
    for i in range(len(layers)):
        params[f"W{i}"], params[f"b{i}"] = (np.asarray(layers[f"Dense_{i}"][part]) for part in ("kernel", "bias"))
    batches = []
    for _ in range(iterations):
        key, batch_key = jax.random.split(key)
        batches.append(np.asarray(jax.random.randint(batch_key, [peers.BATCH], 0, 60_000)))
    return params, batches


@pytest.mark.exhaustive
def test_a_seed_of_purejaxrls_way_does_the_work_of_the_numpy_loop():
    _, momentum = peers.flax_optimizers()
    x, labels = peers.mnist()
    keys = jax.random.split(jax.random.key(3), 2)
    train = peers.make_train(momentum, iterations=10)
    _, losses = jit(jax.vmap(train, in_axes=(0, None, None)))(keys, x, labels)
    for key, of_seed in zip(keys, losses, strict=True):
        params, batches = drawn(key, 10)
        # In float32 a ReLU may fall on the other side of zero.
        np.testing.assert_allclose(of_seed.T, numpy_losses(params, batches)[:, 1], rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("one_key", [False, True])
def test_a_trial_of_the_sweep_by_vmap_does_the_work_of_the_numpy_loop(one_key):
    trials = np.array([[0.003, 0.0], [0.03, 0.9]], np.float32)
    keys = jax.random.split(jax.random.key(3), 2)
    given, of_trials = (keys[0], [keys[0]] * 2) if one_key else (keys, keys)
    _, losses = jit(peers.vmap_sweep(10, one_key=one_key))(*trials.T, given, *peers.mnist())
    assert losses.shape == (2, 10, 1)
    for key, trial, of_trial in zip(of_trials, trials.astype(float), losses, strict=True):
        expected = numpy_losses(*drawn(key, 10), [Momentum(*trial)])
        # In float32 a ReLU may fall on the other side of zero.
        np.testing.assert_allclose(of_trial[:, 0], expected[0, 0], rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_the_plain_script_does_the_work_of_the_command(mnist):
    cfg = mj.Config(iterations=20, dtype="float64")
    result = mj.train(cfg)
    rows = mj.batch_indices(cfg, 0)
    x, labels = mnist.x_train[rows].reshape(-1, 784) / 255, mnist.y_train[rows].reshape(-1)
    batches = np.arange(len(labels)).reshape(20, plain_script.BATCH)
    assert list(plain_script.OPTIMIZERS) == list(cfg.optimizers)
    with jax.enable_x64(True):
        for label, optimizer in plain_script.OPTIMIZERS.items():
            params = mj.initial_params(cfg, 0, label)
            trained, losses = plain_script.train(optimizer, params, batches, x, labels)
            tested = plain_script.evaluate(trained, mnist.x_test / 255, mnist.y_test)
            # float64 on both sides; rounding stays far below 1e-9.
            np.testing.assert_allclose(losses[:, 0], result.losses_before[label][0], rtol=1e-9)
            np.testing.assert_allclose(losses[:, 1], result.losses[label][0], rtol=1e-9)
            np.testing.assert_allclose(tested[0], result.evaluations["test_loss"][label][0, -1], rtol=1e-9)
            # This is a float32, which has 24 bits.
            np.testing.assert_allclose(tested[1], result.test_accuracy[label][0], rtol=2**-23)


def test_the_plain_script_writes_its_losses_and_their_figure(idx, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plain_script.py", str(idx), str(tmp_path), "--iterations", "12"])
    plain_script.main()
    assert {path.name for path in tmp_path.iterdir()} == {"losses.npy", "losses.png", "losses.svg"}
    losses = np.load(tmp_path / "losses.npy")
    assert losses.shape == (3, 12, 2)
    # Written by hand and as optax.sgd, momentum is the same.
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-4)
    assert not np.allclose(losses[0, -1], losses[1, -1], rtol=1e-3)
    printed = capsys.readouterr().out
    assert f"       11  {losses[0, 11, 1]:8.4f}" in printed
    assert "momentum: training loss " in printed


def test_the_plain_script_reads_the_images_that_the_command_has(mnist, tmp_path):
    folder = command_costs.write_idx(tmp_path / "data")
    for array, expected in zip(plain_script.load(folder, "train"), peers.mnist(), strict=True):
        np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(plain_script.load(folder, "t10k")[1], mnist.y_test)


def flops_of(jaxpr):
    """The operations of all dense matrix products in a traced function."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        total += sum(map(flops_of, jax.extend.core.jaxprs_in_params(equation.params)))
    return total


def test_the_work_that_peaks_are_compared_with_is_that_of_the_steps_matrix_products(mnist):
    cfg = mj.Config()
    task = image_classification(mnist)
    params = mj.initial_params(cfg, 0, "sgd")
    batch = (mnist.x_train[: cfg.batch_size], mnist.y_train[: cfg.batch_size])

    def step(params):
        return jax.value_and_grad(task.loss)(params, batch), task.loss(params, batch)

    assert flops_of(jax.make_jaxpr(step)(params).jaxpr) == peers.flops_per_step()
    without = jax.make_jaxpr(lambda params: jax.grad(task.loss)(params, batch))(params)
    assert flops_of(without.jaxpr) == peers.flops_per_step(loss_after=False)

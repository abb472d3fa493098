"""The benchmark's peers do the work of the tutorial's NumPy loop."""

import math

import jax
import jax.extend.core
import numpy as np
import peers
import pytest
from numpy_tutorial import MiniSGD, Momentum, gradient, loss

import momentum_jax as mj
from momentum_jax.tasks import image_classification
from tests.compiling import jit


def numpy_losses(params, batches):
    """The tutorial's work in float64, losses [before and after, optimizers, iterations]: the oracle of all peers."""
    x, labels = peers.mnist()
    losses = np.zeros([2, 2, len(batches)])
    for i, optimizer in enumerate([MiniSGD(peers.LEARNING_RATE), Momentum(peers.LEARNING_RATE, peers.MOMENTUM)]):
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

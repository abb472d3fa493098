"""`train` against the tutorial's loop in NumPy, Optax, and a replay outside."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy_tutorial import MiniSGD, Momentum
from numpy_tutorial import train as train_in_numpy

import momentum_jax as mj
from tests.training.small import PAIR, small

TUTORIAL = mj.Config().optimizers
OPTAX_AND_MOMENTUM = {"optax": TUTORIAL["optax"], "momentum": TUTORIAL["momentum"]}


@pytest.mark.exhaustive
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_losses_and_weights_are_those_of_the_tutorials_loop_in_numpy(mnist, l2):
    optimizers = {"sgd": TUTORIAL["sgd"], "momentum": TUTORIAL["momentum"]}
    cfg = mj.Config(iterations=100, dtype="float64", seeds=(3,), l2=l2, optimizers=optimizers)
    result = mj.train(cfg)
    layers = mj.initial_params(cfg, 3, "momentum")["params"]
    params = {}
    for i in range(5):
        params[f"W{i}"] = np.asarray(layers[f"Dense_{i}"]["kernel"])
        params[f"b{i}"] = np.asarray(layers[f"Dense_{i}"]["bias"])
    networks, losses = train_in_numpy(
        params, mnist.x_train / 255, mnist.y_train, mj.batch_indices(cfg, 3), [MiniSGD(), Momentum()], l2
    )
    for label, network, expected in zip(("sgd", "momentum"), networks, losses, strict=True):
        # float64 on both sides: sums of up to 784 products, 100 steps. No ReLU flips at this distance.
        np.testing.assert_allclose(result.losses[label][0], expected, rtol=1e-9)
        for i in range(5):
            layer = result.params[label]["params"][f"Dense_{i}"]
            np.testing.assert_allclose(layer["kernel"][0], network[f"W{i}"], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(layer["bias"][0], network[f"b{i}"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "cfg", [small(iterations=100), pytest.param(mj.Config(), marks=pytest.mark.exhaustive)], ids=["small", "tutorial"]
)
def test_in_float64_momentum_is_optax_over_the_whole_training(cfg):
    result = mj.train(dataclasses.replace(cfg, dtype="float64", optimizers=OPTAX_AND_MOMENTUM))
    for history in (result.losses, result.losses_before):
        np.testing.assert_allclose(history["momentum"], history["optax"], rtol=1e-12)


@pytest.mark.exhaustive
def test_in_float32_momentum_is_optax_until_rounding_flips_a_relu():
    result = mj.train(mj.Config(iterations=200, seeds=4, optimizers=OPTAX_AND_MOMENTUM))
    # The earliest flip seen over many seeds is at iteration 9; float32 rounds at 6e-8.
    np.testing.assert_allclose(result.losses["momentum"][:, :8], result.losses["optax"][:, :8], rtol=1e-6)
    # From there they are two roundings of one run: near each other, not equal.
    np.testing.assert_allclose(result.train_loss["momentum"], result.train_loss["optax"], atol=0.02)


@pytest.mark.exhaustive
def test_a_run_can_be_replayed_outside_from_its_batches_and_initial_weights(mnist):
    cfg = small(dtype="float64", dataset="mnist", seeds=(5,), l2=0.01, optimizers={"momentum": PAIR["momentum"]})
    result = mj.train(cfg)
    mlp = mj.MLP(hidden_sizes=(10,))
    optimizer = optax.sgd(0.1, 0.9)

    @jax.jit
    def loss(params, x, y):
        weights = [layer["kernel"] for layer in params["params"].values()]
        data_loss = optax.softmax_cross_entropy_with_integer_labels(mlp.apply(params, x / 255), y).mean()
        return data_loss + 0.5 * 0.01 * sum(jnp.sum(w**2) for w in weights)

    with jax.enable_x64(True):
        params = mj.initial_params(cfg, 5, "momentum")
        state = optimizer.init(params)
        for iteration, rows in enumerate(mj.batch_indices(cfg, 5)):
            x, y = mnist.x_train[rows].astype(np.float64), mnist.y_train[rows]
            before, grads = jax.value_and_grad(loss)(params, x, y)
            updates, state = optimizer.update(grads, state)
            params = optax.apply_updates(params, updates)
            np.testing.assert_allclose(result.losses_before["momentum"][0, iteration], before, rtol=1e-12)
            np.testing.assert_allclose(result.losses["momentum"][0, iteration], loss(params, x, y), rtol=1e-12)

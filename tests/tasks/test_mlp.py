"""The network and its task against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.tasks import image_classification, mean_over_examples
from tests.compiling import jit

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_network_is_affine_layers_with_the_activation_between(activation, rng):
    mlp = mj.MLP(hidden_sizes=(7, 5), num_classes=3, activation=activation)
    x = rng.normal(size=(4, 6)).astype(np.float32)
    params = mlp.init(jax.random.key(0), x)
    expected = x.astype(np.float64)
    for i in range(3):
        layer = params["params"][f"Dense_{i}"]
        expected = expected @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
        expected = ACTIVATIONS[activation](expected) if i < 2 else expected
    # float32 against float64: sums of at most 7 products.
    np.testing.assert_allclose(mlp.apply(params, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    ("activation", "hidden_sizes"),
    [
        ("sigmoid", (8,)),
        ("relu", ()),
        # Other tests train the default activation.
        pytest.param("relu", (8,), marks=pytest.mark.exhaustive),
        pytest.param("tanh", (8,), marks=pytest.mark.exhaustive),
        pytest.param("sigmoid", (), marks=pytest.mark.exhaustive),
        pytest.param("tanh", (), marks=pytest.mark.exhaustive),
    ],
)
def test_every_activation_and_no_hidden_layer_at_all_can_be_trained(activation, hidden_sizes, idx):
    cfg = mj.Config(
        dataset=str(idx),
        hidden_sizes=hidden_sizes,
        activation=activation,
        iterations=60,
        optimizers={"it": mj.OptimizerConfig("momentum", learning_rate=0.05)},
    )
    losses = mj.train(cfg).losses_before["it"][0]
    assert losses[-5:].mean() < 0.9 * losses[0]


def test_the_penalty_is_half_lambda_times_the_squared_weights_without_the_biases(mnist):
    plain, penalised = (image_classification(mnist, hidden_sizes=(5,), l2=l2) for l2 in (0.0, 0.5))
    params = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.25), jit(plain.init)(jax.random.key(0)))
    batch = (mnist.x_train[:9], mnist.y_train[:9])
    squares = sum(np.sum(layer["kernel"] ** 2) for layer in params["params"].values())
    difference = jit(lambda p, b: penalised.loss(p, b) - plain.loss(p, b))(params, batch)
    np.testing.assert_allclose(difference, 0.5 * 0.5 * squares, rtol=1e-5)


def test_the_baseline_is_the_entropy_of_the_labels(mnist):
    task = image_classification(mnist, hidden_sizes=(5,))
    p = np.bincount(mnist.y_train) / 60_000
    # A network whose output is constant can do no better than the frequencies of the classes.
    np.testing.assert_allclose(task.baseline_loss, -np.sum(p * np.log(p)), rtol=1e-12)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    constant = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), shapes)
    constant["params"]["Dense_1"]["bias"] = jnp.asarray(np.log(p), jnp.float32)
    evaluated = jit(task.evaluate)(constant, task.train, task.test)
    np.testing.assert_allclose(evaluated["train_loss"], task.baseline_loss, rtol=1e-6)


@pytest.mark.parametrize("examples", [1, 4, 5, 8, 11])
def test_a_mean_in_slices_is_the_mean_whatever_is_left_over(examples, rng):
    data = rng.normal(size=(examples, 3)).astype(np.float32)
    mean = jit(lambda rows: mean_over_examples(lambda part: {"m": part.mean(axis=0)}, rows, slice_size=4))(data)["m"]
    np.testing.assert_allclose(mean, data.astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-7)

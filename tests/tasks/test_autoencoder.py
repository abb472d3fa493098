"""The autoencoder and its task against NumPy in float64, differentiated by complex steps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.tasks import Autoencoder
from momentum_jax.tasks.autoencoder import autoencoder, sparse_init
from tests.compiling import jit


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def reconstruct(layers, images, code):
    """The pixels in (0, 1): sigmoid after each layer but that of the code."""
    x = images
    for i, layer in enumerate(layers):
        x = x @ layer["kernel"] + layer["bias"]
        x = x if i == code else sigmoid(x)
    return x


def cross_entropy(layers, images, code):
    y = reconstruct(layers, images, code)
    return -np.sum(images * np.log(y) + (1 - images) * np.log(1 - y), axis=-1).mean()


def drawn(task, seed=0):
    """Parameters in float64, all of them nonzero."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) / np.sqrt(leaf.shape[0]), shapes)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("hidden_sizes", [(7,), (9, 6)])
def test_loss_and_gradients_are_those_of_the_formula(hidden_sizes, idx):
    dataset = mj.load_dataset(str(idx))
    task = autoencoder(dataset, hidden_sizes=hidden_sizes, code=3)
    params, pixels = drawn(task), dataset.x_train[:10]
    value, gradients = jit(jax.value_and_grad(task.loss))(params, pixels)
    names = [f"Dense_{i}" for i in range(2 * len(hidden_sizes) + 2)]
    layers, code = [params["params"][name] for name in names], len(hidden_sizes)
    # float64 on both sides; the logarithm of a rounded 1 − σ(z) loses some digits of 16.
    np.testing.assert_allclose(value, cross_entropy(layers, pixels / 255, code), rtol=1e-9)
    # A complex step h·i gives the derivative along each direction as an imaginary part, without a difference.
    rng, h = np.random.default_rng(1), 1e-30
    for name in names:
        for part in ("kernel", "bias"):
            direction = rng.normal(size=params["params"][name][part].shape)
            stepped = [{**layer} for layer in layers]
            stepped[names.index(name)][part] = layers[names.index(name)][part] + h * 1j * direction
            expected = cross_entropy(stepped, pixels / 255, code).imag / h
            own = np.sum(np.asarray(gradients["params"][name][part]) * direction)
            np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_the_evaluation_has_the_losses_and_the_squared_errors_of_an_image(idx):
    dataset = mj.load_dataset(str(idx))
    task = autoencoder(dataset, hidden_sizes=(7,), code=3)
    params = drawn(task)
    evaluated = jit(task.evaluate)(params, task.train, task.test)
    layers = [params["params"][f"Dense_{i}"] for i in range(4)]
    expected = {}
    for part, pixels in (("train", dataset.x_train), ("test", dataset.x_test)):
        images = pixels / 255
        expected[f"{part}_loss"] = cross_entropy(layers, images, 1)
        expected[f"{part}_squared_error"] = np.sum((images - reconstruct(layers, images, 1)) ** 2, axis=-1).mean()
    assert evaluated.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(evaluated[name], value, rtol=1e-9)


@pytest.mark.parametrize(("inputs", "connections", "nonzero"), [(784, 15, 15), (40, 3, 3), (8, 15, 8)])
def test_each_unit_begins_with_exactly_so_many_inputs(inputs, connections, nonzero):
    kernel = np.asarray(jit(sparse_init(connections), static_argnums=1)(jax.random.key(0), (inputs, 500)))
    np.testing.assert_array_equal((kernel != 0).sum(axis=0), np.full(500, nonzero))


def test_the_nonzero_weights_are_standard_normal_and_anywhere():
    kernel = np.asarray(jit(sparse_init(15), static_argnums=1)(jax.random.key(0), (50, 1000)))
    # With this seed; a right distribution gives a p-value below 0.001 once in a thousand seeds.
    assert scipy.stats.kstest(kernel[kernel != 0], "norm").pvalue > 1e-3
    # Which inputs a unit has: each equally often. The counts of 15 of 50 without replacement vary less than independent
    # ones, by the factor 49/50 · (1 − 15/50).
    counts = (kernel != 0).sum(axis=1)
    statistic = np.sum((counts - 300) ** 2) / (1000 * 0.3 * 0.7)
    assert 20 < statistic * 49 / 50 < 90
    # And each unit has its own.
    assert len(np.unique(kernel != 0, axis=1).T) == 1000


def test_biases_begin_at_zero_and_the_layers_mirror_each_other(mnist):
    task = autoencoder(mnist, hidden_sizes=(20, 16), code=4)
    params = jit(task.init)(jax.random.key(0))["params"]
    widths = [784, 20, 16, 4, 16, 20, 784]
    assert [layer["kernel"].shape for layer in params.values()] == list(itertools.pairwise(widths))
    for layer in params.values():
        np.testing.assert_array_equal(layer["bias"], np.zeros(layer["bias"].shape))
        assert set((np.asarray(layer["kernel"]) != 0).sum(axis=0)) == {min(15, layer["kernel"].shape[0])}


def test_the_network_of_the_papers_is_an_argument(mnist):
    shapes = jax.eval_shape(autoencoder(mnist, hidden_sizes=(1000, 500, 250)).init, jax.random.key(0))["params"]
    assert [layer["kernel"].shape[1] for layer in shapes.values()] == [1000, 500, 250, 30, 250, 500, 1000, 784]


def test_the_baseline_is_the_loss_of_each_pixels_mean(idx):
    dataset = mj.load_dataset(str(idx))
    task = autoencoder(dataset, hidden_sizes=(4,), code=2)
    means = dataset.x_train.mean(axis=0) / 255
    # A network whose output is constant: the biases of the last layer are the logits of the means.
    constant = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), jax.eval_shape(task.init, jax.random.key(0)))
    constant["params"]["Dense_3"]["bias"] = np.asarray(np.log(means / (1 - means)), np.float32)
    # float32: a mean over 300 sums of 25 terms.
    np.testing.assert_allclose(jit(task.loss)(constant, task.train), task.baseline_loss, rtol=1e-6)


def test_pixels_that_never_change_are_no_trouble_for_the_baseline(mnist):
    # The edges of MNIST are black in every training image. The entropy of the rest is known to be about 206 nats.
    assert 200 < autoencoder(mnist).baseline_loss < 212


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_losses_have_at_least_float32_and_gradients_the_dtype_of_the_parameters(dtype, idx):
    task = autoencoder(mj.load_dataset(str(idx)), hidden_sizes=(7,), code=3)
    with jax.enable_x64(dtype == "float64"):
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), shapes)
        value, gradients = jax.eval_shape(jax.value_and_grad(task.loss), params, task.train[:4])
        assert value.dtype == ("float64" if dtype == "float64" else "float32")
        assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hidden_sizes": ()}, "hidden_sizes must hold at least one number"),
        ({"hidden_sizes": (4, 0)}, "hidden_sizes must be an integer of at least 1, not 0"),
        ({"code": 0}, "code must be an integer of at least 1, not 0"),
        ({"connections": 0}, "connections must be an integer of at least 1, not 0"),
    ],
)
def test_what_makes_no_network_is_refused(options, said, mnist):
    with pytest.raises(InputError) as error:
        autoencoder(mnist, **options)
    assert said in str(error.value)


def test_the_code_is_linear():
    network = Autoencoder(features=2, hidden_sizes=(2,), code=1)
    params = jax.tree.map(jnp.zeros_like, network.init(jax.random.key(0), jnp.zeros([1, 2])))
    # A code of 30: a sigmoid would have made it 1.
    params["params"]["Dense_1"]["bias"] = jnp.array([30.0])
    params["params"]["Dense_2"]["kernel"] = jnp.array([[-0.1, 0.1]])
    params["params"]["Dense_3"]["kernel"] = jnp.eye(2)
    np.testing.assert_allclose(network.apply(params, jnp.zeros([1, 2])), sigmoid(np.array([[-3.0, 3.0]])), rtol=1e-5)

"""Curvatures of mini-batches and examples against dense Hessians of a small network, in float64 NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.analysis import curvature, noise, sharpness
from tests.analysis.test_sharpness import cross_entropy, network
from tests.compiling import jit

pytestmark = pytest.mark.usefixtures("float64")
KEY = jax.random.key(0)


def first(data, examples):
    return jax.tree.map(lambda leaf: leaf[:examples], data)


@pytest.fixture
def small(rng):
    """A network, and the gradient and Hessian of any batch of its six examples, as arrays of all parameters."""
    params, data = network(rng)
    data = first(data, 6)
    flat, tree = jax.flatten_util.ravel_pytree(params)

    @jit
    def derivatives(rows):
        batch = jax.tree.map(lambda leaf: leaf[rows], data)
        loss = lambda p: cross_entropy(tree(p), batch)  # noqa: E731
        return jax.grad(loss)(flat), jax.hessian(loss)(flat)

    return params, data, derivatives


def test_the_batch_sharpness_is_the_mean_of_the_batches_own_ratios(small):
    params, data, derivatives = small
    ratios = []
    for rows in itertools.combinations(range(6), 2):
        g, hessian = map(np.asarray, derivatives(np.array(rows)))
        ratios.append(g @ hessian @ g / (g @ g))
    found = jit(lambda params: curvature.batch_sharpness(cross_entropy, params, data, KEY, batch_size=2, batches=3000))(
        params
    )
    # Four standard errors of 3,000 draws from the fifteen batches.
    assert abs(found.mean - np.mean(ratios)) < 4 * np.std(ratios) / np.sqrt(3000)
    np.testing.assert_allclose(found.variance, np.var(ratios), rtol=0.2)


def test_the_mean_of_the_ratios_is_not_the_ratio_of_the_means_and_a_zero_gradient_has_no_part():
    """The oracle is the closed form: example i is a parabola of curvature rows[i] around 0, 9 or, with no slope, 1."""
    rows, centres = jnp.array([1.0, 4.0, 2.0]), jnp.array([0.0, 9.0, 1.0])

    def loss(w, data):
        return jnp.mean(data[0] * (w - data[1]) ** 2) / 2

    found = curvature.batch_sharpness(loss, jnp.array(1.0), (rows, centres), KEY, batch_size=1, batches=400)
    # Curvatures 1 and 4 equally often; weighted by the squares of the gradients, 1 and 32², it would be 4.
    assert abs(found.mean - 2.5) < 4 * 1.5 / np.sqrt(200)
    alone = curvature.batch_sharpness(loss, jnp.array(1.0), (rows[2:], centres[2:]), KEY, batch_size=1, batches=2)
    assert np.isnan(alone.mean)


def test_the_batch_sharpness_of_the_full_batch_is_the_curvature_along_its_gradient(small):
    params, data, derivatives = small
    g, hessian = map(np.asarray, derivatives(np.arange(6)))
    found = jit(lambda params: curvature.batch_sharpness(cross_entropy, params, data, KEY, batch_size=6, batches=2))(
        params
    )
    np.testing.assert_allclose(found.mean, g @ hessian @ g / (g @ g), rtol=1e-12)
    # The order of the sums differs from batch to batch.
    assert found.variance < 1e-20


def test_the_curvature_of_each_example_is_that_of_its_dense_hessian(small):
    params, data, derivatives = small
    direction = np.random.default_rng(1).normal(size=40)
    tree = jax.flatten_util.ravel_pytree(params)[1]
    found = jit(lambda u: curvature.directional_curvatures(cross_entropy, params, data, u, slice_size=4))(
        tree(direction)
    )
    expected = [direction @ np.asarray(derivatives(np.array([i]))[1]) @ direction for i in range(6)]
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_predicted_rates_are_the_limits_of_the_measured_mean_and_variance(small):
    params, data, derivatives = small
    vector = np.linalg.eigh(derivatives(np.arange(6))[1])[1][:, -1]
    curvatures = np.array([vector @ np.asarray(derivatives(np.array([i]))[1]) @ vector for i in range(6)])
    predicted = jit(
        lambda params: curvature.predict_rates(cross_entropy, params, data, [1, 4, 64], 0.9, KEY, slice_size=4)
    )(params)
    # 20 iterations of Lanczos leave an error in the vector, whose square enters the mean and itself the variance.
    np.testing.assert_allclose(predicted.curvature, curvatures.mean(), rtol=1e-6)
    np.testing.assert_allclose(predicted.example_variance, curvatures.var(), rtol=1e-3)
    of_batch = predicted.example_variance / np.array([1.0, 4.0, 64.0])
    for found, limit, beta in (
        (predicted.gradient_descent, noise.heavy_ball_mean_square_limit, 0.0),
        (predicted.heavy_ball, noise.heavy_ball_mean_square_limit, 0.9),
        (predicted.nesterov, noise.nesterov_mean_square_limit, 0.9),
    ):
        np.testing.assert_allclose(found, limit(beta, predicted.curvature, of_batch), rtol=1e-12)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_training_records_the_batch_sharpness_along_the_way():
    """The oracle is the closed form: rows·w²/2 has the curvature of the batch's mean row wherever w is."""
    rows = np.array([1.0, 3.0], np.float32)
    task = mj.Task(lambda key: jnp.float32(1), lambda w, rows: jnp.mean(rows) * w**2 / 2, rows)
    metric = sharpness.metric(
        lambda w: jnp.stack(curvature.batch_sharpness(task.loss, w, rows, KEY, batch_size=2, batches=2)), every=2
    )
    cfg = mj.Config(iterations=3, batch_size=2, optimizers={"a": mj.OptimizerConfig("sgd", learning_rate=0.1)})
    found = mj.train(cfg, task=task, metrics={"curvature": metric}).metrics["curvature"]["a"][0]
    np.testing.assert_allclose(found, [[2, 0], [np.nan, np.nan], [2, 0]], atol=1e-6)


def test_memory_is_that_of_a_batch_or_a_slice():
    def loss(params, x):
        return jnp.mean(jnp.tanh(jnp.tanh(x @ params) @ params))

    def temporary(measure, examples):
        shapes = jax.ShapeDtypeStruct((20, 20), np.float32), jax.ShapeDtypeStruct((examples, 20), np.float32)
        return jit(measure).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    def of_batches(params, x):
        return curvature.batch_sharpness(loss, params, x, KEY, batch_size=50).mean

    def of_examples(params, x):
        return curvature.directional_curvatures(loss, params, x, params, slice_size=50)

    # The order of the examples takes some numbers each; the activations would take a hundred.
    assert temporary(of_batches, 10_000) < temporary(of_batches, 100) + 10_000 * 8 * 4
    # At most a copy of the data.
    assert temporary(of_examples, 10_000) < temporary(of_examples, 100) + 10_000 * 20 * 4 * 1.2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1 and at most 3, not 0"),
        ({"batch_size": 4}, "batch_size must be an integer of at least 1 and at most 3, not 4"),
        ({"batch_size": 1, "batches": 0}, "batches must be an integer of at least 1, not 0"),
    ],
)
def test_sizes_out_of_range_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        curvature.batch_sharpness(cross_entropy, 1.0, jnp.ones(3), KEY, **wrong)


@pytest.mark.parametrize(
    ("sizes", "momentum", "words"),
    [
        ([], 0.9, "batch_sizes must hold at least one batch size"),
        (np.array([], int), 0.9, "batch_sizes must hold at least one batch size"),
        ([4, 0], 0.9, "batch_sizes must be an integer of at least 1, not 0"),
        ([4], 1.5, r"momentum must be in \[0, 1\), not 1.5"),
    ],
)
def test_predictions_need_batch_sizes_and_a_momentum_in_range(sizes, momentum, words):
    with pytest.raises(InputError, match=words):
        curvature.predict_rates(cross_entropy, 1.0, jnp.ones(3), sizes, momentum, KEY)


def test_on_a_saddle_there_is_no_rate_to_predict():
    predicted = curvature.predict_rates(
        lambda w, rows: -jnp.mean(rows) * w**2, jnp.ones([]), jnp.ones(3), np.array([4]), 0.9, KEY
    )
    assert predicted.curvature == -2
    assert np.isnan([predicted.heavy_ball, predicted.nesterov, predicted.gradient_descent]).all()

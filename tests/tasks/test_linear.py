"""Convex tasks against NumPy, SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets import Dataset
from momentum_jax.tasks.linear import least_squares, logistic
from tests.compiling import jit


def images_of(height, width, *channels, count=12):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, height, width, *channels), dtype=np.uint8)
    y = np.arange(count, dtype=np.int32) % 3
    return Dataset.from_images((x, y), (x[:6], y[:6]), num_classes=3, source="drawn")


@pytest.mark.parametrize("options", [{}, {"dimensions": 5, "mu": 0.5, "L": 300.0, "noise": 0.7, "seed": 3}])
def test_the_hessian_has_exactly_the_curvatures_and_the_minimum_is_known(options):
    settings = {"examples": 512, "dimensions": 16, "mu": 0.01, "L": 1.0, "noise": 0.0, **options}
    x, y = least_squares(**options).train
    hessian = x.T @ x / len(x)
    values, vectors = np.linalg.eigh(hessian)
    expected = settings["mu"] * (settings["L"] / settings["mu"]) ** (np.arange(len(values)) / (len(values) - 1))
    assert x.shape == (settings["examples"], settings["dimensions"])
    # Orthonormal columns are so up to some roundings of 1e-16, relative to the largest curvature.
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10 * settings["L"])
    minimum = np.linalg.lstsq(x, y)[0]
    # 1 along each eigenvector, whichever way that points.
    np.testing.assert_allclose(np.abs(vectors.T @ minimum), np.ones(len(values)), rtol=1e-9)
    residuals = x @ minimum - y
    np.testing.assert_allclose(residuals @ residuals / len(y) / 2, settings["noise"] ** 2 / 2, rtol=1e-9, atol=1e-20)


def test_curvatures_follow_a_power_law_where_that_is_asked_for():
    x, _ = least_squares(dimensions=8, mu=0.125, L=2.0, spectrum="power").train
    # 16 from the largest to the least over 8 places: the exponent is ln 16 / ln 8 = 4/3.
    expected = 2.0 * np.arange(8, 0, -1) ** (-4 / 3)
    np.testing.assert_allclose(np.linalg.eigvalsh(x.T @ x / len(x)), expected, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_gradient_descent_has_the_closed_form(noise):
    rate, steps, examples = 0.8, 50, 40
    curvatures = np.geomspace(0.1, 2.0, 6)
    task = mj.make_task("least_squares", examples=examples, dimensions=6, mu=0.1, L=2.0, noise=noise)
    cfg = mj.Config(
        iterations=steps,
        batch_size=examples,
        sampling="epochs",
        dtype="float64",
        optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=rate)},
    )
    result = mj.train(cfg, task=task)
    t = np.arange(steps + 1)[:, None]
    expected = (curvatures * (1 - rate * curvatures) ** (2 * t)).sum(axis=1) / 2 + noise**2 / 2
    # Roundings of 1e-16 of losses that begin at 2 and fall to 1e-5.
    np.testing.assert_allclose(result.losses_before["sgd"][0], expected[:-1], rtol=1e-9)
    np.testing.assert_allclose(result.train_loss["sgd"], expected[-1:], rtol=1e-9)
    x, y = task.train
    # |vᵢ·(w − w*)| = |1 − ηλᵢ|ᵗ, and w* is that of NumPy.
    _, vectors = np.linalg.eigh(x.T @ x)
    off = np.abs(vectors.T @ (result.params["sgd"][0] - np.linalg.lstsq(x, y)[0]))
    np.testing.assert_allclose(off, np.abs(1 - rate * curvatures) ** steps, rtol=1e-6, atol=1e-14)
    assert not result.failed["sgd"].any()


def test_the_baseline_of_least_squares_is_the_loss_at_the_start():
    task = least_squares(noise=0.5)
    params = jit(task.init)(jax.random.key(0))
    # float32: sums over 512 examples.
    np.testing.assert_allclose(jit(task.loss)(params, task.train), task.baseline_loss, rtol=1e-5)


def test_another_seed_is_another_problem_with_the_same_spectrum():
    (x, _), (other, _) = (least_squares(seed=seed).train for seed in (0, 1))
    assert np.abs(x - other).max() > 0.1
    np.testing.assert_allclose(np.linalg.svd(x)[1], np.linalg.svd(other)[1], rtol=1e-9)
    np.testing.assert_array_equal(x, least_squares().train[0])


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        # MNIST: blocks of 3×3 without a border of 2.
        ((28, 28), (2, 3), (2, 3)),
        ((8, 8), (0, 1), (0, 1)),
        # 11 leaves 3 over: one row above, two below. 16 leaves nothing.
        ((11, 16), (1, 1), (0, 2)),
        ((32, 32, 3), (0, 4), (0, 4)),
    ],
)
def test_images_become_the_means_of_blocks(shape, rows, columns):
    dataset = images_of(*shape)
    images = dataset.x_train.reshape(-1, *shape).astype(np.float64)
    (top, high), (left, wide) = rows, columns
    expected = np.stack(
        [
            images[:, top + i * high : top + (i + 1) * high, left + j * wide : left + (j + 1) * wide].mean(axis=(1, 2))
            for i in range(8)
            for j in range(8)
        ],
        axis=1,
    )
    x, y = logistic(dataset).train
    # float32 of sums of at most 16 bytes, which are exact.
    np.testing.assert_allclose(x, expected.reshape(len(x), -1) / 255, rtol=1e-6)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(y, dataset.y_train)


def loss_in_numpy(weights, bias, x, y, l2):
    logits = x @ weights + bias
    normalisers = scipy.special.logsumexp(logits, axis=-1)
    return (normalisers - logits[np.arange(len(y)), y]).mean() + l2 / 2 * np.sum(weights**2)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_loss_and_gradients_of_logistic_regression_are_those_of_the_formula(l2, rng):
    dataset = images_of(9, 9)
    task = logistic(dataset, l2=l2)
    weights, bias = rng.normal(size=(64, 3)), rng.normal(size=3)
    value, gradients = jit(jax.value_and_grad(task.loss))({"weights": weights, "bias": bias}, task.train)
    x, y = np.asarray(task.train[0], np.float64), task.train[1]
    np.testing.assert_allclose(value, loss_in_numpy(weights, bias, x, y, l2), rtol=1e-12)
    # (softmax − onehot)/n, times the inputs.
    errors = (scipy.special.softmax(x @ weights + bias, axis=-1) - np.eye(3)[y]) / len(y)
    np.testing.assert_allclose(gradients["weights"], x.T @ errors + l2 * weights, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(gradients["bias"], errors.sum(axis=0), rtol=1e-9, atol=1e-14)
    evaluated = jit(task.evaluate)({"weights": weights, "bias": bias}, task.train, task.test)
    np.testing.assert_allclose(evaluated["train_loss"], loss_in_numpy(weights, bias, x, y, 0), rtol=1e-12)


@pytest.mark.usefixtures("compiled_quickly")
def test_momentum_reaches_the_minimum_that_scipy_finds():
    dataset = images_of(8, 8)
    task = logistic(dataset, l2=0.5)
    x, y = np.asarray(task.train[0], np.float64), task.train[1]
    found = scipy.optimize.minimize(
        lambda w: loss_in_numpy(w[:192].reshape(64, 3), w[192:], x, y, 0.5), np.zeros(195), method="BFGS", tol=1e-8
    )
    cfg = mj.Config(
        iterations=500,
        batch_size=12,
        sampling="epochs",
        dtype="float64",
        optimizers={"it": mj.OptimizerConfig("nesterov", learning_rate=0.1, momentum=0.8)},
    )
    losses = mj.train(cfg, task=task).losses_before["it"][0]
    # SciPy takes differences, so that its own minimum is a little above.
    np.testing.assert_allclose(losses[-1], found.fun, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", ["logistic", "least_squares"])
def test_gradients_have_the_dtype_of_the_parameters(name, dtype):
    task = logistic(images_of(8, 8), l2=0.1) if name == "logistic" else least_squares()
    with jax.enable_x64(dtype == "float64"):
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), shapes)
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:4]), task.train)
        value, gradients = jax.eval_shape(jax.value_and_grad(task.loss), params, batch)
        assert value.shape == ()
        assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dimensions": 1}, "dimensions must be an integer of at least 2 and at most 1000, not 1"),
        ({"examples": 16}, "examples must be an integer of at least 17 and at most 100000, not 16"),
        ({"examples": 10**9}, "examples must be an integer of at least 17 and at most 100000, not 1000000000"),
        ({"mu": 0.0}, "mu must be"),
        ({"mu": 2.0}, "L must be finite and at least 2, not 1.0"),
        ({"noise": -1.0}, "noise must be finite and at least 0, not -1.0"),
        ({"seed": -1}, "seed must be an integer of at least 0, not -1"),
        ({"spectrum": "powr"}, "spectrum: unknown 'powr'; did you mean 'power'?"),
    ],
)
def test_what_makes_no_least_squares_is_refused(options, said):
    with pytest.raises(InputError) as error:
        least_squares(**options)
    assert said in str(error.value)


def test_what_makes_no_logistic_regression_is_refused():
    with pytest.raises(InputError, match=r"images of at least 8×8 for task 'logistic', not of shape \(8, 7\)"):
        logistic(images_of(8, 7))
    with pytest.raises(InputError, match="l2 must be finite and at least 0, not -1"):
        logistic(images_of(8, 8), l2=-1)
    with pytest.raises(InputError, match="dataset must be a Dataset"):
        logistic(3)

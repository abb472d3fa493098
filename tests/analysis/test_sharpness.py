"""Top eigenvalues against dense Hessians and known spectra, and the sharpness as a metric of trainings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.analysis import sharpness
from tests.compilations import compilations
from tests.compiling import jit

EPS = np.finfo(float).eps
KEY = jax.random.key(0)


def cross_entropy(params, batch):
    """Of a network from 4 inputs to 3 classes by way of 5 hidden units."""
    x, labels = batch
    hidden = jnp.tanh(x @ params["in"] + params["bias"][None])
    scores = jax.nn.log_softmax(hidden @ params["out"])
    return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], axis=1))


def network(rng, dtype=float):
    """Its 40 parameters and 50 examples."""
    shapes = {"in": (4, 5), "bias": (5,), "out": (5, 3)}
    params = {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}
    return params, (jnp.asarray(rng.normal(size=(50, 4)), dtype), jnp.asarray(rng.integers(0, 3, 50)))


def dense_spectrum(loss, params, data):
    """In descending order, by NumPy from all second derivatives."""
    flat, tree = jax.flatten_util.ravel_pytree(params)
    return np.linalg.eigvalsh(jit(jax.hessian(lambda p: loss(tree(p), data)))(flat))[::-1]


def quadratic(params, hessian):
    return params @ hessian @ params / 2


def top(params):
    return sharpness.top_eigenvalues(quadratic, params, jnp.eye(3), KEY)[0]


def with_spectrum(eigenvalues, rng):
    """A symmetric matrix of these eigenvalues, in random directions."""
    directions, _ = np.linalg.qr(rng.normal(size=[len(eigenvalues)] * 2))
    return directions @ np.diag(eigenvalues) @ directions.T


@pytest.mark.usefixtures("float64")
def test_the_whole_spectrum_of_a_network_is_that_of_its_dense_hessian_in_slices_too(rng):
    params, data = network(rng)
    expected = dense_spectrum(cross_entropy, params, data)
    # 50 examples: three slices of 16 and a rest of 2.
    for slice_size in (None, 16):

        @jit
        def spectrum(params, data, slice_size=slice_size):
            return sharpness.top_eigenvalues(
                cross_entropy, params, data, KEY, count=40, iterations=100, slice_size=slice_size
            )

        # Backward stable: errors are of the size of rounding in the largest eigenvalue.
        np.testing.assert_allclose(spectrum(params, data), expected, atol=100 * EPS * expected[0])
    # It has both signs, so that the order is not that of the moduli.
    assert expected[-1] < -0.01 < 0.01 < expected[0]


@pytest.mark.usefixtures("float64")
def test_the_top_of_a_known_spectrum_is_found_long_before_the_rest(rng):
    size, iterations = 400, 20
    eigenvalues = np.concatenate([[4.0, 3.0], np.linspace(1, -1, size - 2)])
    hessian = jnp.asarray(with_spectrum(eigenvalues, rng))

    @jit
    def top_two(hessian, keys):
        point = jnp.zeros(size)
        return jax.vmap(
            lambda key: sharpness.top_eigenvalues(quadratic, point, hessian, key, count=2, iterations=iterations)
        )(keys)

    # The error of a value is at most the range of the spectrum times (tan φ · |p| / |p(λ)|)², for any polynomial p of
    # degree 19, where |p| is its largest on the rest of the spectrum and φ the angle of the start. One that vanishes at
    # the other value and is Chebyshev's on [−1, 1] has |p| / |p(λ)| of at most 4 / T₁₈(3) = 1e-13, and of ten random
    # starts in 400 dimensions none is likely to have a tan φ of over 2e4: 1e-17, so that rounding is all.
    found = np.asarray(top_two(hessian, jax.random.split(KEY, 10)))
    np.testing.assert_allclose(found, np.tile([4.0, 3.0], (10, 1)), atol=100 * EPS)


@pytest.mark.usefixtures("float64")
def test_the_top_eigenvector_of_a_network_is_that_of_its_dense_hessian_as_a_tree_of_its_parameters(rng):
    params, data = network(rng)
    flat, tree = jax.flatten_util.ravel_pytree(params)
    expected = np.linalg.eigh(jit(jax.hessian(lambda p: cross_entropy(tree(p), data)))(flat))[1][:, -1]
    # As many iterations as parameters: exact but for rounding over the gap to the next eigenvalue.
    found = jit(
        lambda params, data: sharpness.top_eigenvector(cross_entropy, params, data, KEY, iterations=40, slice_size=16)
    )(params, data)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, params)
    found = jax.flatten_util.ravel_pytree(found)[0]
    np.testing.assert_allclose(found * np.sign(found @ expected), expected, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "eigenvalues",
    [
        [0.0] * 12,
        [1.0] * 12,
        [-1.0] * 12,
        [5.0] * 3 + [1.0] * 9,
        [5.0] * 2 + [0.0] * 10,
        [1e-100] + [0.0] * 11,
        [2.0] + [-3.0] * 11,
        [1e8, 1.0, 1e-8] + [0.0] * 9,
    ],
)
def test_a_spectrum_that_a_few_products_exhaust_is_found_with_its_repetitions(eigenvalues, rng):
    for hessian in (with_spectrum(eigenvalues, rng), np.diag(eigenvalues)):
        # Rounding, in the product and outside. Along the axes some of the starts leave exactly nothing.
        np.testing.assert_allclose(
            top_three(hessian), np.tile(eigenvalues[:3], (50, 1)), atol=100 * EPS * np.abs(eigenvalues).max()
        )


@jit
def top_three(hessian):
    """From fifty starts."""
    return jax.vmap(
        lambda key: sharpness.top_eigenvalues(quadratic, jnp.zeros(12), hessian, key, count=3, iterations=8)
    )(jax.random.split(KEY, 50))


@pytest.mark.usefixtures("float64")
def test_one_parameter_is_enough():
    @jit
    def top(params, data):
        return sharpness.top_eigenvalues(lambda p, data: jnp.sum(data * p**3), params, data, KEY)

    np.testing.assert_allclose(top(jnp.array(2.0), jnp.arange(3.0)), [36], rtol=4 * EPS)


@pytest.mark.usefixtures("float64")
def test_a_hessian_that_is_not_finite_gives_nan():
    assert np.isnan(top_three(jnp.full([12, 12], np.nan))).all()
    assert np.isnan(top_three(jnp.diag(jnp.full(12, np.inf)))).all()


def test_parameters_may_have_any_dtype_and_several(rng):
    params, data = network(rng, np.float32)
    half = params | {"bias": params["bias"].astype(jnp.float16), "in": params["in"].astype(jnp.bfloat16)}

    def loss(params, batch):
        return cross_entropy({name: leaf.astype(jnp.float32) for name, leaf in params.items()}, batch)

    @jit
    def both(params, half, data):
        return tuple(sharpness.top_eigenvalues(loss, p, data, KEY) for p in (params, half))

    single, mixed = both(params, half, data)
    assert single.dtype == mixed.dtype == jnp.float32
    # Products of bfloat16 parameters are rounded to 8 bits.
    np.testing.assert_allclose(mixed, single, rtol=2**-6)
    with jax.enable_x64(True):
        double = {name: leaf.astype(float) for name, leaf in params.items()}
        expected = dense_spectrum(cross_entropy, double, (data[0].astype(float), data[1]))
    np.testing.assert_allclose(single, expected[:1], rtol=20 * np.finfo(np.float32).eps)


def test_memory_is_that_of_a_slice_and_of_the_vectors():
    def loss(params, x):
        return jnp.mean(jnp.tanh(jnp.tanh(x @ params) @ params))

    def temporary(examples, slice_size, iterations):
        shapes = jax.ShapeDtypeStruct((20, 20), np.float32), jax.ShapeDtypeStruct((examples, 20), np.float32)

        def top(params, x):
            return sharpness.top_eigenvalues(loss, params, x, KEY, iterations=iterations, slice_size=slice_size)

        return jit(top).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    one = temporary(100, 100, 2)
    # The slices themselves are a view of the data, or at most a copy; not their activations, ten arrays of that size.
    assert temporary(10_000, 100, 2) < one + 10_000 * 20 * 4 * 1.1
    assert temporary(10_000, None, 2) > one + 10_000 * 20 * 4 * 3
    # A vector of 400 floats each.
    assert temporary(100, 100, 102) < one + 100 * 400 * 4 * 1.5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"count": 0}, "at most the 20 iterations and the 3 parameters, not 0"),
        ({"count": 4}, "at most the 20 iterations and the 3 parameters, not 4"),
        ({"count": 2, "iterations": 1}, "at most the 1 iterations and the 3 parameters, not 2"),
        ({"slice_size": 0}, "slice_size must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_computed_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        sharpness.top_eigenvalues(quadratic, jnp.ones(3), jnp.eye(3), KEY, **wrong)
    if "count" not in wrong:
        with pytest.raises(ValueError, match=words):
            sharpness.top_eigenvector(quadratic, jnp.ones(3), jnp.eye(3), KEY, **wrong)


def test_a_measure_that_is_no_array_of_floats_is_refused_where_not_every_iteration_is_measured():
    for measure in (lambda params: (params, params), lambda params: jnp.argmax(params)):
        metric = sharpness.metric(measure, every=2)
        with pytest.raises(InputError, match="a measure of every 2 iterations must give one floating-point array"):
            metric(jnp.ones(3), mj.sgd(0.1).init(jnp.ones(3)), jnp.ones(3))


@pytest.mark.parametrize("key", [1, None, 0.5, "key", np.uint32(1), np.zeros(2), jax.random.split(KEY)], ids=repr)
def test_what_is_no_key_is_refused(key):
    for measure in (sharpness.top_eigenvalues, sharpness.top_eigenvector):
        with pytest.raises(InputError, match=r"^key must be one such as jax.random.key\(0\), not "):
            measure(quadratic, jnp.ones(3), jnp.eye(3), key)


def test_a_key_of_the_older_kind_is_a_key():
    top = sharpness.top_eigenvalues(quadratic, jnp.ones(3), jnp.eye(3), jax.random.PRNGKey(0))
    np.testing.assert_allclose(top, 1, rtol=1e-6)


def test_a_metric_of_less_than_every_iteration_is_refused():
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        sharpness.metric(top, every=0)


def test_a_metric_of_every_iteration_asks_no_state_for_its_count():
    measured = sharpness.metric(top)
    assert jax.eval_shape(measured, jnp.ones(3), optax.adam(0.1).init(jnp.ones(3)), jnp.ones(3)).shape == ()


@pytest.mark.usefixtures("float64")
def test_one_parameter_in_float64_makes_all_vectors_float64():
    def loss(params, data):
        return jnp.sum(params["a"].astype(float) ** 2) + jnp.sum(params["b"] ** 2)

    params = {"a": jax.ShapeDtypeStruct((2,), "float32"), "b": jax.ShapeDtypeStruct((2,), "float64")}
    found = jax.eval_shape(lambda params: sharpness.top_eigenvalues(loss, params, None, KEY), params)
    assert found.dtype == "float64"


@pytest.mark.usefixtures("compiled_quickly")
def test_a_training_records_the_sharpness_of_some_iterations_and_compiles_once(rng):
    params, data = network(rng, np.float32)
    task = mj.Task(lambda key: params, cross_entropy, data)
    measured = sharpness.metric(
        lambda params: sharpness.top_eigenvalues(cross_entropy, params, data, KEY, slice_size=20)[0], every=3
    )
    results = []

    def train(iterations, record_every):
        cfg = mj.Config(
            iterations=iterations,
            batch_size=8,
            optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.1)},
            seeds=2,
            record_every=record_every,
        )
        results.append(mj.train(cfg, task=task, metrics={"sharpness": measured}, chunk=4))

    assert compilations(lambda: train(4, 1)) > 0
    # Twenty more chunks, of the same programs.
    assert compilations(lambda: train(84, 3)) == 0
    few, many = (result.metrics["sharpness"]["momentum"] for result in results)
    assert np.isnan(few).tolist() == [[False, True, True, False]] * 2
    # The same iterations of a longer run, which keeps only them and the last one, whose turn it is not.
    np.testing.assert_array_equal(few[:, ::3], many[:, :2])
    assert np.isnan(many).tolist() == [[False] * 28 + [True]] * 2
    # After the update, on all of the data, whatever the batches were: the same sums in another order, in float32.
    after = jax.tree.map(lambda leaf: leaf[1], results[0].params["momentum"])
    expected = jit(lambda p: sharpness.top_eigenvalues(cross_entropy, p, data, KEY))(after)
    np.testing.assert_allclose(few[1, 3:], expected, rtol=1e-5)


def test_an_optimizers_state_says_which_iteration_it_is_or_its_user_does():
    params = jnp.ones(3)

    def shape(optimizer, **options):
        measured = sharpness.metric(top, every=2, **options)
        return jax.eval_shape(measured, params, optimizer.init(params), params).shape

    for method in mj.optimizers.available().values():
        required = {name: 0.0 for name, entry in method.hyperparameters.items() if entry.required}
        assert shape(method.factory(**required)) == ()
    # A tuple's own `count` is a method.
    with pytest.raises(TypeError, match="state of type tuple has no count of updates"):
        shape(optax.adam(0.1))
    assert shape(optax.adam(0.1), updates=lambda state: optax.tree_utils.tree_get(state, "count")) == ()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1.0, np.ones(2)),
        pytest.param(np.float32(1), np.ones(2, "float32"), marks=pytest.mark.exhaustive),
        pytest.param(np.float64(1), jnp.ones(2), marks=pytest.mark.exhaustive),
    ],
    ids=["number", "float32", "float64"],
)
def test_numbers_and_arrays_of_numpy_are_parameters_too(a, b):
    def loss(params, data):
        return data * (params["a"] ** 2 + jnp.sum(2 * params["b"] ** 2))

    for every in (1, 2):
        measured = sharpness.metric(
            lambda params: sharpness.top_eigenvalues(loss, params, 1.0, KEY)[0],
            every=every,
            updates=lambda state: jnp.int32(1),
        )
        np.testing.assert_allclose(measured({"a": a, "b": b}, None, None), 4, rtol=1e-5)
    top = sharpness.top_eigenvalues(loss, {"a": a, "b": b}, 1.0, KEY, count=3)
    np.testing.assert_allclose(top, [4, 4, 2], rtol=1e-5)


@pytest.mark.parametrize(
    ("leaf", "what"),
    [
        (3, "int"),
        (np.arange(2), "int64"),
        (jnp.arange(2), "int32"),
        (jnp.ones(2, bool), "bool"),
        (jnp.ones(2, complex), "complex64"),
        (KEY, "key<fry>"),
        ("relu", "str"),
        (len, "builtin_function_or_method"),
    ],
)
def test_a_parameter_without_derivatives_is_refused_by_path(leaf, what):
    for params, where in (({"a": 1.0, "n": leaf}, " at ['n']"), (leaf, "")):
        words = f"the parameter{where} is {what}, and must be real floating-point: hold it fixed inside the loss"
        with pytest.raises(InputError) as error:
            sharpness.top_eigenvalues(lambda params, data: 0.0, params, None, KEY)
        assert str(error.value) == words


def test_a_metric_of_a_task_with_a_state_sees_the_state_and_not_its_derivative():
    """The oracle is the closed form: the loss (s·w)²/2 has the curvature s² in w, and s is the iteration's number."""

    def loss(params, state, batch):
        return (params["w"] - batch).mean() ** 2 / 2, {"steps": state["steps"] + 1}

    def evaluate(params, state, train, test):
        del train, test
        return {"train_loss": (params["w"] * state["steps"]) ** 2 / 2}

    rows = np.zeros(8, np.float32)
    task = mj.Task(
        init=lambda key: ({"w": jnp.float32(1)}, {"steps": jnp.float32(0)}),
        loss=loss,
        train=rows,
        evaluate=evaluate,
        has_state=True,
    )

    def measure(params, state):
        return sharpness.top_eigenvalues(
            lambda params, data: evaluate(params, state, data, None)["train_loss"], params, rows, jax.random.key(0)
        )[0]

    metric = sharpness.metric(measure)
    sgd = mj.OptimizerConfig("sgd", learning_rate=0.1)
    cfg = mj.Config(iterations=4, batch_size=2, optimizers={"sgd": sgd})
    curvature = mj.train(cfg, task=task, metrics={"sharpness": metric}).metrics["sharpness"]["sgd"][0]
    # Small integers and their squares are exact in float32.
    np.testing.assert_array_equal(curvature, [1, 4, 9, 16])

"""`flax_task` against loops written by hand as Flax's tutorials do it, NumPy and PyTorch."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.tasks.augmentation import noise
from momentum_jax.tasks.host_data import HostData
from tests.compiling import jit

KEY = jax.random.key(7)
_rng = np.random.default_rng(0)
X, Y = _rng.normal(size=(48, 4)), _rng.integers(0, 3, 48).astype(np.int32)
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in _rng.integers(0, 40, 20)]


class LinenNet(nn.Module):
    """Dense, batch normalisation and dropout."""

    rate: float = 0.25
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(nn.Dense(6)(x))
        return nn.Dense(3)(nn.Dropout(self.rate, deterministic=not train)(nn.relu(x)))


class NnxNet(nnx.Module):
    """The same, in NNX."""

    def __init__(self, rngs, rate=0.25):
        self.layers = nnx.List([nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)])
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.dropout(nnx.relu(self.norm(self.layers[0](x)))))


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


def plain_nnx(rngs):
    return nnx.Linear(4, 3, rngs=rngs)


@pytest.fixture
def promoting():
    """Flax's batch normalisation mixes float32 with other dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def wide(tree):
    """Float leaves in float64."""
    return jax.tree.map(lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def assert_trees_close(actual, expected, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), actual, expected)


def mean_cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def affine(x, layer):
    return np.asarray(x, np.float64) @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def numpys_cross_entropy(logits, labels):
    logits = np.asarray(logits, np.float64)
    chosen = np.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return np.mean(np.log(np.exp(logits).sum(axis=-1)) - chosen)


def losses_of(task, params, state, rate=0.1):
    """SGD with the task's loss; the i-th step has the i-th of 20 keys."""

    @jit
    def step(params, state, batch, key):
        (loss, state), grads = jax.value_and_grad(task.loss, has_aux=True)(params, state, batch, key)
        return loss, jax.tree.map(lambda p, g: p - rate * g, params, grads), state

    losses = []
    for batch, key in zip(BATCHES, jax.random.split(KEY, 20), strict=True):
        loss, params, state = step(params, state, batch, key)
        losses.append(loss)
    return losses, params, state


def linen_loss(params, stats, x, y, key):
    """As Flax's tutorial of batch normalisation and dropout computes it."""
    variables = {"params": params, "batch_stats": stats}
    logits, updates = LinenNet().apply(variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
    return mean_cross_entropy(logits, y), updates["batch_stats"]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("float64", "promoting")
def test_a_linen_network_trains_as_in_a_loop_written_by_hand():
    module = LinenNet()
    task = mj.flax_task(module, (X, Y))
    variables = wide(module.init(jax.random.key(1), jnp.zeros([1, 4], jnp.float32), train=False))
    params, stats = variables["params"], variables["batch_stats"]
    assert_trees_close(wide(task.init(jax.random.key(1))), (params, {"batch_stats": stats}), rtol=0)
    losses, own_params, own_state = losses_of(task, params, {"batch_stats": stats})

    @jit
    def step(params, stats, x, y, key):
        (value, stats), grads = jax.value_and_grad(linen_loss, has_aux=True)(params, stats, x, y, key)
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), stats

    expected = []
    for (x, y), key in zip(BATCHES, jax.random.split(KEY, 20), strict=True):
        value, params, stats = step(params, stats, x, y, key)
        expected.append(value)
    # float64, and 20 steps of sums of at most 8 products.
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    assert_trees_close((own_params, own_state), (params, {"batch_stats": stats}), rtol=1e-10, atol=1e-12)
    logits = module.apply({"params": params, "batch_stats": stats}, jnp.asarray(X), train=False)
    evaluated = jit(task.evaluate)(own_params, own_state, task.train, None)
    np.testing.assert_allclose(evaluated["train_loss"], mean_cross_entropy(logits, Y), rtol=1e-10)


@pytest.mark.usefixtures("float64", "promoting")
def test_an_nnx_network_trains_as_in_a_loop_written_by_hand():
    task = mj.flax_task(NnxNet, (X, Y))
    params, state = wide(task.init(jax.random.key(1)))
    losses, own_params, own_state = losses_of(task, params, state)

    model = NnxNet(nnx.Rngs(jax.random.key(1)))
    nnx.update(model, wide(nnx.state(model, (nnx.Param, nnx.BatchStat))))
    assert_trees_close(params, nnx.to_pure_dict(nnx.state(model, nnx.Param)), rtol=0)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    model.train()

    @nnx.jit
    def step(model, optimizer, x, y, key):
        nnx.reseed(model, default=key)
        value, grads = nnx.value_and_grad(lambda model: mean_cross_entropy(model(x), y))(model)
        optimizer.update(model, grads)
        return value

    expected = [step(model, optimizer, x, y, k) for (x, y), k in zip(BATCHES, jax.random.split(KEY, 20), strict=True)]
    # float64, and 20 steps of sums of at most 8 products.
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    assert_trees_close(own_params, nnx.to_pure_dict(nnx.state(model, nnx.Param)), rtol=1e-10, atol=1e-12)
    assert_trees_close(own_state, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), rtol=1e-10, atol=1e-12)
    model.eval()
    evaluated = jit(task.evaluate)(own_params, own_state, task.train, None)
    np.testing.assert_allclose(evaluated["train_loss"], mean_cross_entropy(model(jnp.asarray(X)), Y), rtol=1e-10)


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_batch_normalisation_is_pytorchs_with_the_complement_of_its_momentum(kind, rng):
    torch = pytest.importorskip("torch")

    class NormNnx(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(4, momentum=0.7, epsilon=1e-3, rngs=rngs)

        def __call__(self, x):
            return self.norm(x)

    class NormLinen(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.BatchNorm(use_running_average=not train, momentum=0.7, epsilon=1e-3, name="norm")(x)

    x, targets = X.astype(np.float32), rng.normal(size=(48, 4)).astype(np.float32)
    module = NormLinen() if kind == "linen" else NormNnx
    task = mj.flax_task(module, (x, targets), (x, targets), loss="mean_squared_error")
    values = {name: rng.uniform(0.5, 2, 4).astype(np.float32) for name in ("scale", "bias", "mean", "var")}
    params = {"norm": {name: values[name] for name in ("scale", "bias")}}
    stats = {"norm": {name: values[name] for name in ("mean", "var")}}
    state = {"batch_stats": stats} if kind == "linen" else stats
    theirs = torch.nn.BatchNorm1d(4, eps=1e-3, momentum=1 - 0.7)
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    theirs.load_state_dict({name: torch.tensor(values[ours]) for name, ours in names.items()}, strict=False)

    loss, new_state = jit(task.loss)(params, state, (x[:16], targets[:16]))
    expected = torch.mean((theirs(torch.tensor(x[:16])) - torch.tensor(targets[:16])) ** 2)
    # float32: means of 16 values.
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)
    new = (new_state["batch_stats"] if kind == "linen" else new_state)["norm"]
    np.testing.assert_allclose(new["mean"], theirs.running_mean, rtol=1e-6, atol=1e-7)
    # PyTorch's running variance takes 16/15 of the variance of the 16 examples.
    biased = 0.7 * values["var"] + (theirs.running_var.numpy() - 0.7 * values["var"]) * 15 / 16
    np.testing.assert_allclose(new["var"], biased, rtol=1e-6)

    theirs.running_var[:] = torch.tensor(np.asarray(new["var"]))
    theirs.eval()
    evaluated = jit(task.evaluate)(params, new_state, task.train, task.test)
    expected = torch.mean((theirs(torch.tensor(x)) - torch.tensor(targets)) ** 2)
    np.testing.assert_allclose(evaluated["test_loss"], expected.item(), rtol=1e-6)


class TwoNorms(nn.Module):
    """Batch normalisation of the inputs and of a layer, with dropout that the population statistics leave out."""

    layers: int = 2

    @nn.compact
    def __call__(self, x, train):
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.5)
        x = norm()(x)
        if self.layers == 2:
            x = norm()(nn.tanh(nn.Dense(5)(nn.Dropout(0.5, deterministic=not train)(x))))
        return nn.Dense(1)(x)[:, 0]


class TwoNormsNnx(nnx.Module):
    def __init__(self, rngs, layers=2):
        self.norms = nnx.List([nnx.BatchNorm(n, momentum=0.5, rngs=rngs) for n in (4, 5)[:layers]])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.hidden = nnx.Linear(4, 5, rngs=rngs)
        self.out = nnx.Linear(5 if layers == 2 else 4, 1, rngs=rngs)

    def __call__(self, x):
        x = self.norms[0](x)
        if len(self.norms) == 2:
            x = self.norms[1](jnp.tanh(self.hidden(self.dropout(x))))
        return self.out(x)[:, 0]


@pytest.mark.usefixtures("float64", "promoting")
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_precise_batch_norm_uses_the_population_statistics_of_the_training_set(kind, layers, rng):
    # Two slices of 1000 and a rest; a mean that is large against the deviation.
    x, y = rng.normal(30, 0.5, size=(2300, 4)), rng.normal(size=2300)
    module = TwoNorms(layers) if kind == "linen" else functools.partial(TwoNormsNnx, layers=layers)
    make = functools.partial(mj.flax_task, module, (x, y), (x[:50], y[:50]), loss="mean_squared_error")
    task = make(precise_batch_norm=True)
    params, state = wide(task.init(KEY))
    if kind == "linen":
        hidden, out = (params["Dense_0"], params["Dense_1"]) if layers == 2 else (None, params["Dense_0"])
    else:
        hidden, out = params["hidden"], params["out"]
    slices = [x[:1000], x[1000:2000], x[2000:]]

    def normalised(a, mean, variance):
        return (a - mean) / np.sqrt(variance + 1e-5)

    population = [(x.mean(axis=0), x.var(axis=0))]
    if layers == 2:
        inside = [np.tanh(affine(normalised(part, part.mean(axis=0), part.var(axis=0)), hidden)) for part in slices]
        # The mean within slices of 1000, 1000 and 300 is the mean over all; so is that of the squares.
        inside = np.concatenate(inside)
        population.append((inside.mean(axis=0), inside.var(axis=0)))

    def loss(x, y):
        a = normalised(x, *population[0])
        if layers == 2:
            a = normalised(np.tanh(affine(a, hidden)), *population[1])
        return np.mean((affine(a, out)[:, 0] - y) ** 2)

    evaluated = jit(task.evaluate)(params, state, task.train, task.test)
    # Flax takes the variance of a slice from its squares, which are 30²/0.5² times as large; float64.
    np.testing.assert_allclose(evaluated["train_loss"], loss(x, y), rtol=1e-9)
    np.testing.assert_allclose(evaluated["test_loss"], loss(x[:50], y[:50]), rtol=1e-9)
    running = make()
    assert abs(jit(running.evaluate)(params, state, task.train, None)["train_loss"] - loss(x, y)) > 0.01


def test_precise_batch_norm_leaves_what_training_does_not_update(rng):
    class Fixed(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.BatchNorm(use_running_average=True, name="fixed")(x)
            return nn.Dense(3)(nn.BatchNorm(use_running_average=not train, name="free")(x))

    x = rng.normal(5, 2, size=(48, 4)).astype(np.float32)
    task = mj.flax_task(Fixed(), (x, Y), precise_batch_norm=True)
    params, state = task.init(KEY)
    evaluated = jit(task.evaluate)(params, state, task.train, None)
    # The fixed one has mean 0 and variance 1 before epsilon.
    inputs = x / np.sqrt(1 + 1e-5)
    normalised = (inputs - inputs.mean(axis=0)) / np.sqrt(inputs.var(axis=0) + 1e-5)
    logits = affine(normalised, params["Dense_0"])
    # float32: variances from squares that are 7 times as large.
    np.testing.assert_allclose(evaluated["train_loss"], numpys_cross_entropy(logits, Y), rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "has_state", "has_key"),
    [
        (Plain(), False, False),
        (plain_nnx, False, False),
        (LinenNet(), True, True),
        (NnxNet, True, True),
        # Without a rate dropout draws nothing.
        (LinenNet(rate=0.0), True, False),
        (functools.partial(NnxNet, rate=0.0), True, False),
    ],
)
def test_a_task_has_state_and_keys_only_where_the_network_has(module, has_state, has_key):
    task = mj.flax_task(module, (X, Y), (X, Y))
    assert (task.has_state, task.has_key) == (has_state, has_key)
    started = task.init(KEY)
    key = (KEY,) if has_key else ()
    params, *state = started if has_state else (started,)
    value = jax.eval_shape(task.loss, params, *state, BATCHES[0], *key)
    if has_state:
        value, new_state = value
        assert jax.tree.structure(new_state) == jax.tree.structure(state[0])
    assert (value.shape, value.dtype) == ((), jnp.float32)
    evaluated = jax.eval_shape(task.evaluate, params, *state, task.train, task.test)
    assert [*evaluated] == ["test_accuracy", "test_loss", "train_loss"]


@pytest.mark.parametrize("flag", ["train", "training", "is_training", "deterministic", "use_running_average"])
def test_the_argument_that_tells_training_from_evaluation_is_found_by_its_name(flag):
    class Told(nn.Module):
        def __call__(self, x, **kwargs):
            raise NotImplementedError

    def call(self, x, flag):
        training = flag if "train" in name else not flag
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not training)(x))

    name = flag
    namespace = {}
    exec(f"def __call__(self, x, {flag}): return call(self, x, {flag})", {"call": call}, namespace)
    module = type("Told", (nn.Module,), {"__call__": nn.compact(namespace["__call__"])})()
    task = mj.flax_task(module, (X, Y))
    params = task.init(KEY)
    losses = {float(jit(task.loss)(params, (X, Y), jax.random.key(seed))) for seed in range(2)}
    evaluated = float(jit(task.evaluate)(params, task.train, None)["train_loss"])
    logits = affine(X, params["Dense_0"])
    assert len({*losses, evaluated}) == 3
    np.testing.assert_allclose(evaluated, numpys_cross_entropy(logits, Y), rtol=1e-5)


def test_several_streams_get_parts_of_the_key_in_alphabetical_order():
    class Streams(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dense(3)(x)
            if train:
                x = x + jax.random.normal(self.make_rng("noise"), x.shape)
                x = x * jax.random.normal(self.make_rng("gain"), x.shape)
            return x

    module = Streams()
    task = mj.flax_task(module, (X, Y))
    params = task.init(KEY)
    gain, of_noise = jax.random.split(KEY)
    logits = module.apply({"params": params}, jnp.asarray(X), train=True, rngs={"noise": of_noise, "gain": gain})
    np.testing.assert_allclose(jit(task.loss)(params, (X, Y), KEY), mean_cross_entropy(logits, Y), rtol=1e-6)


def test_an_nnx_module_starts_from_its_own_values_and_a_function_from_the_key():
    model = NnxNet(nnx.Rngs(5))
    kernel = np.asarray(model.layers[0].kernel[...])
    given, drawn = mj.flax_task(model, (X, Y)), mj.flax_task(NnxNet, (X, Y))
    model.layers[0].kernel[...] = jnp.zeros([4, 6])
    starts = [[jit(task.init)(jax.random.key(s))[0]["layers"][0]["kernel"] for s in (0, 1)] for task in (given, drawn)]
    np.testing.assert_array_equal(starts[0], [kernel, kernel])
    assert (starts[1][0] != starts[1][1]).all()
    # The module itself has not been trained, nor set to another mode.
    assert not model.dropout.deterministic
    np.testing.assert_array_equal(model.norm.mean[...], np.zeros(6))


KERNELS = {
    "linen": (LinenNet(), lambda path, leaf: "BatchNorm_0" not in path and path[-1] == "kernel"),
    "nnx": (NnxNet, lambda path, leaf: "norm" not in path and leaf.ndim == 2),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_frozen_parameters_stay_where_they_are_whatever_the_optimizer_does(kind):
    module, trainable = KERNELS[kind]
    free, task = mj.flax_task(module, (X, Y)), mj.flax_task(module, (X, Y), trainable=trainable)
    all_params, stats = free.init(KEY)
    params, state = task.init(KEY)
    assert {leaf.ndim for leaf in jax.tree.leaves(params)} == {2}
    assert len(jax.tree.leaves(params)) == 2
    assert len(jax.tree.leaves((params, state))) == len(jax.tree.leaves((all_params, stats)))
    batch = (X[:8], Y[:8])
    together, _ = jit(free.loss)(all_params, stats, batch, KEY)
    optimizer = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, momentum=0.9))

    @jit
    def step(params, state, optimizer_state):
        (loss, state), grads = jax.value_and_grad(task.loss, has_aux=True)(params, state, batch, KEY)
        updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
        return loss, optax.apply_updates(params, updates), state, optimizer_state

    first, new_params, new_state, optimizer_state = step(params, state, optimizer.init(params))
    np.testing.assert_allclose(first, together, rtol=1e-6)
    second, *_ = step(new_params, new_state, optimizer_state)
    assert second < first
    before, after = (jax.tree.leaves_with_path(s) for s in (state, new_state))
    for (path, old), (_, new) in zip(before, after, strict=True):
        is_statistic = "mean" in str(path) or "var" in str(path)
        assert bool((np.asarray(old) == np.asarray(new)).all()) != is_statistic


def test_a_tree_of_bools_freezes_as_a_function_does():
    mask = jax.tree.map(lambda leaf: leaf.ndim == 2, mj.flax_task(LinenNet(), (X, Y)).init(KEY)[0])
    by_tree = mj.flax_task(LinenNet(), (X, Y), trainable=mask)
    by_function = mj.flax_task(LinenNet(), (X, Y), trainable=lambda path, leaf: leaf.ndim == 2)
    assert by_tree.loss is by_function.loss


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_a_parameter_that_two_layers_share_gets_the_gradients_of_both(kind):
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.Dense(4, use_bias=False)
            return layer(jnp.tanh(layer(x)))

    class SharedNnx(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(4, 4, use_bias=False, rngs=rngs)
            self.second = nnx.Linear(4, 4, use_bias=False, rngs=rngs)
            self.second.kernel = self.first.kernel

        def __call__(self, x):
            return self.second(jnp.tanh(self.first(x)))

    task = mj.flax_task(Shared() if kind == "linen" else SharedNnx, (X, Y))
    params = task.init(KEY)
    (kernel,) = jax.tree.leaves(params)
    x = jnp.asarray(X, jnp.float32)
    by_hand = jax.grad(lambda a, b: mean_cross_entropy(jnp.tanh(x @ a) @ b, Y), argnums=(0, 1))(kernel, kernel)
    (grad,) = jax.tree.leaves(jit(jax.grad(task.loss))(params, (X, Y)))
    # float32: sums of 48 products.
    np.testing.assert_allclose(grad, sum(by_hand), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("promoting")
@pytest.mark.parametrize(
    "module", [pytest.param(LinenNet(), marks=pytest.mark.exhaustive, id="linen"), pytest.param(NnxNet, id="nnx")]
)
def test_statistics_stay_in_float32_beside_parameters_in_bfloat16(module):
    task = mj.flax_task(module, (X, Y), (X, Y), precise_batch_norm=True, trainable=lambda path, leaf: leaf.ndim == 2)
    params, state = task.init(KEY)
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    loss, new_state = jit(task.loss)(narrow, state, (X[:8], Y[:8]), KEY)
    evaluated = jit(task.evaluate)(narrow, new_state, task.train, task.test)
    reference, _ = jit(task.loss)(params, state, (X[:8], Y[:8]), KEY)
    assert loss.dtype == jnp.float32
    assert {value.dtype for value in evaluated.values()} == {np.dtype("float32")}
    assert jax.tree.map(lambda a: a.dtype, new_state) == jax.tree.map(lambda a: a.dtype, state)
    # bfloat16 has 8 bits.
    np.testing.assert_allclose(loss, reference, rtol=0.03)


class NarrowLinen(nn.Module):
    """It refuses to compute in two dtypes, and keeps the mean of its last batch."""

    @nn.compact
    def __call__(self, x, train):
        last = self.variable("memory", "last", jnp.zeros, x.shape[1:])
        if train:
            last.value = x.mean(axis=0)
        hidden = nn.Dense(4, name="first")(x)
        assert hidden.dtype == x.dtype
        return nn.Dense(3, name="second")(hidden)


class NarrowNnx(nnx.Module):
    def __init__(self, rngs):
        self.last = nnx.Variable(jnp.zeros(4))
        self.first, self.second = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        self.last.set_value(x.mean(axis=0))
        hidden = self.first(x)
        assert hidden.dtype == x.dtype
        return self.second(hidden)


@pytest.mark.parametrize("module", [NarrowNnx, NarrowLinen()], ids=["nnx", "linen"])
def test_frozen_parameters_are_used_in_the_dtype_of_the_others_and_the_state_keeps_its_own(module):
    task = mj.flax_task(module, (X, Y), trainable=lambda path, leaf: path[0] == "second")
    params, state = task.init(KEY)
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    _, new_state = jax.eval_shape(task.loss, narrow, state, (X, Y))
    assert {leaf.dtype for leaf in jax.tree.leaves(new_state)} == {np.dtype("float32")}


class Block(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x, _):
        return nn.BatchNorm(use_running_average=not self.train)(nn.Dense(4)(x)), None


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        axes = {"params": 0, "batch_stats": 0}
        blocks = nn.scan(nn.remat(Block), variable_axes=axes, split_rngs={"params": True}, length=3)
        return nn.Dense(3)(blocks(train=train)(x, None)[0])


class BlockNnx(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.linear(x)))


class ScannedNnx(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.split_rngs(splits=3)(nnx.vmap(BlockNnx))(rngs)
        self.last = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(
            nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)
        )


@pytest.mark.parametrize(("module", "has_key"), [(Scanned(), False), (ScannedNnx, True)], ids=["linen", "nnx"])
def test_layers_that_are_scanned_have_statistics_and_streams_of_their_own(module, has_key):
    task = mj.flax_task(module, (X, Y), precise_batch_norm=True)
    params, state = jax.eval_shape(task.init, KEY)
    assert task.has_key == has_key
    assert {leaf.shape for leaf in jax.tree.leaves(state)} == {(3, 4)}
    _, new_state = jax.eval_shape(task.loss, params, state, (X, Y), *[KEY] * has_key)
    assert jax.tree.leaves(new_state) == jax.tree.leaves(state)
    assert {*jax.eval_shape(task.evaluate, params, state, task.train, None)} == {"train_loss"}


def test_uint8_inputs_are_pixels_in_0_to_1_and_other_integers_remain():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4), dtype=np.uint8)
    task = mj.flax_task(Plain(), (pixels, Y[:20]))
    params = task.init(KEY)
    logits = affine(pixels / 255, params["Dense_0"])
    np.testing.assert_allclose(jit(task.loss)(params, task.train), numpys_cross_entropy(logits, Y[:20]), rtol=1e-5)

    tokens = np.arange(20, dtype=np.int32) % 5
    words = mj.flax_task(nn.Embed(5, 3), (tokens, Y[:20]))
    table = jit(words.init)(KEY)["embedding"]
    np.testing.assert_allclose(
        jit(words.loss)({"embedding": table}, words.train),
        numpys_cross_entropy(np.asarray(table)[tokens], Y[:20]),
        rtol=1e-5,
    )


def test_inputs_may_be_a_tree():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return nn.Dense(3)(inputs["left"]) * inputs["right"]

    inputs = {"left": X, "right": X[:, :1]}
    task = mj.flax_task(Two(), (inputs, Y))
    params = task.init(KEY)
    logits = affine(X, params["Dense_0"]) * X[:, :1]
    np.testing.assert_allclose(jit(task.loss)(params, task.train), numpys_cross_entropy(logits, Y), rtol=1e-5)


def test_a_classifier_is_evaluated_by_loss_and_accuracy_over_all_examples():
    task = mj.flax_task(Plain(), (X[:30], Y[:30]), (X[30:], Y[30:]))
    params = task.init(KEY)
    logits = affine(X, params["Dense_0"])
    evaluated = jit(task.evaluate)(params, task.train, task.test)
    np.testing.assert_allclose(evaluated["train_loss"], numpys_cross_entropy(logits[:30], Y[:30]), rtol=1e-5)
    np.testing.assert_allclose(evaluated["test_loss"], numpys_cross_entropy(logits[30:], Y[30:]), rtol=1e-5)
    np.testing.assert_allclose(evaluated["test_accuracy"], np.mean(logits[30:].argmax(axis=1) == Y[30:]), rtol=1e-6)
    p = np.bincount(Y[:30]) / 30
    np.testing.assert_allclose(task.baseline_loss, -np.sum(p * np.log(p)), rtol=1e-12)


def test_a_language_model_is_evaluated_in_bits_per_character():
    tokens = np.random.default_rng(0).integers(0, 5, (12, 7)).astype(np.int32)
    task = mj.flax_task(nn.Embed(5, 5), (tokens[:, :-1], tokens[:, 1:]), (tokens[:5, :-1], tokens[:5, 1:]))
    params = task.init(KEY)
    evaluated = jit(task.evaluate)(params, task.train, task.test)
    logits = np.asarray(params["embedding"])[tokens[:5, :-1]]
    nats = numpys_cross_entropy(logits, tokens[:5, 1:])
    assert {*evaluated} == {"train_loss", "test_loss", "test_bits_per_character"}
    np.testing.assert_allclose(evaluated["test_bits_per_character"], nats / math.log(2), rtol=1e-5)
    p = np.bincount(tokens[:, 1:].reshape(-1)) / 72
    np.testing.assert_allclose(task.baseline_loss, -np.sum(p * np.log(p)), rtol=1e-12)


def test_the_squared_error_is_the_mean_over_outputs_and_its_baseline_the_variance_of_the_targets():
    targets = np.stack([X[:, 0], 5 + X[:, 1], 2 * X[:, 2]], axis=1)
    task = mj.flax_task(Plain(), (X, targets), loss="mean_squared_error")
    params = task.init(KEY)
    outputs = affine(X, params["Dense_0"])
    np.testing.assert_allclose(jit(task.loss)(params, task.train), np.mean((outputs - targets) ** 2), rtol=1e-5)
    assert {*jax.eval_shape(task.evaluate, params, task.train, None)} == {"train_loss"}
    np.testing.assert_allclose(task.baseline_loss, np.mean((targets - targets.mean(axis=0)) ** 2), rtol=1e-12)


def test_a_loss_of_ones_own_sees_outputs_and_targets():
    def absolute(outputs, targets):
        return jnp.abs(outputs - targets["value"][:, None].astype(outputs.dtype)).mean()

    task = mj.flax_task(Plain(), (X, {"value": X[:, 0]}), loss=absolute)
    params = task.init(KEY)
    outputs = affine(X, params["Dense_0"])
    np.testing.assert_allclose(jit(task.loss)(params, task.train), np.abs(outputs - X[:, :1]).mean(), rtol=1e-5)
    assert task.baseline_loss is None


def test_equal_modules_and_equal_options_share_their_functions():
    other = (X[:20], Y[:20])
    for module in (LinenNet, lambda: NnxNet):
        first, second = mj.flax_task(module(), (X, Y)), mj.flax_task(module(), other)
        assert (first.init, first.loss, first.evaluate) == (second.init, second.loss, second.evaluate)
        frozen = mj.flax_task(module(), other, trainable=lambda path, leaf: leaf.ndim == 2)
        assert frozen.loss is not first.loss
    assert mj.flax_task(LinenNet(rate=0.1), other).loss is not mj.flax_task(LinenNet(), other).loss


def test_a_module_of_the_same_function_but_another_graph_shares_nothing():
    width = 5

    def make(rngs):
        return nnx.Sequential(nnx.Linear(4, width, rngs=rngs), nnx.Linear(width, 3, rngs=rngs))

    first = mj.flax_task(make, (X, Y))
    width = 6
    second = mj.flax_task(make, (X, Y))
    assert second.loss is not first.loss


class Growing(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.sow("losses", "penalty", jnp.sum(x))
        return nn.Dense(3)(x)


class OfBatch(nn.Module):
    @nn.compact
    def __call__(self, x):
        last = self.variable("memory", "last", jnp.zeros, x.shape)
        last.value = x
        return nn.Dense(3)(x)


class Untold(nn.Module):
    part: type

    @nn.compact
    def __call__(self, x):
        kwargs = {"use_running_average": False} if self.part is nn.BatchNorm else {"rate": 0.5, "deterministic": False}
        return self.part(**kwargs)(nn.Dense(3)(x))


class Wanting(nn.Module):
    @nn.compact
    def __call__(self, x, mask, train):
        return nn.Dense(3)(x)


class Bare(nn.Module):
    def __call__(self, x):
        return x[:, :3]


class FixedNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.BatchNorm(use_running_average=True)(x))


class Mute(nnx.Module):
    pass


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((Plain, (X, Y)), {}, r"module is the class Plain; give a module, such as Plain\(\)"),
        ((3, (X, Y)), {}, "module must be a module of flax.linen or flax.nnx, or a function of nnx.Rngs .* not 3"),
        ((lambda rngs: 3, (X, Y)), {}, "must make a module of flax.nnx from nnx.Rngs, not 3"),
        ((lambda rngs: Plain(), (X, Y)), {}, "must make a module of flax.nnx from nnx.Rngs, not Plain"),
        ((lambda: 3, (X, Y)), {}, r"must take nnx.Rngs, such as lambda rngs: Network\(…, rngs=rngs\): TypeError"),
        ((lambda rngs: Mute(), (X, Y)), {}, "Mute has no __call__ from inputs to outputs"),
        ((Bare(), (X, Y)), {}, "the module has no parameters to train"),
        ((Wanting(), (X, Y)), {}, "Wanting.__call__ needs mask beside the inputs"),
        ((plain_nnx, (X[:, :3], Y)), {}, r"the module does not take inputs 'float32\[batch, 3\]': TypeError"),
        ((nn.Embed(5, 3), (X, Y)), {}, r"the module does not take inputs 'float32\[batch, 4\]'"),
        ((Growing(), (X, Y)), {}, "a training call changes the shape of the state losses/penalty/1 from nothing"),
        ((OfBatch(), (X, Y)), {}, r"state memory/last from \(1, 4\) to \(2, 4\); it must not depend on the batch"),
        (
            (Untold(nn.BatchNorm), (X, Y)),
            {},
            "evaluation changes 'batch_stats': give the module's __call__ an argument",
        ),
        ((Untold(nn.Dropout), (X, Y)), {}, "evaluation draws from the stream 'dropout': give the module's __call__"),
        ((Plain(), (X, Y[:5])), {}, "train must have as many inputs as targets, not 48 against 5"),
        ((Plain(), X), {}, r"train must be \(inputs, targets\)"),
        ((Plain(), (X, Y), (X, Y[:5])), {}, "test must have as many inputs as targets, not 48 against 5"),
        ((Plain(), (X, Y), (X[:, :2], Y)), {}, "the inputs of test must have the shapes and dtypes of those of train"),
        ((Plain(), (X, ["a"] * 48)), {}, "the targets of train must be arrays of numbers"),
        ((Plain(), ({}, Y)), {}, "the inputs of train hold no array"),
        ((Plain(), (X, X[:, 0])), {}, "loss must be given for targets that are no array of integers"),
        ((Plain(), (X, X[:, 0])), {"loss": "cross_entropy"}, "cross_entropy needs integer targets, not float64"),
        ((Plain(), (X, Y)), {"loss": "cross-entropy"}, "unknown 'cross-entropy'; did you mean 'cross_entropy'"),
        ((Plain(), (X, Y)), {"loss": lambda outputs, targets: outputs}, "loss must return one real number"),
        (
            (Plain(), (X, Y)),
            {"loss": lambda outputs: 0.0},
            "loss cannot be computed from outputs and targets: TypeError",
        ),
        ((Plain(), (X, X[:, 0])), {"loss": "mean_squared_error"}, r"outputs \[examples, 3\] must have the shape"),
        (
            (Plain(), (X, Y[:, None])),
            {},
            r"outputs \[examples, 3\] must have \[\*targets, classes\] for targets \[exam",
        ),
        (
            (Plain(), (X, Y + 1)),
            {},
            "the targets of train are 1 to 3, but the module has 3 outputs, the classes 0 to 2",
        ),
        ((Plain(), (X, Y), (X, Y - 1)), {}, "the targets of test are -1 to 1, but the module has 3 outputs"),
        ((Plain(), (X, Y)), {"precise_batch_norm": True}, "the module has no BatchNorm that a training call updates"),
        (
            (FixedNorm(), (X, Y)),
            {"precise_batch_norm": True},
            "the module has no BatchNorm that a training call updates",
        ),
        (
            (Plain(), (X, Y)),
            {"trainable": lambda path, leaf: False},
            "trainable is False for every parameter: Dense_0/",
        ),
        (
            (Plain(), (X, Y)),
            {"trainable": lambda path, leaf: 1},
            "trainable must be True or False for Dense_0/.*, not 1",
        ),
        ((Plain(), (X, Y)), {"trainable": {"Dense_1": True}}, "trainable must be a function .* or a tree of True and"),
        ((Plain(), (X, Y)), {"augment": 3}, r"augment must be a function of \(key, batch\), not 3"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_compiles(arguments, options, message, monkeypatch):
    monkeypatch.setattr(jax._src.compiler, "backend_compile_and_load", lambda *_, **__: pytest.fail("compiled"))
    with pytest.raises(InputError, match=message):
        mj.flax_task(*arguments, **options)


CFG = mj.Config(
    iterations=20,
    batch_size=8,
    seeds=(5, 6),
    optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9)},
)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "module", [pytest.param(LinenNet(), marks=pytest.mark.exhaustive, id="linen"), pytest.param(NnxNet, id="nnx")]
)
def test_networks_with_statistics_dropout_frozen_parameters_and_augmentation_are_trained(module):
    task = mj.flax_task(
        module,
        (X, Y),
        (X, Y),
        precise_batch_norm=True,
        trainable=lambda path, leaf: leaf.ndim == 2,
        augment=noise(0.01),
    )
    result = mj.train(CFG, task=task)
    losses = result.losses_before["momentum"]
    assert losses.shape == (2, 20)
    assert np.isfinite(losses).all()
    # With an axis of seeds in front.
    params, state = result.params["momentum"]
    assert {leaf.ndim for leaf in jax.tree.leaves(params)} == {3}
    assert {leaf.ndim for leaf in jax.tree.leaves(state)} == {2}


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "module",
    [
        pytest.param(LinenNet(rate=0.0), marks=pytest.mark.exhaustive, id="linen"),
        pytest.param(functools.partial(NnxNet, rate=0.0), id="nnx"),
    ],
)
def test_a_training_with_statistics_and_frozen_parameters_is_that_of_a_loop_written_by_hand(module):
    task = mj.flax_task(module, (X, Y), trainable=lambda path, leaf: leaf.ndim == 2)
    result = mj.train(CFG, task=task)
    params, state = mj.initial_params(CFG, 5, "momentum", task=task)
    velocity = jax.tree.map(jnp.zeros_like, params)
    step = jit(jax.value_and_grad(task.loss, has_aux=True))
    expected = []
    for rows in mj.batch_indices(CFG, 5, task=task):
        (loss, state), grads = step(params, state, (X[rows], Y[rows]))
        velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.1 * g, velocity, grads)
        params = jax.tree.map(jnp.add, params, velocity)
        expected.append(loss)
    # float32: roundings of 1e-7 grow over 20 steps.
    np.testing.assert_allclose(result.losses_before["momentum"][0], expected, rtol=1e-4)
    last = jax.tree.map(lambda a: a[0], result.params["momentum"])
    assert_trees_close(last, (params, state), rtol=1e-3, atol=1e-4)


def trained_by_linen(params, state, batches, keys):
    """Momentum on the network, step by step."""
    stats, velocity = state["batch_stats"], jax.tree.map(jnp.zeros_like, params)

    @jit
    def step(params, stats, velocity, x, y, key):
        (value, stats), grads = jax.value_and_grad(linen_loss, has_aux=True)(params, stats, x, y, key)
        velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.1 * g, velocity, grads)
        return value, jax.tree.map(jnp.add, params, velocity), stats, velocity

    for (x, y), key in zip(batches, keys, strict=True):
        value, params, stats, velocity = step(params, stats, velocity, x, y, key)
        yield value


def trained_by_nnx(params, state, batches, keys):
    """Momentum on the network as Flax's tutorial of NNX trains it."""
    model = NnxNet(nnx.Rngs(0))
    nnx.update(model, wide(nnx.state(model, (nnx.Param, nnx.BatchStat))))
    nnx.update(model, params)
    nnx.update(model, state)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    model.train()

    @nnx.jit
    def step(model, optimizer, x, y, key):
        nnx.reseed(model, default=key)
        value, grads = nnx.value_and_grad(lambda model: mean_cross_entropy(model(x), y))(model)
        optimizer.update(model, grads)
        return value

    for (x, y), key in zip(batches, keys, strict=True):
        yield step(model, optimizer, x, y, key)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("float64", "promoting")
@pytest.mark.parametrize(
    ("module", "trained"), [(LinenNet(), trained_by_linen), (NnxNet, trained_by_nnx)], ids=["linen", "nnx"]
)
def test_a_run_is_that_of_a_loop_in_flax_with_its_batches_weights_and_keys(module, trained):
    task = mj.flax_task(module, (X, Y))
    cfg = dataclasses.replace(CFG, iterations=100, dtype="float64", seeds=(5,))
    params, state = mj.initial_params(cfg, 5, "momentum", task=task)
    rows = mj.batch_indices(cfg, 5, task=task)
    keys = [mj.step_keys(5, iteration).loss for iteration in range(100)]
    expected = list(trained(params, state, [(X[r], Y[r]) for r in rows], keys))
    # float64: roundings of 1e-16 grow over 100 steps.
    np.testing.assert_allclose(mj.train(cfg, task=task).losses_before["momentum"][0], expected, rtol=1e-10)


def test_data_on_disk_stay_there_and_are_checked_by_a_sample(tmp_path):
    stored = np.memmap(tmp_path / "inputs", np.float32, "w+", shape=X.shape)
    stored[:] = X
    task = mj.flax_task(Plain(), (stored, Y), (X, Y))
    assert isinstance(task.train, HostData)
    assert task.baseline_loss == mj.flax_task(Plain(), (X, Y)).baseline_loss
    with pytest.raises(InputError, match="the targets of train are 1 to 3"):
        mj.flax_task(Plain(), (stored, Y + 1))


class LinenLearner(nn.Module):
    """Its mode has a name that nobody knows."""

    @nn.compact
    def __call__(self, x, learning=False, twice=False):
        x = nn.BatchNorm(use_running_average=not learning)(nn.Dense(3)(x))
        return nn.Dropout(0.5, deterministic=not learning)(2 * x if twice else x)


class NnxLearner(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.norm = nnx.Linear(4, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x, learning=False, twice=False):
        x = self.norm(self.dense(x), use_running_average=not learning)
        return 2 * x if twice else x


@pytest.mark.parametrize("module", [LinenLearner(), NnxLearner], ids=["linen", "nnx"])
def test_a_mode_of_another_name_is_refused_and_not_left_in_evaluation(module):
    with pytest.raises(InputError, match=r"^learning=True of .*Learner.__call__ turns on dropout or running averages"):
        mj.flax_task(module, (X, Y))


def test_a_flag_that_has_nothing_to_do_with_training_is_left_at_its_default():
    class Flagged(nn.Module):
        @nn.compact
        def __call__(self, x, train, twice=False):
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))
            return 2 * x if twice else x

    assert mj.flax_task(Flagged(), (X, Y)).has_state

"""The convolutional network and its task against PyTorch in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.tasks import ConvNet, augmentation
from momentum_jax.tasks.convnet import convnet
from momentum_jax.tasks.datasets import Dataset
from tests.compiling import jit

KINDS = {
    "plain": {},
    "residual": {"residual": True},
    "batch_norm": {"batch_norm": True},
    "both": {"batch_norm": True, "residual": True},
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Images of 9×8 in two colours, in three classes."""
    rng = np.random.default_rng(0)
    parts = [
        (rng.integers(0, 256, (n, 9, 8, 2), dtype=np.uint8), rng.integers(0, 3, n, dtype=np.int32)) for n in (40, 20)
    ]
    return Dataset.from_images(*parts, num_classes=3, source="drawn")


def moved(tree, seed=1):
    """The leaves moved at random, so that no bias is zero and no variance one."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) + rng.uniform(0.1, 0.5, leaf.shape), tree)


def torch_network(params, state, images, *, residual, train):
    """Logits [batch, classes] by PyTorch, and the tensors of the parameters."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    leaves = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), params["params"])
    stats = jax.tree.map(torch.tensor, state.get("batch_stats", {}))
    x = torch.tensor(images).permute(0, 3, 1, 2)

    def convolve(x, i, stride):
        conv, norm = leaves[f"Conv_{i}"], leaves.get(f"BatchNorm_{i}")
        x = functional.conv2d(x, conv["kernel"].permute(3, 2, 0, 1), conv.get("bias"), stride=stride, padding=1)
        if norm is None:
            return x
        running = (stats[f"BatchNorm_{i}"]["mean"], stats[f"BatchNorm_{i}"]["var"])
        return functional.batch_norm(x, *running, norm["scale"], norm["bias"], training=train, momentum=0.1)

    for i in range(0, sum(name.startswith("Conv") for name in leaves), 2):
        x = functional.relu(convolve(x, i, 2))
        y = convolve(x, i + 1, 1)
        x = functional.relu(x + y if residual else y)
    dense = leaves["Dense_0"]
    return x.mean(dim=(2, 3)) @ dense["kernel"] + dense["bias"], leaves, stats


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", KINDS)
def test_loss_gradients_and_running_means_are_those_of_pytorch(kind, dataset):
    torch = pytest.importorskip("torch")
    options = KINDS[kind]
    task = convnet(dataset, channels=(3, 4), **options)
    variables = task.init(jax.random.key(0))
    params, state = map(moved, variables) if options.get("batch_norm") else (moved(variables), {})
    batch = (dataset.x_train[:16], dataset.y_train[:16])

    images = batch[0].reshape(-1, 9, 8, 2) / 255
    logits, leaves, running = torch_network(params, state, images, residual=options.get("residual", False), train=True)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(batch[1].astype(np.int64)))
    expected.backward()

    def loss(params):
        given = task.loss(params, state, batch) if state else task.loss(params, batch)
        return given if state else (given, {})

    (value, after), gradients = jit(jax.value_and_grad(loss, has_aux=True))(params)
    # float64 on both sides; sums of some hundred products of numbers of the size of 1.
    np.testing.assert_allclose(value, expected.item(), rtol=1e-9)
    jax.tree.map(
        lambda own, leaf: np.testing.assert_allclose(own, leaf.grad.numpy(), rtol=1e-9, atol=1e-12),
        gradients["params"],
        leaves,
    )
    # The running variance of PyTorch is that of n − 1.
    for name, own in after.get("batch_stats", {}).items():
        np.testing.assert_allclose(own["mean"], running[name]["mean"].numpy(), rtol=1e-9)


def test_the_running_variance_moves_by_a_tenth_to_that_of_the_batch(dataset):
    task = convnet(dataset, channels=(3,), batch_norm=True)
    params, state = jit(task.init)(jax.random.key(0))
    batch = (dataset.x_train[:16], dataset.y_train[:16])
    _, after = jit(task.loss)(params, state, batch)
    kernel = np.asarray(params["params"]["Conv_0"]["kernel"], np.float64)
    padded = np.pad(batch[0].reshape(-1, 9, 8, 2) / 255, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    convolved = np.einsum("nhwcij,ijco->nhwo", windows, kernel)
    # float32 against float64: a variance of sums of 18 products.
    expected = 0.9 + 0.1 * convolved.var(axis=(0, 1, 2))
    np.testing.assert_allclose(after["batch_stats"]["BatchNorm_0"]["var"], expected, rtol=1e-4)
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["residual", "both"])
def test_the_evaluation_uses_the_running_statistics(kind, dataset):
    torch = pytest.importorskip("torch")
    options = KINDS[kind]
    task = convnet(dataset, channels=(3, 4), **options)
    variables = task.init(jax.random.key(0))
    params, state = map(moved, variables) if options.get("batch_norm") else (moved(variables), {})
    evaluated = jit(task.evaluate)(params, *([state] if state else []), task.train, task.test)
    for part, x, y in (("train", *task.train), ("test", *task.test)):
        logits, *_ = torch_network(params, state, x.reshape(-1, 9, 8, 2) / 255, residual=True, train=False)
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(y.astype(np.int64)))
        np.testing.assert_allclose(evaluated[f"{part}_loss"], expected.item(), rtol=1e-9)
    accuracy = (logits.argmax(dim=1).numpy() == y).mean()
    np.testing.assert_allclose(evaluated["test_accuracy"], accuracy, rtol=1e-12)


def test_dropout_depends_on_the_key_and_not_in_the_evaluation(dataset):
    task, plain = (convnet(dataset, channels=(8,), dropout=dropout) for dropout in (0.5, 0.0))
    assert (task.has_key, plain.has_key, task.has_state) == (True, False, False)
    params = jit(task.init)(jax.random.key(0))
    batch = (dataset.x_train, dataset.y_train)
    loss = jit(task.loss)
    first, again, other = (float(loss(params, batch, jax.random.key(seed))) for seed in (0, 0, 1))
    assert first == again != other
    evaluated, expected = (jit(each.evaluate)(params, each.train, each.test) for each in (task, plain))
    assert evaluated == expected


def test_dropout_zeroes_inputs_of_the_last_layer_and_scales_the_others(dataset):
    network = ConvNet(num_classes=1, channels=(64,), dropout=0.25)
    images = jnp.ones([1, 8, 8, 1])
    params = network.init(jax.random.key(0), images)
    # A last layer that sums its inputs, and inputs that are all 1 before dropout.
    conv = jax.tree.map(jnp.zeros_like, params["params"])
    conv["Conv_1"]["bias"] = jnp.ones([64])
    conv["Dense_0"]["kernel"] = jnp.ones([64, 1])
    apply = jit(lambda key: network.apply({"params": conv}, images, train=True, rngs={"dropout": key}))
    sums = np.asarray([apply(jax.random.key(seed))[0, 0] for seed in range(50)])
    kept = sums * 0.75
    np.testing.assert_allclose(kept, kept.round(), atol=1e-4)
    # The mean of 50 · 64 draws with probability 0.75: five standard errors are 0.04.
    assert abs(kept.mean() / 64 - 0.75) < 0.04


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_have_at_least_float32_and_gradients_the_dtype_of_the_parameters(kind, dtype, dataset):
    task = convnet(dataset, channels=(3, 4), dropout=0.5, **KINDS[kind])
    with jax.enable_x64(dtype == "float64"):
        variables = jax.eval_shape(task.init, jax.random.key(0))
        params, *state = variables if task.has_state else (variables,)
        params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)
        if dtype == "float64":
            state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), state)
        batch = (dataset.x_train[:4], dataset.y_train[:4])

        step = jax.value_and_grad(task.loss, has_aux=task.has_state)
        value, gradients = jax.eval_shape(step, params, *state, batch, jax.random.key(0))
        value, *after = value if task.has_state else (value,)
        assert value.dtype == ("float64" if dtype == "float64" else "float32")
        assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(dtype)}
        assert after == state


def test_a_residual_network_has_the_parameters_of_a_plain_one(mnist):
    shapes = [
        jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(convnet(mnist, residual=residual).init, jax.random.key(0)))
        for residual in (False, True)
    ]
    assert shapes[0] == shapes[1]
    sizes = jax.tree.leaves(jax.eval_shape(convnet(mnist).init, jax.random.key(0)))
    assert sum(leaf.size for leaf in sizes) == 16_698


def test_initial_weights_are_normal_with_variance_two_over_fan_in(mnist):
    params = jit(convnet(mnist, channels=(64,)).init)(jax.random.key(0))["params"]
    # 36,864 draws: five standard errors of a standard deviation are 2 %.
    np.testing.assert_allclose(np.std(params["Conv_1"]["kernel"]), np.sqrt(2 / (9 * 64)), rtol=0.02)
    assert np.abs(params["Conv_1"]["kernel"]).max() > 3 * np.sqrt(2 / (9 * 64))
    np.testing.assert_array_equal(params["Conv_1"]["bias"], np.zeros(64))


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "residual": True, "dropout": 0.1}], ids=str)
def test_training_lowers_the_loss(options, idx):
    task = convnet(mj.load_dataset(str(idx)), channels=(8, 8), **options)
    optimizers = {"it": mj.OptimizerConfig("momentum", learning_rate=0.03)}
    result = mj.train(mj.Config(iterations=150, batch_size=32, optimizers=optimizers), task=task)
    losses = result.losses_before["it"][0]
    assert losses[-20:].mean() < 0.7 * losses[:5].mean()


def test_an_augmentation_is_that_of_the_task_and_shares_the_functions(dataset):
    def flip(key, batch):
        return (batch[0].reshape(-1, 9, 8, 2)[:, :, ::-1].reshape(batch[0].shape), batch[1])

    task, plain = convnet(dataset, augment=flip), convnet(dataset)
    assert (task.augment, plain.augment) == (flip, None)
    assert (task.init, task.loss, task.evaluate) == (plain.init, plain.loss, plain.evaluate)


def test_a_shift_is_that_of_augmentation_on_images_of_this_shape(dataset):
    # Equal arguments give the same function.
    assert convnet(dataset, shift=2).augment is augmentation.shift(2, dataset.image_shape)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": ()}, "channels must hold at least one number"),
        ({"channels": (4, 0)}, "channels must be an integer of at least 1, not 0"),
        ({"dropout": 1.0}, "dropout must be in [0, 1), not 1.0"),
        ({"dropout": -0.1}, "dropout must be in [0, 1), not -0.1"),
        ({"shift": 8}, "shift must be an integer of at least 0 and at most 7, not 8"),
        ({"shift": 1, "augment": lambda key, batch: batch}, "shift 1 and augment cannot both be given"),
        ({"augment": "flip"}, "augment must be a function of (key, batch), not 'flip'"),
    ],
)
def test_what_makes_no_network_is_refused(options, said, dataset):
    with pytest.raises(InputError) as error:
        convnet(dataset, **options)
    assert said in str(error.value)


def test_data_that_are_no_images_are_refused(dataset):
    with pytest.raises(InputError, match="dataset must be a Dataset"):
        convnet("mnist")
    for shape in ((144,), (9, 8), (9, 8, 2, 1)):
        with pytest.raises(InputError, match=r"dataset must be of images, of height × width \(× channels\) = 144"):
            convnet(dataclasses.replace(dataset, image_shape=shape))

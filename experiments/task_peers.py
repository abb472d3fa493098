"""The tasks by name beside a plain loop of Flax and Optax, to be timed by benchmark.py.

The loop is that of Flax's own tutorials: a TrainState, one jitted step that gives its state away, a Python loop. It has
the task's data, weights and batches of 128, and momentum. Its networks are the package's, which are plain linen
modules; its losses are written out here. Each records the loss before each update. The tests hold the losses of the
loop against the package's. A loop over several seeds takes as long a seed as this loop for one.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState
from jaxtyping import PyTree
from peers import WARM_UP
from plain_script import MOMENTUM

import momentum_jax as mj
from momentum_jax._base.machine import cores
from momentum_jax.tasks import Autoencoder, CharTransformer, ConvNet

LABEL = "momentum"
LEARNING_RATES = {
    "convnet": 0.01,
    "char_transformer": 0.01,
    # Its loss is a sum over the pixels.
    "autoencoder": 0.001,
    "logistic": 0.01,
    "least_squares": 0.01,
}
# Of the tutorial's iterations, those that a task has; a step of the last two takes microseconds.
ITERATIONS = {
    "convnet": 0.1,
    "char_transformer": 0.1,
    "autoencoder": 0.1,
    "logistic": 1,
    "least_squares": 1,
}

Loss = Callable[[Any, Any], jax.Array]


def iterations_of(name: str, iterations: int) -> int:
    """How many a task has, where the tutorial has so many."""
    return max(1, round(ITERATIONS[name] * iterations))


def config(name: str, iterations: int, seeds: int = 1) -> mj.Config:
    optimizer = mj.OptimizerConfig("momentum", learning_rate=LEARNING_RATES[name], momentum=MOMENTUM)
    return mj.Config(iterations=iterations, seeds=seeds, optimizers={LABEL: optimizer}, loss_after=False)


def no_evaluation(params: PyTree[Any], train: PyTree[Any], test: PyTree[Any]) -> dict[str, jax.Array]:
    del params, train, test
    return {"train_loss": jnp.zeros([])}


def task_seconds(name: str, seeds: int, iterations: int, **arguments: Any) -> float:
    """Of the training phase of `mj.train`, divided by the number of seeds.

    Raises:
      RuntimeError: a run diverged, and so did not train all iterations.
    """
    jax.config.update("jax_num_cpu_devices", cores())
    # Evaluations are not timed, and those of the full sets would take longer than the training.
    task = dataclasses.replace(mj.make_task(name, **arguments), evaluate=no_evaluation)
    result = mj.train(config(name, iterations, seeds), task=task)
    if not np.isfinite(result.losses_before[LABEL]).all():
        raise RuntimeError(f"{name} diverged")
    return float(result.provenance["seconds"]["training"]) / seeds


def loop_seconds(name: str, iterations: int, **arguments: Any) -> float:
    """Of the loop of one seed, once everything is loaded and compiled."""
    task, cfg = mj.make_task(name, **arguments), config(name, iterations)
    train = flax_loop(name, task, mj.initial_params(cfg, 0, LABEL, task=task))
    batches = mj.batch_indices(cfg, 0, task=task)
    train(batches[:WARM_UP])
    began = time.perf_counter()
    train(batches)
    return time.perf_counter() - began


def flax_loop(name: str, task: mj.Task, params: PyTree[Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of batches (int [iterations, batch], rows of the training set) that trains on.

    It returns the losses [iterations] before the updates. The examples of a batch are taken by NumPy, as a loader does.
    """
    loss, data = LOSSES[name](task, params)
    optimizer = optax.sgd(LEARNING_RATES[name], MOMENTUM)
    # Copies, because the step gives its arguments away. The state takes a dict only.
    variables = {"params": jax.tree.map(jnp.array, params)}
    state = TrainState.create(apply_fn=loss, params=variables, tx=optimizer)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, jax.Array]:
        value, grads = jax.value_and_grad(lambda variables: loss(variables["params"], batch))(state.params)
        return state.apply_gradients(grads=grads), value

    def train(batches: np.ndarray) -> np.ndarray:
        nonlocal state
        losses = []
        for rows in batches:
            state, value = train_step(state, jax.tree.map(lambda array, rows=rows: array[rows], data))
            losses.append(value)
        return np.array(losses)

    return train


def _cross_entropy(logits: Any, labels: jax.Array) -> jax.Array:
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def _convnet(task: mj.Task, params: PyTree[Any]) -> tuple[Loss, PyTree[np.ndarray]]:
    pixels, labels = task.train
    layers = params["params"]
    channels = tuple(layers[f"Conv_{i}"]["bias"].size for i in range(0, len(layers) - 1, 2))
    network = ConvNet(layers["Dense_0"]["bias"].size, channels)
    side = round(pixels.shape[1] ** 0.5)
    images = pixels.reshape(-1, side, side, 1).astype(np.float32) / np.float32(255)
    return lambda params, batch: _cross_entropy(network.apply(params, batch[0]), batch[1]), (images, labels)


def _char_transformer(task: mj.Task, params: PyTree[Any]) -> tuple[Loss, PyTree[np.ndarray]]:
    symbols, width = params["params"]["embedding"].shape
    context = params["params"]["positions"].shape[0]
    layers = sum(name.startswith("mlp_norm") for name in params["params"])
    network = CharTransformer(symbols, layers, width, heads=2, context=context)
    windows = task.train.astype(np.int32)
    return lambda params, batch: _cross_entropy(network.apply(params, batch[:, :-1]), batch[:, 1:]), windows


def _autoencoder(task: mj.Task, params: PyTree[Any]) -> tuple[Loss, PyTree[np.ndarray]]:
    *hidden, code = [layer["bias"].size for layer in params["params"].values()][: len(params["params"]) // 2]
    network = Autoencoder(task.train.shape[1], tuple(hidden), code)
    images = task.train.astype(np.float32) / np.float32(255)

    def loss(params: Any, batch: jax.Array) -> jax.Array:
        logits: Any = network.apply(params, batch)
        losses: jax.Array = optax.sigmoid_binary_cross_entropy(logits, batch).sum(axis=-1)
        return losses.mean()

    return loss, images


def _logistic(task: mj.Task, params: PyTree[Any]) -> tuple[Loss, PyTree[np.ndarray]]:
    del params

    def loss(params: Any, batch: Any) -> jax.Array:
        images, labels = batch
        return _cross_entropy(images @ params["weights"] + params["bias"][None], labels)

    return loss, task.train


def _least_squares(task: mj.Task, params: PyTree[Any]) -> tuple[Loss, PyTree[np.ndarray]]:
    del params
    x, y = task.train
    data = x.astype(np.float32), y.astype(np.float32)
    return lambda params, batch: 0.5 * jnp.mean((batch[0] @ params - batch[1]) ** 2), data


LOSSES: dict[str, Callable[[mj.Task, PyTree[Any]], tuple[Loss, PyTree[np.ndarray]]]] = {
    "convnet": _convnet,
    "char_transformer": _char_transformer,
    "autoencoder": _autoencoder,
    "logistic": _logistic,
    "least_squares": _least_squares,
}
"""By task, from it and its weights to the loss as a user of Flax writes it, and the data in the form that it takes."""

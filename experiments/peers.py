"""Other people's ways of doing the tutorial's work, each as its users write it, to be timed by benchmark.py.

The work: SGD and Momentum, each on its own copy of one 784-100-100-100-100-10 network, on the same batches of 128
MNIST images, with the loss of each batch recorded before and after its update. The tests check that the losses are
those of the NumPy loop, so that nothing is compared with somebody who does less.

A peer takes initial weights "W0", "b0", "W1", … and returns a function of batches (int [iterations, batch], rows of the
training set) that trains on and returns the losses [before and after, optimizers, iterations]. The peers of many seeds
train all of them at once.
"""

import copy
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState
from numpy_tutorial import MiniSGD, Momentum, Params
from numpy_tutorial import train as train_with_numpy

import momentum_jax as mj

LAYERS = (784, 100, 100, 100, 100, 10)
BATCH = 128
LEARNING_RATE = 0.01
MOMENTUM = 0.9
WARM_UP = 3

Train = Callable[[np.ndarray], np.ndarray]


def flops_per_step() -> int:
    """Of the matrix products of one step of one optimizer: forward, backward, and forward again after the update.

    The backward pass has two products a layer, but needs no gradient with respect to the pixels.
    """
    products = [2 * BATCH * a * b for a, b in itertools.pairwise(LAYERS)]
    return 4 * sum(products) - products[0]


def matrix_product_peak(n: int = 2048) -> float:
    """FLOP/s of NumPy in a float32 product of two n×n matrices: the best of ten, with NumPy's default threads."""
    a = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / min(seconds)


class UnavailableError(Exception):
    """This machine cannot run that peer."""


@functools.cache
def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [examples, 784], scaled to [0, 1], and labels int32 [examples]."""
    dataset = mj.load_dataset("mnist")
    return dataset.x_train.astype(np.float32) / np.float32(255), dataset.y_train


def initial_params(seed: int, dtype: type = np.float32) -> Params:
    """Weights as He et al. (2015) draw them, and no biases."""
    rng = np.random.default_rng(seed)
    params = {}
    for i, (a, b) in enumerate(itertools.pairwise(LAYERS)):
        params[f"W{i}"] = (rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype(dtype)
        params[f"b{i}"] = np.zeros(b, dtype)
    return params


def seconds(peer: Callable[[Params], Train], iterations: int, dtype: type = np.float32) -> float:
    """Of training both networks, once everything is loaded and compiled."""
    train = peer(initial_params(0, dtype))
    batches = np.random.default_rng(1).integers(0, len(mnist()[0]), (iterations, BATCH))
    train(batches[:WARM_UP])
    return _elapsed(lambda: train(batches))


def seconds_a_seed(peer: Callable[[Sequence[Params]], Train], seeds: int, iterations: int) -> float:
    """Of training both networks for each of several seeds, once everything is loaded, divided by their number."""
    train = peer([initial_params(seed) for seed in range(seeds)])
    batches = np.random.default_rng(1).integers(0, len(mnist()[0]), (iterations, seeds, BATCH))
    train(batches[:WARM_UP])
    return _elapsed(lambda: train(batches)) / seeds


def _elapsed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def numpy_loop(params: Params) -> Train:
    """The tutorial's loop, which computes the loss after each update only."""
    x, labels = mnist()
    optimizers: list[MiniSGD | Momentum] = [MiniSGD(LEARNING_RATE), Momentum(LEARNING_RATE, MOMENTUM)]
    return lambda batches: train_with_numpy(params, x, labels, batches, optimizers)[1][None]


def flax_step(state: TrainState, images: jax.Array, labels: jax.Array) -> tuple[TrainState, jax.Array, jax.Array]:
    """One update, and the loss before and after it, as Flax's own examples have it."""

    def loss(params: object) -> jax.Array:
        logits = state.apply_fn(params, images)
        losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    before, grads = jax.value_and_grad(loss)(state.params)
    state = state.apply_gradients(grads=grads)
    return state, before, loss(state.params)


def flax_optimizers() -> list[optax.GradientTransformation]:
    return [optax.sgd(LEARNING_RATE), optax.sgd(LEARNING_RATE, MOMENTUM)]


def flax_params(params: Params) -> dict[str, Any]:
    layers = range(len(params) // 2)
    return {"params": {f"Dense_{i}": {"kernel": params[f"W{i}"], "bias": params[f"b{i}"]} for i in layers}}


def flax_loop(params: Params) -> Train:
    """The loop of Flax's own examples: a TrainState for each optimizer, one jitted step an iteration."""
    x, labels = (jnp.asarray(array) for array in mnist())
    variables = jax.tree.map(jnp.asarray, flax_params(params))
    states = [TrainState.create(apply_fn=mj.MLP().apply, params=variables, tx=tx) for tx in flax_optimizers()]
    train_step = jax.jit(flax_step)

    def train(batches: np.ndarray) -> np.ndarray:
        losses = []
        for rows in batches:
            images, targets = x[rows], labels[rows]
            for i, state in enumerate(states):
                states[i], before, after = train_step(state, images, targets)
                losses.append((before, after))
        return np.array(losses).reshape(len(batches), len(states), 2).T

    return train


def make_train(
    optimizer: optax.GradientTransformation, iterations: int
) -> Callable[[jax.Array, jax.Array, jax.Array], tuple[Any, jax.Array]]:
    """All of training as one function of a key, as in PureJaxRL: weights and batches are drawn inside it.

    Its other arguments are the images and labels; it returns the trained weights and the losses [iterations, 2].
    """
    mlp = mj.MLP()

    def train(key: jax.Array, x: jax.Array, labels: jax.Array) -> tuple[Any, jax.Array]:
        key, init_key = jax.random.split(key)
        state = TrainState.create(apply_fn=mlp.apply, params=mlp.init(init_key, x[:1]), tx=optimizer)

        def update_step(carry: tuple[TrainState, jax.Array], _: None) -> tuple[tuple[TrainState, jax.Array], jax.Array]:
            state, key = carry
            key, batch_key = jax.random.split(key)
            rows = jax.random.randint(batch_key, [BATCH], 0, len(labels))
            state, before, after = flax_step(state, x[rows], labels[rows])
            return (state, key), jnp.stack([before, after])

        (state, _), losses = jax.lax.scan(update_step, (state, key), None, iterations)
        return state.params, losses

    return train


def purejaxrl_seconds_a_seed(seeds: int, iterations: int) -> float:
    """Of both optimizers by one jit of a vmap over seeds each, once compiled, divided by the number of seeds."""
    keys = jax.random.split(jax.random.key(0), seeds)
    x, labels = (jnp.asarray(array) for array in mnist())
    programs = [
        jax.jit(jax.vmap(make_train(optimizer, iterations), in_axes=(0, None, None))).lower(keys, x, labels).compile()
        for optimizer in flax_optimizers()
    ]
    return _elapsed(lambda: jax.block_until_ready([program(keys, x, labels) for program in programs])) / seeds


def torch_mnist() -> tuple[Any, Any]:
    import torch

    x, labels = mnist()
    return torch.from_numpy(x), torch.from_numpy(labels).long()


def torch_network(params: Params) -> Any:
    import torch

    modules: list[Any] = []
    for i in range(len(params) // 2):
        weight, bias = torch.tensor(params[f"W{i}"]), torch.tensor(params[f"b{i}"])
        linear = torch.nn.Linear(*weight.shape)
        linear.load_state_dict({"weight": weight.T, "bias": bias})
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def torch_optimizers(networks: Sequence[Any]) -> list[Any]:
    """SGD for the parameters of the first network, Momentum for those of the second."""
    from torch.optim import SGD

    return [SGD(params, LEARNING_RATE, m) for params, m in zip(networks, (0.0, MOMENTUM), strict=True)]


def torch_step(network: Any, optimizer: Any, images: Any, targets: Any) -> tuple[Any, Any]:
    """One update, and the loss before and after it."""
    import torch
    from torch.nn.functional import cross_entropy

    optimizer.zero_grad()
    before = cross_entropy(network(images), targets)
    before.backward()
    optimizer.step()
    with torch.no_grad():
        after = cross_entropy(network(images), targets)
    return before.detach(), after


def torch_eager(params: Params) -> Train:
    """PyTorch as it comes, on all the cores that it takes by itself."""
    return _torch_loop(params, torch_step)


def torch_compiled(params: Params) -> Train:
    """The same with the step compiled, which needs a C++ compiler.

    Raises:
      UnavailableError: when training, if it cannot be compiled here.
    """
    import torch
    from torch._dynamo.exc import TorchDynamoException

    loop = _torch_loop(params, torch.compile(torch_step))

    def train(batches: np.ndarray) -> np.ndarray:
        try:
            return loop(batches)
        except TorchDynamoException as error:
            raise UnavailableError(f"torch.compile: {str(error).splitlines()[0]}") from error

    return train


def _torch_loop(params: Params, step: Callable[..., tuple[Any, Any]]) -> Train:
    import torch

    x, labels = torch_mnist()
    networks = [torch_network(params), torch_network(params)]
    optimizers = torch_optimizers([network.parameters() for network in networks])

    def train(batches: np.ndarray) -> np.ndarray:
        losses = []
        for rows in torch.from_numpy(batches):
            images, targets = x[rows], labels[rows]
            losses += [
                torch.stack(step(network, optimizer, images, targets))
                for network, optimizer in zip(networks, optimizers, strict=True)
            ]
        return np.asarray(torch.stack(losses)).reshape(len(batches), len(networks), 2).T

    return train


def torch_vmap(params: Sequence[Params]) -> Train:
    """PyTorch's recipe for ensembles: the networks of all seeds stacked, and `torch.func` mapped over them.

    Batches are int [iterations, seeds, batch], losses [before and after, optimizers, iterations, seeds].
    """
    import torch
    from torch.func import functional_call, stack_module_state
    from torch.nn.functional import cross_entropy

    x, labels = torch_mnist()
    networks = [torch_network(each) for each in params]
    skeleton = copy.deepcopy(networks[0]).to("meta")
    stacks = [stack_module_state(networks) for _ in range(2)]
    optimizers = torch_optimizers([stack.values() for stack, _ in stacks])

    def loss(params: Any, buffers: Any, images: Any, targets: Any) -> Any:
        return cross_entropy(functional_call(skeleton, (params, buffers), (images,)), targets)

    losses_of: Any = torch.vmap(loss)

    def step(stack: Any, optimizer: Any, images: Any, targets: Any) -> Any:
        optimizer.zero_grad()
        before = losses_of(*stack, images, targets)
        before.sum().backward()
        optimizer.step()
        with torch.no_grad():
            after = losses_of(*stack, images, targets)
        return torch.stack([before.detach(), after])

    def train(batches: np.ndarray) -> np.ndarray:
        losses = []
        for rows in torch.from_numpy(batches):
            images, targets = x[rows], labels[rows]
            both = [
                step(stack, optimizer, images, targets) for stack, optimizer in zip(stacks, optimizers, strict=True)
            ]
            losses.append(torch.stack(both, 1))
        return np.asarray(torch.stack(losses, 2))

    return train

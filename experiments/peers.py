"""Other people's ways of doing the tutorial's work, each as its users write it, to be timed by benchmark.py.

The work: SGD and Momentum, each on its own copy of one 784-100-100-100-100-10 network, on the same batches of 128
MNIST images, with the loss of each batch recorded before and after its update. The tests check that the losses are
those of the NumPy loop, so that nothing is compared with somebody who does less.

Sweeps are of trials, pairs of a learning rate and a momentum. Each is a run of 2,000 iterations that records the loss
before each update only, since nobody asks for the other.

A peer takes initial weights "W0", "b0", "W1", … and returns a function of batches (int [iterations, batch], rows of the
training set) that trains on and returns the losses [before and after, optimizers, iterations]. The peers of many seeds
train all of them at once.
"""

import copy
import functools
import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState
from numpy_tutorial import MiniSGD, Momentum, Params
from numpy_tutorial import train as train_with_numpy
from plain_script import BATCH, LEARNING_RATE, MLP, MOMENTUM, mean_loss, train_step

import momentum_jax as mj
from momentum_jax._base.machine import cores

LAYERS = (784, 100, 100, 100, 100, 10)
WARM_UP = 3

Train = Callable[[np.ndarray], np.ndarray]


def flops_per_step(loss_after: bool = True) -> int:
    """Of the matrix products of one step of one optimizer: forward, backward, and forward again after the update.

    The backward pass has two products a layer, but needs no gradient with respect to the pixels.
    """
    products = [2 * BATCH * a * b for a, b in itertools.pairwise(LAYERS)]
    return (4 if loss_after else 3) * sum(products) - products[0]


def matrix_product_limit(n: int = 1024, seconds: float = 3.0) -> float:
    """FLOP/s of NumPy in float32 products of two n×n matrices, with all cores at work at once.

    Each core has a thread of its own, so BLAS must have one thread. One core alone does more than its part of this.
    """
    a = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    ready = threading.Barrier(cores())

    def products_a_second(_: int) -> float:
        ready.wait()
        began, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < seconds:
            a @ a
            count += 1
        return count / elapsed

    with ThreadPoolExecutor(cores()) as threads:
        return 2 * n**3 * sum(threads.map(products_a_second, range(cores())))


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


def flax_optimizers() -> list[optax.GradientTransformation]:
    return [optax.sgd(LEARNING_RATE), optax.sgd(LEARNING_RATE, MOMENTUM)]


def flax_params(params: Params) -> dict[str, Any]:
    layers = range(len(params) // 2)
    return {"params": {f"Dense_{i}": {"kernel": params[f"W{i}"], "bias": params[f"b{i}"]} for i in layers}}


def flax_loop(params: Params) -> Train:
    """The loop of Flax's own examples: a TrainState for each optimizer, one jitted step an iteration."""
    x, labels = (jnp.asarray(array) for array in mnist())
    variables = jax.tree.map(jnp.asarray, flax_params(params))
    states = [TrainState.create(apply_fn=MLP().apply, params=variables, tx=tx) for tx in flax_optimizers()]

    @jax.jit
    def step(state: TrainState, images: jax.Array, targets: jax.Array) -> tuple[TrainState, jax.Array, jax.Array]:
        state, before = train_step(state, images, targets)
        return state, before, mean_loss(state.params, images, targets)

    def train(batches: np.ndarray) -> np.ndarray:
        losses = []
        for rows in batches:
            images, targets = x[rows], labels[rows]
            for i, state in enumerate(states):
                states[i], before, after = step(state, images, targets)
                losses.append((before, after))
        return np.array(losses).reshape(len(batches), len(states), 2).T

    return train


def make_train(
    optimizer: optax.GradientTransformation, iterations: int, loss_after: bool = True
) -> Callable[[jax.Array, jax.Array, jax.Array], tuple[Any, jax.Array]]:
    """All of training as one function of a key, as in PureJaxRL: weights and batches are drawn inside it.

    Its other arguments are the images and labels; it returns the trained weights and the losses [iterations, 2], or
    [iterations, 1] without those after the updates.
    """
    mlp = MLP()

    def train(key: jax.Array, x: jax.Array, labels: jax.Array) -> tuple[Any, jax.Array]:
        key, init_key = jax.random.split(key)
        state = TrainState.create(apply_fn=mlp.apply, params=mlp.init(init_key, x[:1]), tx=optimizer)

        def update_step(carry: tuple[TrainState, jax.Array], _: None) -> tuple[tuple[TrainState, jax.Array], jax.Array]:
            state, key = carry
            key, batch_key = jax.random.split(key)
            rows = jax.random.randint(batch_key, [BATCH], 0, len(labels))
            images, targets = x[rows], labels[rows]
            state, before = train_step(state, images, targets)
            losses = [before, mean_loss(state.params, images, targets)] if loss_after else [before]
            return (state, key), jnp.stack(losses)

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


def vmap_sweep(iterations: int, *, one_key: bool) -> Callable[..., tuple[Any, jax.Array]]:
    """A sweep as PureJaxRL has it: `make_train` under a vmap over hyperparameters and keys.

    Its arguments are learning rates, momenta and keys [trials], the images and the labels. With `one_key` all
    trials have the same, and so the same batches, which XLA then fetches and multiplies once for all.
    """

    def train(
        learning_rate: jax.Array, momentum: jax.Array, key: jax.Array, x: jax.Array, labels: jax.Array
    ) -> tuple[Any, jax.Array]:
        return make_train(optax.sgd(learning_rate, momentum), iterations, loss_after=False)(key, x, labels)

    return jax.vmap(train, in_axes=(0, 0, None if one_key else 0, None, None))


def vmap_sweep_seconds(trials: Sequence[tuple[float, float]], iterations: int, *, one_key: bool = False) -> float:
    """Of one jit of that sweep, once compiled, on all the cores that XLA takes by itself."""
    key = jax.random.key(0)
    keys = key if one_key else jax.random.split(key, len(trials))
    hyperparameters = jnp.asarray(trials, jnp.float32).T
    arguments = (*hyperparameters, keys, *(jnp.asarray(array) for array in mnist()))
    program = jax.jit(vmap_sweep(iterations, one_key=one_key)).lower(*arguments).compile()
    return _elapsed(lambda: jax.block_until_ready(program(*arguments)))


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


def torch_update(network: Any, optimizer: Any, images: Any, targets: Any) -> Any:
    """One update; returns the loss before it."""
    from torch.nn.functional import cross_entropy

    optimizer.zero_grad()
    loss = cross_entropy(network(images), targets)
    loss.backward()
    optimizer.step()
    return loss.detach()


def torch_step(network: Any, optimizer: Any, images: Any, targets: Any) -> tuple[Any, Any]:
    """One update, and the loss before and after it."""
    import torch
    from torch.nn.functional import cross_entropy

    before = torch_update(network, optimizer, images, targets)
    with torch.no_grad():
        after = cross_entropy(network(images), targets)
    return before, after


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


def torch_run(learning_rate: float, momentum: float, batches: np.ndarray) -> np.ndarray:
    """Trains one trial of a sweep; returns the loss before each update."""
    import torch

    x, labels = torch_mnist()
    network = torch_network(initial_params(0))
    optimizer = torch.optim.SGD(network.parameters(), learning_rate, momentum)
    losses = [torch_update(network, optimizer, x[rows], labels[rows]) for rows in torch.from_numpy(batches)]
    return np.asarray(torch.stack(losses))


def torch_sweep_seconds(trials: Sequence[tuple[float, float]], iterations: int) -> float:
    """Of a sweep by a process a core, each with one thread and a loop over its trials, once all have loaded."""
    batches = np.random.default_rng(1).integers(0, len(mnist()[0]), (iterations, BATCH))
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores() + 1)
    with context.Pool(cores(), _begin_torch, (ready, batches[:WARM_UP])) as pool:
        ready.wait(timeout=300)
        work = [(*trial, batches) for trial in trials]
        return _elapsed(lambda: pool.starmap(torch_run, work, chunksize=1))


def _begin_torch(ready: Any, batches: np.ndarray) -> None:
    import torch

    torch.set_num_threads(1)
    torch_run(LEARNING_RATE, MOMENTUM, batches)
    ready.wait()

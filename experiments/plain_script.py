"""How is the work of `momentum-jax` written with Flax and Optax alone? One plain script, to be timed by benchmark.py.

    python experiments/plain_script.py DATA OUT

It trains the tutorial's network on MNIST with SGD, with momentum and with optax.sgd, from the same weights and on the
same batches, with the loss before and after each update. It evaluates each on the full sets, prints the losses, and
writes them with their figure.
"""

import argparse
import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax.training.train_state import TrainState

BATCH = 128
LEARNING_RATE = 0.01
MOMENTUM = 0.9
OPTIMIZERS = {
    "sgd": optax.sgd(LEARNING_RATE),
    # The learning rate is inside the velocity.
    "momentum": optax.chain(optax.scale(-LEARNING_RATE), optax.trace(MOMENTUM)),
    "optax": optax.sgd(LEARNING_RATE, MOMENTUM),
}


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        he = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        for size in (100, 100, 100, 100):
            x = nn.relu(nn.Dense(size, kernel_init=he)(x))
        return nn.Dense(10, kernel_init=he)(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, help="folder with the four files of MNIST, unpacked")
    parser.add_argument("out", type=pathlib.Path, help="folder for losses.npy, losses.png and losses.svg")
    parser.add_argument("--iterations", type=int, default=2000)
    arguments = parser.parse_args()

    x_train, y_train = load(arguments.data, "train")
    x_test, y_test = load(arguments.data, "t10k")
    init_key, batch_key = jax.random.split(jax.random.key(0))
    params = MLP().init(init_key, x_train[:1])
    batches = jax.random.randint(batch_key, [arguments.iterations, BATCH], 0, len(y_train))
    losses, ends = {}, {}
    for name, optimizer in OPTIMIZERS.items():
        trained, both = train(optimizer, params, batches, x_train, y_train)
        losses[name] = np.asarray(both)
        ends[name] = evaluate(trained, x_train, y_train)[0], evaluate(trained, x_test, y_test)[1]

    print("iteration  " + "  ".join(f"{name:>8}" for name in losses))
    for iteration in sorted({*range(0, arguments.iterations, 100), arguments.iterations - 1}):
        print(f"{iteration:9}  " + "  ".join(f"{both[iteration, 1]:8.4f}" for both in losses.values()))
    for name, (train_loss, test_accuracy) in ends.items():
        print(f"{name}: training loss {train_loss:.4f}, test accuracy {test_accuracy:.2%}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.save(arguments.out / "losses.npy", np.stack(list(losses.values())))
    draw(losses, arguments.out)


def load(folder: pathlib.Path, part: str) -> tuple[jax.Array, jax.Array]:
    """Images float32 [examples, 784], scaled to [0, 1], and labels int32 [examples], from IDX files."""
    pixels = np.frombuffer((folder / f"{part}-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
    labels = np.frombuffer((folder / f"{part}-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    return jnp.asarray(pixels.reshape(len(labels), -1).astype(np.float32) / 255), jnp.asarray(labels.astype(np.int32))


def mean_loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits: Any = MLP().apply(params, images)
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def train_step(state: TrainState, images: jax.Array, labels: jax.Array) -> tuple[TrainState, jax.Array]:
    """One update, and the loss before it."""
    loss, grads = jax.value_and_grad(mean_loss)(state.params, images, labels)
    return state.apply_gradients(grads=grads), loss


@functools.partial(jax.jit, static_argnums=0)
def train(
    optimizer: optax.GradientTransformation, params: Any, batches: jax.Array, x: jax.Array, labels: jax.Array
) -> tuple[Any, jax.Array]:
    """The trained weights, and the losses [iterations, before and after the update], in one scan."""

    def step(state: TrainState, rows: jax.Array) -> tuple[TrainState, jax.Array]:
        images, targets = x[rows], labels[rows]
        state, before = train_step(state, images, targets)
        return state, jnp.stack([before, mean_loss(state.params, images, targets)])

    state = TrainState.create(apply_fn=MLP().apply, params=params, tx=optimizer)
    state, losses = jax.lax.scan(step, state, batches)
    return state.params, losses


@jax.jit
def evaluate(params: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean loss and the accuracy."""
    logits: Any = MLP().apply(params, images)
    correct = logits.argmax(axis=-1).astype(labels.dtype) == labels
    return mean_loss(params, images, labels), correct.mean()


def draw(losses: dict[str, np.ndarray], folder: pathlib.Path) -> None:
    """The loss after each update, as the mean over eleven iterations."""
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for name, both in losses.items():
        axes.plot(np.convolve(both[:, 1], np.full(11, 1 / 11), mode="valid"), label=name, markevery=100, marker="o")
    axes.set(xlabel="Iterations", ylabel="Loss on the batch just used (smoothed)", ylim=(0, 1))
    axes.legend()
    for kind in ("png", "svg"):
        figure.savefig(folder / f"losses.{kind}")


if __name__ == "__main__":
    main()

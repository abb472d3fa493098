"""Does training in full batches bring a network to the edge of stability, with momentum too? Sharpness on MNIST.

Finding: Yes, in one run of each of a tanh network with squared error, to within 10 % of the threshold. With gradient
descent the sharpness begins at 3.8 and after 251 iterations reaches its threshold of 10.0; over the last 800 its median
is 1.04 times the threshold (80 % of it 1.02 to 1.07), while the loss goes from 0.11 to 0.079, rising in 39 % of the
steps. With heavy ball the sharpness begins at 3.8 and after 121 iterations reaches its threshold of 19.0; over the last
800 its median is 0.97 times the threshold (80 % of it 0.92 to 1.00), while the loss goes from 0.017 to 0.0056, rising
in 5 % of the steps. With Nesterov the sharpness begins at 3.8 and after 101 iterations reaches its threshold of 13.6;
over the last 800 its median is 1.01 times the threshold (80 % of it 1.00 to 1.03), while the loss goes from 0.04 to
0.023, rising in 36 % of the steps.

On a quadratic of curvature λ, gradient descent at the learning rate α is stable up to λ = 2/α, the heavy ball up to
2(1 + β)/α and Nesterov up to 2(1 + β)/(α(1 + 2β)). Cohen et al. (https://arxiv.org/abs/2103.00065) found that the
sharpness of a network, the top eigenvalue of its Hessian, rises to this threshold and then hovers there, while the loss
goes on falling, though not with every step. Here a network with tanh, 784-50-50-10, learns the first 5,000 images of
MNIST with the squared error; its initial weights are small, so that at first its sharpness is low. It is that of the
loss that is trained, over all images, after every 10th update, by 12 iterations of Lanczos's method.
"""

import argparse
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure
from study import Study, run

import momentum_jax as mj
from momentum_jax.analysis import sharpness, theory
from momentum_jax.report import STYLES
from momentum_jax.tasks import Params

# Gradient descent is the heavy ball with β = 0. At their rate Nesterov's threshold would be the lowest, though its
# sharpness rises fast; half the rate puts it between the others'.
OPTIMIZERS = {
    "gradient descent": mj.OptimizerConfig("momentum", learning_rate=0.2, momentum=0.0),
    "heavy ball": mj.OptimizerConfig("momentum", learning_rate=0.2, momentum=0.9),
    "Nesterov": mj.OptimizerConfig("nesterov", learning_rate=0.1, momentum=0.9),
}
EVERY = 10
# How far from the threshold the median may be where the sharpness is said to hover at it.
NEAR = 0.1


class Curve(NamedTuple):
    """One run: its sharpness and where it was measured, and the loss before each update."""

    threshold: float
    iterations: Int[np.ndarray, " measured"]
    sharpness: Float[np.ndarray, " measured"]
    losses: Float[np.ndarray, " iterations"]


def study(arguments: argparse.Namespace) -> Study:
    images, iterations, width = (100, 20, 5) if arguments.fast else (5000, 1600, 50)
    curves = train(images, iterations, (width, width), arguments.folder)
    numbers = {label: summary(curve) for label, curve in curves.items()}
    return Study(figure(curves), find(numbers), numbers)


def threshold(optimizer: mj.OptimizerConfig) -> float:
    """The largest curvature at which the method is stable on a quadratic."""
    limit = theory.nesterov_stability_limit if optimizer.name == "nesterov" else theory.heavy_ball_stability_limit
    return float(limit(optimizer.hyperparameters["momentum"])) / float(optimizer.hyperparameters["learning_rate"])


def squared_error(network: mj.MLP, params: Params, batch: tuple[Array, Array]) -> Float[Array, ""]:
    pixels, labels = batch
    outputs: Any = network.apply(params, pixels.astype(jnp.float32) / 255)
    return jnp.mean(jnp.sum((outputs - jax.nn.one_hot(labels, 10)) ** 2, axis=-1)) / 2


def train(images: int, iterations: int, hidden_sizes: tuple[int, ...], folder: pathlib.Path | None) -> dict[str, Curve]:
    dataset = mj.load_dataset("mnist")
    network = mj.MLP(hidden_sizes, num_classes=10, activation="tanh", weight_init=0.05)
    task = mj.Task(
        init=lambda key: network.init(key, jnp.zeros([1, 784])),
        loss=functools.partial(squared_error, network),
        train=(dataset.x_train[:images], dataset.y_train[:images]),
    )
    cfg = mj.Config(iterations=iterations, batch_size=images, sampling="epochs", optimizers=OPTIMIZERS)

    def measure(params: Params) -> Float[Array, ""]:
        top: Array = sharpness.top_eigenvalues(
            task.loss, params, task.train, jax.random.key(0), iterations=12, slice_size=min(images, 1000)
        )[0]
        return top

    result = mj.train(
        cfg,
        task=task,
        metrics={"sharpness": sharpness.metric(measure, every=EVERY)},
        chunk=20,
        checkpoint=folder and folder / "edge_of_stability.npz",
    )
    return {
        label: Curve(
            threshold(optimizer),
            result.iterations[::EVERY] + 1,
            result.metrics["sharpness"][label][0, ::EVERY],
            result.losses_before[label][0],
        )
        for label, optimizer in OPTIMIZERS.items()
    }


def summary(curve: Curve) -> dict[str, Any]:
    """When the sharpness reached its threshold, where it was over the last half, and what the loss did then."""
    reached = np.flatnonzero(curve.sharpness >= curve.threshold)
    half = len(curve.losses) // 2
    low, median, high = np.percentile(curve.sharpness[curve.iterations > half] / curve.threshold, [10, 50, 90])
    return {
        "threshold": curve.threshold,
        "reached after": int(curve.iterations[reached[0]]) if len(reached) else None,
        "iterations in the last half": half,
        "sharpness over threshold there": {"10 %": low, "median": median, "90 %": high},
        "loss there": [float(curve.losses[-half]), float(curve.losses[-1])],
        "share of steps there on which the loss rose": float(np.mean(np.diff(curve.losses[-half:]) > 0)),
        "sharpness": [round(float(value), 2) for value in curve.sharpness],
    }


def hovers(found: dict[str, Any]) -> bool:
    """Whether the sharpness had reached the threshold before the last half, and its median there is near it."""
    early = found["reached after"] is not None and found["reached after"] <= found["iterations in the last half"]
    return early and abs(found["sharpness over threshold there"]["median"] - 1) <= NEAR


def find(numbers: dict[str, dict[str, Any]]) -> str:
    there = [label for label, found in numbers.items() if hovers(found)]
    verdict = "Yes" if len(there) == len(numbers) else f"Only with {' and '.join(there)}" if there else "No"
    verdict = (
        f"{verdict}, in one run of each of a tanh network with squared error, to within {100 * NEAR:.0f} % of the "
        "threshold."
    )
    return " ".join([verdict, *(sentence(label, found) for label, found in numbers.items())])


def sentence(label: str, found: dict[str, Any]) -> str:
    reached, ratio = found["reached after"], found["sharpness over threshold there"]
    start, end = found["loss there"]
    return (
        f"With {label} the sharpness begins at {found['sharpness'][0]:.1f} and "
        f"{'never reaches' if reached is None else f'after {reached:,} iterations reaches'} its threshold of "
        f"{found['threshold']:.1f}; over the last {found['iterations in the last half']:,} its median is "
        f"{ratio['median']:.2f} times the threshold (80 % of it {ratio['10 %']:.2f} to {ratio['90 %']:.2f}), while the "
        f"loss goes from {start:.2g} to {end:.2g}, rising in "
        f"{100 * found['share of steps there on which the loss rose']:.0f} % of the steps."
    )


def figure(curves: dict[str, Curve]) -> Figure:
    drawn = Figure(figsize=(7, 6), layout="constrained")
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for i, ((label, curve), style) in enumerate(zip(curves.items(), STYLES, strict=False)):
        look: dict[str, Any] = {"color": style.color, "marker": style.marker, "markersize": 5, "linewidth": 1.2}
        # A marker every tenth of the way, those of one method shifted against those of the next.
        apart = len(curve.sharpness) // 10 or 1
        above.plot(curve.iterations, curve.sharpness, markevery=(i * apart // 3, apart), label=label, **look)
        above.axhline(curve.threshold, color=style.color, linestyle="--", linewidth=1)
        above.annotate(
            f"{curve.threshold:.1f}", (1, curve.threshold), (3, 0), color=style.color, va="center",
            xycoords=("axes fraction", "data"), textcoords="offset points",
        )  # fmt: skip
        below.plot(
            np.arange(len(curve.losses)), curve.losses, markevery=(i * apart // 3 * EVERY, apart * EVERY), **look
        )
    above.set(ylabel="Sharpness (top eigenvalue of the Hessian)", ylim=(0, None))
    above.set_title("Dashed: the largest curvature at which the method is stable", fontsize="medium")
    below.set(xlabel="Iterations (parameter updates, full batch)", ylabel="Training loss", yscale="log")
    above.legend(frameon=False, loc="lower right")
    for axes in (above, below):
        axes.set_xlim(0, len(curve.losses))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return drawn


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

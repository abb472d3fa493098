"""Where do SGD and momentum go on a network's loss surface? The plane through their common start and their two ends.

Finding: To different places, with a barrier between them, momentum on the shorter path, in one pair of runs. After
1,500 iterations at the effective learning rate 0.3 the training loss is 0.072 with SGD and 0.084 with momentum 0.9. In
root mean square, neurons have moved by 0.41 and 0.40 of their length, at an angle of 69°, and the ends are 0.46 apart.
On the straight line between them the loss goes from 0.076 by way of 0.186 to 0.097. SGD's path is 35.5 times as long as
the way straight to its end, momentum's 8.8 times; SGD's is 4.18 times as long as momentum's, and would be √((1 + β)/(1
− β)) = 4.36 times if the gradients were noise alone. The plane does not show all: at half of the iterations SGD is away
from it by 33 % or more of its distance from the start, momentum by 35 % or more.

Both train the tutorial's network on MNIST from the same weights, with the same batches and the same effective learning
rate. Rescaling the incoming weights of a neuron by c and the outgoing ones by 1/c changes nothing of a ReLU network's
function, so that plain distances mean little. Li et al. (https://arxiv.org/abs/1712.09913) rescale random directions by
each neuron's norm; here, where the plane is given by three points, it is the metric that is rescaled: with w_j the
incoming weights and the bias of neuron j, and w⁰_j those at the start,

    ⟨d, e⟩ = 1/n · Σ_j ⟨d_j, e_j⟩ / ‖w⁰_j‖²,

so that a distance is the root mean square over the n neurons of their change in units of their own length. The axes are
orthonormal in it, the first towards SGD's end; all three points lie in the plane exactly. Its axes are known after the
training only. As a run repeats bit for bit, a second one records what it is on them: after each update, the two
coordinates and the distance from the start, which tells how far from the plane it was. It is one pair of
runs, of seed 0; the surface is that of the first 3,000 training images.
"""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from study import Study, run

import momentum_jax as mj
from momentum_jax._base.progress import show_progress
from momentum_jax.report import STYLES
from momentum_jax.tasks import Params, image_classification

BETA, EFFECTIVE_RATE = 0.9, 0.3
# SGD as momentum 0, whose velocity is its step too.
OPTIMIZERS = {
    "SGD": mj.OptimizerConfig("momentum", learning_rate=EFFECTIVE_RATE, momentum=0.0),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=EFFECTIVE_RATE * (1 - BETA), momentum=BETA),
}
# Of independent noise of the gradients, in the lengths of the steps at one effective rate.
NOISE_RATIO = ((1 + BETA) / (1 - BETA)) ** 0.5
# How far apart ends are that are called different places, as a share of their distance from the start.
APART = 0.5
# By how much the loss rises over the line between its values at the ends where that is called a barrier, as a share of
# the higher of them.
BARRIER = 0.1


class Plane(NamedTuple):
    """The points start + a·first + b·second, with axes that are orthonormal in the metric of the neurons.

    Attributes:
      start: the initial parameters.
      weights: of each coordinate in the metric, 1/(n·‖w⁰_j‖²), a tree like the parameters.
      first: the axis towards SGD's end.
      second: the axis that leads from there to momentum's.
    """

    start: Params
    weights: Params
    first: Params
    second: Params

    def at(self, point: Float[Array, "2"]) -> Params:
        return jax.tree.map(lambda w, d, e: w + point[0] * d + point[1] * e, self.start, self.first, self.second)

    def record(self, params: Params, state: Any, grads: Params) -> Float[Array, "4"]:
        """A metric of `train`: both coordinates, the distance from the start, and the length of the last step."""
        del grads
        moved = jax.tree.map(jnp.subtract, params, self.start)
        distances = [jnp.sqrt(dot(self.weights, d, d)) for d in (moved, state.velocity)]
        return jnp.stack([dot(self.weights, moved, axis) for axis in (self.first, self.second)] + distances)


class Found(NamedTuple):
    """What was measured, in the coordinates of the plane.

    Attributes:
      paths: by label, what `Plane.record` gave: [iterations, 4].
      grid: coordinates of the lines of the grid along each axis.
      surface: the loss on them, [second, first].
      straight: the loss along the straight line from SGD's end to momentum's.
      train_loss: by label, that of the end on the whole training set.
      repeated: whether the second training ended at the bits of the first.
    """

    paths: dict[str, Float[np.ndarray, "iterations 4"]]
    grid: tuple[Float[np.ndarray, " across"], Float[np.ndarray, " up"]]
    surface: Float[np.ndarray, "up across"]
    straight: Float[np.ndarray, " points"]
    train_loss: dict[str, float]
    repeated: bool


def study(arguments: argparse.Namespace) -> Study:
    found = measure(*(((5,), 10, 100, 5) if arguments.fast else ((100,) * 4, 1500, 3000, 41)))
    numbers = summary(found)
    return Study(figure(found), find(numbers), numbers)


def measure(hidden_sizes: tuple[int, ...], iterations: int, images: int, points: int) -> Found:
    cfg = mj.Config(hidden_sizes=hidden_sizes, iterations=iterations, optimizers=OPTIMIZERS)
    dataset = mj.load_dataset(cfg.dataset)
    task = image_classification(dataset, hidden_sizes=cfg.hidden_sizes)
    first = mj.train(cfg, task=task)
    ends = [jax.tree.map(lambda leaf: np.asarray(leaf[0]), first.params[label]) for label in OPTIMIZERS]
    plane = plane_through(jax.device_get(mj.initial_params(cfg, 0, "SGD", task=task)), *ends)
    again = mj.train(cfg, task=task, metrics={"plane": plane.record})
    paths = {label: again.metrics["plane"][label][0] for label in OPTIMIZERS}

    some = (dataset.x_train[:images], dataset.y_train[:images])

    @jax.jit
    def losses(plane: Plane, data: Any, at: Float[Array, "points 2"]) -> Any:
        return jax.lax.map(lambda point: task.loss(plane.at(point), data), at)

    grid = grid_around(np.concatenate([path[:, :2] for path in paths.values()]), points)
    rows = []
    with show_progress() as progress:
        for i, up in enumerate(grid[1]):
            progress("surface", i, points, whole=i / points)
            rows.append(losses(plane, some, np.stack([grid[0], np.full_like(grid[0], up)], axis=1)))
    between = np.linspace(paths["SGD"][-1, :2], paths["momentum"][-1, :2], points)
    return Found(
        paths,
        grid,
        np.stack(rows),
        np.asarray(losses(plane, some, between)),
        {label: float(first.train_loss[label][0]) for label in OPTIMIZERS},
        all(map(np.array_equal, *map(jax.tree.leaves, (first.params, again.params)))),
    )


def dot(weights: Params, a: Params, b: Params) -> Any:
    """The metric; of NumPy's arrays it is NumPy's, and of what is traced it is traced."""
    return sum((w * x * y).sum() for w, x, y in zip(*map(jax.tree.leaves, (weights, a, b)), strict=True))


def plane_through(start: Params, sgd: Params, momentum: Params) -> Plane:
    layers = start["params"].items()
    neurons = sum(layer["bias"].size for _, layer in layers)
    weights: Params = {"params": {}}
    for name, layer in layers:
        # A neuron is a column of its layer's kernel, and its bias.
        squares = np.sum(layer["kernel"] ** 2, axis=0) + layer["bias"] ** 2
        weights["params"][name] = {key: np.broadcast_to(1 / (neurons * squares), a.shape) for key, a in layer.items()}

    def unit(direction: Params) -> Params:
        length = np.sqrt(dot(weights, direction, direction))
        return jax.tree.map(lambda d: d / length, direction)

    first = unit(jax.tree.map(np.subtract, sgd, start))
    there = jax.tree.map(np.subtract, momentum, start)
    along = dot(weights, there, first)
    second = unit(jax.tree.map(lambda d, e: d - along * e, there, first))
    return Plane(start, weights, first, second)


def grid_around(visited: Float[np.ndarray, "points 2"], points: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates that leave a margin of a quarter of the larger extent around what was visited and the start."""
    low, high = np.minimum(visited.min(axis=0), 0), np.maximum(visited.max(axis=0), 0)
    margin = np.max(high - low) / 4
    across, up = (np.linspace(a - margin, b + margin, points, dtype=np.float32) for a, b in zip(low, high, strict=True))
    return across, up


def summary(found: Found) -> dict[str, Any]:
    ends = {label: path[-1] for label, path in found.paths.items()}
    (sgd, momentum), apart = ends.values(), ends["SGD"][:2] - ends["momentum"][:2]
    chord = np.linspace(found.straight[0], found.straight[-1], len(found.straight))
    # Not more than all of it: rounding.
    outside = {
        label: np.sqrt(np.maximum(1 - np.sum(path[:, :2] ** 2, axis=1) / path[:, 2] ** 2, 0))
        for label, path in found.paths.items()
    }
    return {
        "iterations": len(found.paths["SGD"]),
        "repeated to the bit": found.repeated,
        "distance": {label: float(end[2]) for label, end in ends.items()},
        "angle in degrees": float(np.degrees(np.arccos(sgd[:2] @ momentum[:2] / (sgd[2] * momentum[2])))),
        "distance between the ends": float(np.linalg.norm(apart)),
        "length of the path": {label: float(path[:, 3].sum()) for label, path in found.paths.items()},
        "loss": found.train_loss,
        "loss along the straight line": [round(float(loss), 4) for loss in found.straight],
        "barrier": float(np.max(found.straight - chord)),
        "distance from the plane over that from the start": {
            label: {"median": float(np.median(share)), "most": float(share.max())} for label, share in outside.items()
        },
    }


def find(numbers: dict[str, Any]) -> str:
    distance, length, loss = numbers["distance"], numbers["length of the path"], numbers["loss"]
    between, outside = (
        numbers["loss along the straight line"],
        numbers["distance from the plane over that from the start"],
    )
    apart, barrier = numbers["distance between the ends"], numbers["barrier"]
    ratio = length["SGD"] / length["momentum"]
    where = "different places" if apart > APART * max(distance.values()) else "much the same place"
    hill = (
        "with a barrier between them" if barrier > BARRIER * max(between[0], between[-1]) else "and no barrier between"
    )
    return (
        f"To {where}, {hill}, momentum on the {'shorter' if ratio > 1 else 'longer'} path, in one "
        f"pair of runs. "
        f"After {numbers['iterations']:,} iterations at the effective learning rate {EFFECTIVE_RATE} the training loss "
        f"is {loss['SGD']:.3f} with SGD and {loss['momentum']:.3f} with momentum {BETA}. In root mean square, neurons "
        f"have moved by {distance['SGD']:.2f} and {distance['momentum']:.2f} of their length, at an angle of "
        f"{numbers['angle in degrees']:.0f}°, and the ends are {apart:.2f} apart. On the straight line between them "
        f"the loss goes from {between[0]:.3f} by way of {max(between):.3f} to {between[-1]:.3f}. SGD's path is "
        f"{length['SGD'] / distance['SGD']:.1f} times as long as the way straight to its end, momentum's "
        f"{length['momentum'] / distance['momentum']:.1f} times; SGD's is {ratio:.2f} times as long as momentum's, and "
        f"would be √((1 + β)/(1 − β)) = {NOISE_RATIO:.2f} times if the gradients were noise alone. The plane does "
        f"not show all: at half of the iterations SGD is away from it by {100 * outside['SGD']['median']:.0f} % or "
        f"more of its distance from the start, momentum by {100 * outside['momentum']['median']:.0f} % or more."
    )


def figure(found: Found) -> Figure:
    drawn = Figure(figsize=(7, 5.7), layout="constrained")
    axes = drawn.add_subplot()
    levels = np.geomspace(found.surface.min(), found.surface.max(), 16)
    filled = axes.contourf(*found.grid, found.surface, levels, norm=LogNorm(), cmap="Greys", alpha=0.6)
    axes.contour(*found.grid, found.surface, levels, colors="#666666", linewidths=0.5)
    drawn.colorbar(
        filled, ax=axes, format="%.2g", label="Loss on training images (nats)", ticks=levels[::3], shrink=0.8
    )
    for (label, path), style in zip(found.paths.items(), STYLES, strict=False):
        way = np.concatenate([np.zeros([1, 2]), path[:, :2]])
        axes.plot(*way.T, color=style.color, linewidth=0.8)
        axes.plot(*way[-1], color=style.color, marker=style.marker, markersize=10, markeredgecolor="white", label=label)
    axes.plot(0, 0, color="black", marker="*", markersize=14, markeredgecolor="white", linestyle="", label="start")
    ends = np.stack([path[-1, :2] for path in found.paths.values()])
    axes.plot(*ends.T, color="black", linestyle=":", linewidth=1.2, label="straight between the ends")
    axes.set(
        aspect="equal",
        xlabel="Towards SGD's end (change of neurons in units of their length)",
        ylabel="Across, towards momentum's (same units)",
    )
    axes.legend(loc="upper right", framealpha=0.9)
    return drawn


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

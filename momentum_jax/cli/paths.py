"""`momentum-jax paths`: draws the paths of optimizers on a landscape, and measures them."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console

from momentum_jax._base.errors import InputError, check_integer
from momentum_jax.analysis import nearest_minimum, overshoot, path_length, zigzag
from momentum_jax.cli.arguments import flag, optimizers_flag, optimizers_of, parse, slug, switch
from momentum_jax.cli.terminal import console, print_table
from momentum_jax.config import MAX_SEED
from momentum_jax.optimizers.description import OptimizerConfig, parse_description
from momentum_jax.report import paths_figure, save_figure
from momentum_jax.tasks.landscapes import Landscape, available, make_landscape
from momentum_jax.training.devices import backend_devices
from momentum_jax.training.trajectories import Trajectory, check_start, trajectory

DESCRIPTION = """Draws the paths of optimizers on a landscape, and measures them.

    momentum-jax paths
    momentum-jax paths --landscape rosenbrock --iterations 300
    momentum-jax paths --landscape "quadratic,curvatures=(1,50),rotation=0.5" --start -1 1.5
    momentum-jax paths --optimizer "a=sgd,learning_rate=0.95" --optimizer "b=momentum,learning_rate=0.1,momentum=0.9"

Methods and their hyperparameters are those of momentum-jax optimizers; the parameters of landscapes are in the
docstrings of momentum_jax.tasks.landscapes.

The value and the distance to the nearest minimum are those at the end of a path. Length is the sum of its steps. Zigzag
is the sum of the angles between successive steps, in radians. Overshoot is how far the path goes past the minimum that
it ends nearest to, as a proportion of the distance from its start to that minimum. A path has diverged if it ends
outside the window and higher than it began.

Exit codes: 0 drawn, 2 an argument cannot be used or a file cannot be written."""

_DEFAULT = (
    "by default sgd, momentum and nesterov at one learning rate, 1 over the largest curvature at the start, and "
    "momentum at the effective rate of sgd."
)
_FLAGS = [
    flag("landscape", str, "valley", f"{', '.join(sorted(available()))}.", metavar="NAME,PARAMETER=VALUE,..."),
    optimizers_flag(_DEFAULT),
    flag("start", tuple[float, ...], (), "where paths begin; by default the landscape's own start.", metavar="X Y"),
    flag("iterations", int, 100, "updates of each optimizer."),
    flag("noise", float, 0.0, "standard deviation of the normal noise on each coordinate of each gradient."),
    flag("seed", int, 0, "seed of the noise."),
    flag("out", pathlib.Path | None, None, "folder for the figure; by default one under runs/.", metavar="DIR"),
    switch("quiet", "print nothing but errors."),
]
# A Hessian with this many rows takes about a second.
_MOST_DIMENSIONS = 1000


def main(argv: Sequence[str], _: float) -> None:
    """Follows the optimizers, draws their paths and prints their measures.

    Raises:
      InputError: an argument cannot be used.
    """
    arguments = parse(argv, "momentum-jax paths", DESCRIPTION, _FLAGS)
    backend_devices()
    name, parameters = parse_description(arguments.landscape)
    landscape = make_landscape(name, **parameters)
    start = check_start(landscape, np.asarray(arguments.start or landscape.start))
    paths = _follow(landscape, start, arguments)
    folder = arguments.out or pathlib.Path("runs") / f"paths-{slug(name)}"
    save_figure(paths_figure(landscape, paths), folder / "paths")
    title = f"{landscape.name}: {arguments.iterations} iterations from ({_coordinates(start.tolist())})"
    _print_paths(console(quiet=arguments.quiet), title, landscape, paths)
    console(quiet=arguments.quiet).print(f"written: {folder}{os.sep} with paths.png and paths.svg")


def _follow(landscape: Landscape, start: jax.Array, arguments: Any) -> dict[str, Trajectory]:
    """The path of each optimizer, by label."""
    optimizers = optimizers_of(arguments.optimizers) or _default_optimizers(landscape, start)
    check_integer("seed", arguments.seed, 0, MAX_SEED)
    key = jax.random.key(arguments.seed) if arguments.noise else None
    followed = trajectory(
        list(optimizers.values()), landscape, start, arguments.iterations, noise=arguments.noise, key=key
    )
    return {label: Trajectory(*(field[i] for field in followed)) for i, label in enumerate(optimizers)}


def _print_paths(out: Console, title: str, landscape: Landscape, paths: Mapping[str, Trajectory]) -> None:
    print_table(
        out,
        title,
        ["path", "value", "to nearest minimum", "length", "zigzag", "overshoot"],
        ([label, *_measures(path, landscape)] for label, path in paths.items()),
    )
    diverged = [label for label, path in paths.items() if path.diverged]
    out.print(f"diverged: {len(diverged)} of {len(paths)}{': ' if diverged else ''}{', '.join(diverged)}")


def _default_optimizers(landscape: Landscape, start: jax.Array) -> Mapping[str, OptimizerConfig]:
    if landscape.dimensions > _MOST_DIMENSIONS:
        raise InputError(
            f"optimizer must be given in {landscape.dimensions} dimensions: the default learning rates need the "
            f"largest curvature, which in more than {_MOST_DIMENSIONS} takes too long"
        )
    hessian = jax.hessian(landscape.function)(start)
    curvature = np.abs(np.linalg.eigvalsh(np.asarray(hessian, np.float64))).max()
    rate = float(f"{1 / curvature:.2g}") if curvature > 0 else 0.01
    return {
        "sgd": OptimizerConfig("sgd", learning_rate=rate),
        "momentum": OptimizerConfig("momentum", learning_rate=rate, momentum=0.9),
        "nesterov": OptimizerConfig("nesterov", learning_rate=rate, momentum=0.9),
        "momentum at sgd's effective rate": OptimizerConfig("momentum", learning_rate=rate * 0.1, momentum=0.9),
    }


def _coordinates(start: Sequence[float]) -> str:
    shown = [f"{x:.6g}" for x in start]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:3], "…"])


def _measures(path: Trajectory, landscape: Landscape) -> list[str]:
    if path.diverged:
        return ["diverged", *["-"] * 4]
    points = np.asarray(path.points)
    measured = [float(path.values[-1]), None, path_length(points), zigzag(points), None]
    if len(landscape.minima):
        nearest, distance = nearest_minimum(points[-1], landscape.minima)
        measured[1], measured[4] = distance, overshoot(points, landscape.minima[nearest])
    return ["-" if value is None or not np.isfinite(value) else f"{value:.4g}" for value in measured]

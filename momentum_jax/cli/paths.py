"""`momentum-jax paths`: draws where optimizers go on a landscape."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tyro

from momentum_jax._base.errors import InputError, check_integer
from momentum_jax.analysis import nearest_minimum, overshoot, path_length, zigzag
from momentum_jax.cli.arguments import flag, optimizers_flag, optimizers_of, slug, switch
from momentum_jax.cli.terminal import console, table_of
from momentum_jax.config import MAX_SEED
from momentum_jax.optimizers.description import OptimizerConfig, parse_description
from momentum_jax.report import paths_figure, save_figure
from momentum_jax.tasks.landscapes import Landscape, available, make_landscape
from momentum_jax.training.trajectories import Trajectory, check_start, trajectory

DESCRIPTION = """Draws the paths of optimizers on a landscape, and measures them.

    momentum-jax paths
    momentum-jax paths --landscape rosenbrock --iterations 300
    momentum-jax paths --landscape "quadratic,curvatures=(1,50),rotation=0.5" --start -1 1.5
    momentum-jax paths --optimizer "a=sgd,learning_rate=0.95" --optimizer "b=momentum,learning_rate=0.1,momentum=0.9"

Methods and their hyperparameters are those of momentum-jax optimizers; the parameters of landscapes are in the
docstrings of momentum_jax.tasks.landscapes.

The value and the distance to the nearest minimum are those at the end. Length is the sum of the steps; zigzag that of
the angles between them, in radians; overshoot how far a path goes past the minimum that it ends nearest to, as a share
of the way there. A path has diverged if it ends outside of the window and higher than it began.

Exit codes: 0 drawn, 2 something given cannot be used."""
_DEFAULT = (
    "by default sgd, momentum and nesterov at one learning rate, 1 over the largest curvature at the start, and "
    "momentum at the effective rate of sgd."
)


# Dimensions of a Hessian that takes a second.
_MANY = 1000


def main(argv: Sequence[str], began: float) -> None:
    """Follows the optimizers, draws and measures their paths.

    Raises:
      InputError: something that was given cannot be used.
    """
    del began
    fields = [
        flag("landscape", str, "valley", f"{', '.join(sorted(available()))}.", metavar="NAME,PARAMETER=VALUE,..."),
        optimizers_flag(_DEFAULT),
        flag("start", tuple[float, ...], (), "where they begin; by default the landscape's own start.", metavar="X Y"),
        flag("iterations", int, 100, "updates of each."),
        flag("noise", float, 0.0, "standard deviation of the normal noise on each coordinate of each gradient."),
        flag("seed", int, 0, "of the noise."),
        flag("out", pathlib.Path | None, None, "folder for the figure; by default one under runs/.", metavar="DIR"),
        switch("quiet", "print nothing but errors."),
    ]
    kind = dataclasses.make_dataclass("Arguments", fields, frozen=True)
    arguments: Any = tyro.cli(kind, args=argv, prog="momentum-jax paths", description=DESCRIPTION)
    name, parameters = parse_description(arguments.landscape)
    landscape = make_landscape(name, **parameters)
    start = check_start(landscape, np.asarray(arguments.start or landscape.start))
    optimizers = optimizers_of(arguments.optimizers) or _default_optimizers(landscape, start)
    check_integer("seed", arguments.seed, 0, MAX_SEED)
    key = jax.random.key(arguments.seed) if arguments.noise else None
    followed = trajectory(
        list(optimizers.values()), landscape, start, arguments.iterations, noise=arguments.noise, key=key
    )
    paths = {label: Trajectory(*(a[i] for a in followed)) for i, label in enumerate(optimizers)}
    folder = arguments.out or pathlib.Path("runs") / f"paths-{slug(name)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_figure(paths_figure(landscape, paths), folder / "paths")
    except OSError as error:
        raise InputError(f"output folder {str(folder)!r} cannot be written: {error.strerror}") from error

    out = console(quiet=arguments.quiet)
    table = table_of(
        f"{landscape.name}: {arguments.iterations} iterations from ({_coordinates(start.tolist())})",
        ["path", "value", "to nearest minimum", "length", "zigzag", "overshoot"],
        plain=not out.is_terminal,
    )
    for label, path in paths.items():
        table.add_row(label, *_measures(path, landscape))
    out.print(table)
    diverged = [label for label, path in paths.items() if path.diverged]
    out.print(f"diverged: {len(diverged)} of {len(paths)}{': ' if diverged else ''}{', '.join(diverged)}")
    out.print(f"written: {folder}{os.sep} with paths.png and paths.svg")


def _default_optimizers(landscape: Landscape, start: jax.Array) -> Mapping[str, OptimizerConfig]:
    if landscape.dimensions > _MANY:
        raise InputError(
            f"optimizer must be given in {landscape.dimensions} dimensions: the default learning rates need the "
            f"largest curvature, which in more than {_MANY} takes too long"
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

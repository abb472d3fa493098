"""Is momentum's path smoother and shorter than that of plain SGD? The tutorial's two pictures, for all methods.

Finding: It depends on the learning rates. Momentum's path on x²/20 + y² from (−7, 2), beside that of SGD: At the rates
of the pictures, SGD 0.95 and Momentum 0.1, it is smoother (it turns by 8.0 against 80.2 rad) and shorter (12.8 against
37.0), and ends 0.9 from the minimum against 0.36. At the same learning rate of 0.1, it is less smooth (it turns by 8.0
against 1.4 rad) and longer (12.8 against 3.1), and ends 0.9 from the minimum against 5.2. Each at its best, it is as
smooth (it turns by 81.1 against 81.1 rad) and as long (40.6 against 38.6), and ends 0.00015 from the minimum against
0.36.
"""

import argparse
from collections.abc import Sequence

import jax
import numpy as np
from matplotlib.figure import Figure
from study import Study, run

import momentum_jax as mj
from momentum_jax.analysis import descent_cosines, energy, nearest_minimum, overshoot, path_length, zigzag
from momentum_jax.optimizers import optimal_momentum, optimal_nesterov, optimal_sgd
from momentum_jax.report import animate_paths, draw_contours
from momentum_jax.tasks.landscapes import make_landscape

ITERATIONS = 30
# The curvatures of the valley.
MU, L = 0.1, 2.0
TUNED = {"SGD": optimal_sgd(MU, L), "Momentum": optimal_momentum(MU, L), "Nesterov": optimal_nesterov(MU, L)}
METHODS = {
    # The rates of the pictures in Saito's book, and SGD at that of momentum.
    "SGD 0.95": mj.OptimizerConfig("sgd", learning_rate=0.95),
    "Momentum 0.1": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
    "Nesterov 0.1": mj.OptimizerConfig("nesterov", learning_rate=0.1, momentum=0.9),
    "SGD 0.1": mj.OptimizerConfig("sgd", learning_rate=0.1),
    "SGD at its best": mj.OptimizerConfig("sgd", learning_rate=TUNED["SGD"].learning_rate),
    **{
        f"{name} at its best": mj.OptimizerConfig(
            name.lower(), learning_rate=TUNED[name].learning_rate, momentum=TUNED[name].momentum
        )
        for name in ("Momentum", "Nesterov")
    },
    "Adaptive restart 0.5": mj.OptimizerConfig("adaptive_restart", learning_rate=0.5),
    "QHM 1, ν 0.7": mj.OptimizerConfig("qhm", learning_rate=1.0, momentum=0.9, nu=0.7),
    "AggMo 0.1": mj.OptimizerConfig("aggmo", learning_rate=0.1, betas=(0.0, 0.9)),
    "AdaGrad 1.5": mj.OptimizerConfig("optax.adagrad", learning_rate=1.5),
    "Adam 0.3": mj.OptimizerConfig("optax.adam", learning_rate=0.3),
}
# A style each; AdaGrad and Adam, which scale each coordinate by its gradients, share one.
FAMILIES = ("SGD", "Momentum", "Nesterov", "Adaptive restart", "QHM", "AggMo", "Ada")
PAIRS = {
    "at the rates of the pictures, SGD 0.95 and Momentum 0.1": ("Momentum 0.1", "SGD 0.95"),
    "at the same learning rate of 0.1": ("Momentum 0.1", "SGD 0.1"),
    "each at its best": ("Momentum at its best", "SGD at its best"),
}
LEFT = "distance to the minimum at the end"
SMOOTH = ("smoother", "as smooth", "less smooth")
SHORT = ("shorter", "as long", "longer")
ANIMATED = ("SGD 0.95", "Momentum 0.1", "Nesterov 0.1")


def study(arguments: argparse.Namespace) -> Study:
    methods = {label: METHODS[label] for label in ANIMATED[:2]} if arguments.fast else METHODS
    landscape = make_landscape("valley")
    with jax.enable_x64(True):
        followed = mj.trajectory(
            list(methods.values()), landscape, landscape.start, 5 if arguments.fast else ITERATIONS
        )
        paths = {label: mj.Trajectory(*(a[i] for a in followed)) for i, label in enumerate(methods)}
        animation = animate_paths(landscape, {label: paths[label] for label in ANIMATED if label in paths})
        measures = {label: measure(path, methods[label]) for label, path in paths.items()}
        figure = draw(paths, measures)
    return Study(figure, find(measures), measures, {".gif": animation})


def measure(path: mj.Trajectory, optimizer: mj.OptimizerConfig) -> dict[str, float]:
    """The path in numbers; energies with the learning rate as it stands beside the gradient."""
    points, minimum = np.asarray(path.points), make_landscape("valley").minima[0]
    energies = energy(np.asarray(path.values), points, optimizer.hyperparameters["learning_rate"])
    measured = {
        "length": path_length(points),
        "zigzag in radians": zigzag(points),
        "overshoot": overshoot(points, minimum),
        "mean cosine of step and descent": descent_cosines(points, np.asarray(path.gradients)).mean(),
        "share of iterations in which the energy falls": (np.diff(energies) < 0).mean(),
        LEFT: nearest_minimum(points[-1], minimum[None])[1],
    }
    return {name: float(f"{value:.5g}") for name, value in measured.items()}


def find(measures: dict[str, dict[str, float]]) -> str:
    sentences, words = [], set()
    for protocol, pair in PAIRS.items():
        if not measures.keys() >= set(pair):
            continue
        momentum, sgd = (measures[label] for label in pair)
        smoother = compared(momentum["zigzag in radians"], sgd["zigzag in radians"], SMOOTH)
        shorter = compared(momentum["length"], sgd["length"], SHORT)
        words |= {smoother, shorter}
        sentences.append(
            f"{protocol[0].upper()}{protocol[1:]}, it is {smoother} (it turns by {momentum['zigzag in radians']:.1f} "
            f"against {sgd['zigzag in radians']:.1f} rad) and {shorter} ({momentum['length']:.1f} against "
            f"{sgd['length']:.1f}), and ends {momentum[LEFT]:.2g} from the minimum against {sgd[LEFT]:.2g}."
        )
    true, false = words <= {"smoother", "shorter"}, words.isdisjoint({"smoother", "shorter"})
    answer = "True." if true else "False." if false else "It depends on the learning rates."
    return " ".join([answer, "Momentum's path on x²/20 + y² from (−7, 2), beside that of SGD:", *sentences])


def compared(one: float, other: float, words: tuple[str, str, str]) -> str:
    """The word for less, alike or more; what differs by less than a tenth is alike."""
    less, alike, more = words
    return alike if abs(one - other) < 0.1 * other else less if one < other else more


def draw(paths: dict[str, mj.Trajectory], measures: dict[str, dict[str, float]]) -> Figure:
    columns = min(4, len(paths))
    figure = Figure(figsize=(11, 2.4 * -(-len(paths) // columns)), layout="constrained")
    grid = figure.subplots(-(-len(paths) // columns), columns, sharex=True, sharey=True, squeeze=False)
    for axes, (label, path) in zip(grid.flat, paths.items(), strict=False):
        style = next(i for i, family in enumerate(FAMILIES) if label.startswith(family))
        draw_contours(axes, make_landscape("valley"), [path], first=style)
        measured = measures[label]
        axes.set_title(f"{label}\nlength {measured['length']:.1f}, turns by {measured['zigzag in radians']:.1f} rad")
        axes.label_outer()
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

"""Which limit of stability does the curvature of mini-batches settle at, with momentum and without?

Finding: Full batches settle at (1, 0.96 and 1 times) the upper limit, 2(1 + β)/η or Nesterov's 2(1 + β)/((1 + 2β)η),
and batches of 8 not at (0.33, 1.2 and 1.6 times) the lower one, 2(1 − β)/η. Batches of 8, 32, 128, 512 and 2,048, the
last of which are full, settle as follows. Gradient descent (η = 0.1): at 6.69, 11, 16.9, 19.3 and 20.2, which is 0.33,
0.55, 0.85, 0.96 and 1 times 2/η. Heavy ball (η = 0.06, β = 0.9): at 3.99, 6.05, 18.5, 37.7 and 60.5, which is 1.2, 1.8,
5.5, 11 and 18 times the lower limit, 0.063, 0.095, 0.29, 0.6 and 0.96 times the upper one and 0.088, 0.1, 0.29, 0.6 and
0.96 times that in mean square. Nesterov (η = 0.06, β = 0.9): at 5.4, 10.2, 19.7, 22 and 23, which is 1.6, 3, 5.9, 6.6
and 6.9 times the lower limit, 0.24, 0.45, 0.87, 0.97 and 1 times the upper one and 0.24, 0.45, 0.87, 0.97 and 1 times
that in mean square. With momentum the three limits miss by factors of 5.6, 3.8 and 3.5 (from the root mean square of
logarithms). The relative variance of the examples' curvatures along the sharpest direction is 0.052 to 0.18, from which
the limit in mean square is nowhere below 0.71 times the upper one. Farthest from settled is heavy ball with batches of
2,048: a quarter of the iterations earlier its level was 0.90 times as high. With the heavy ball and full batches, whose
level is that of the sharpness, 80 % of the values of batch sharpness are between 0.00038 and 0.0089. Of 45 runs none
failed.

Batch sharpness is the mean curvature of mini-batches along their own gradients. At the learning rate η it was seen to
settle at 2(1 − β)/η with small batches and at 2(1 + β)/η with large ones (https://arxiv.org/abs/2604.14108). Nesterov's
limit for the full batch is 2(1 + β)/((1 + 2β)η). On a parabola whose curvature has the mean λ and the variance s, a
method is stable in mean square up to a level of E[λ_t²]/λ = λ(1 + s/λ²) that falls from the upper of these limits to
the lower one as s/λ² grows (`momentum_jax.analysis.noise`). Here λ is the mean and s·B the variance of the examples'
curvatures along the sharpest direction, and s is smaller by (N − B)/(N − 1) for batches that are drawn without
replacement from N images. Nothing is fitted. The parabola has one direction, and the gradients of a network have noise
in many.

A tanh network 64-100-10 learns images of MNIST, averaged to 8×8, in epochs. The loss is the squared error, because the
curvature of the cross-entropy falls again when the images are classified well. The initial weights are small, so that
sharpness begins below the upper limits. What has settled are medians over the last quarter of the iterations and all
seeds. With all images in a batch the gradient has a component along the sharpest direction only while that oscillates;
otherwise batch sharpness is near zero. There the sharpness, the top eigenvalue of the Hessian, is what settles.
"""

import argparse
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from study import Study, run

import momentum_jax as mj
from momentum_jax.analysis import curvature, noise, sharpness
from momentum_jax.report import STYLES
from momentum_jax.report.drawing import make_logarithmic
from momentum_jax.tasks import Params

# The effective rate of gradient descent is a sixth of the others'. At their rate its sharpness would rise more slowly.
OPTIMIZERS = {
    "gradient descent": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.0),
    "heavy ball": mj.OptimizerConfig("momentum", learning_rate=0.06, momentum=0.9),
    "Nesterov": mj.OptimizerConfig("nesterov", learning_rate=0.06, momentum=0.9),
}
_, BALL, _ = OPTIMIZERS
LOWER, UPPER, MEAN_SQUARE = "lower limit", "upper limit", "limit in mean square"
FORMULAS = {"momentum": "2(1 + β)/η", "nesterov": "2(1 + β)/((1 + 2β)η)"}
# What settles is at a limit if it is nearer than this.
NEAR = 0.2
# The curvatures of single examples are measured so many times more rarely than batch sharpness.
RARER = 5
# The pixels, which are in [0, 1], are scaled, and the standard deviation of the initial weights.
PIXEL_SCALE, INITIAL = 2.0, 0.05


class Design(NamedTuple):
    """What is trained: batch sizes up to all images, for how long, and how often it is measured."""

    sizes: tuple[int, ...]
    iterations: int
    seeds: int
    width: int
    every: int

    @property
    def images(self) -> int:
        return self.sizes[-1]


class Measured(NamedTuple):
    """What the runs of a method that did not fail have measured, and how many failed."""

    batch_sharpness: Float[np.ndarray, "seeds measured"]
    curvature: Float[np.ndarray, "seeds rarer"]
    variance: Float[np.ndarray, "seeds rarer"]
    losses: Float[np.ndarray, "seeds measured"]
    failed: int


FULL = Design(sizes=(8, 32, 128, 512, 2048), iterations=4000, seeds=3, width=100, every=40)
FAST = Design(sizes=(8, 64), iterations=20, seeds=2, width=5, every=1)


def study(arguments: argparse.Namespace) -> Study:
    design = FAST if arguments.fast else FULL
    task = make_task(design)
    measured = {}
    for size in design.sizes:
        checkpoint = arguments.folder and arguments.folder / f"edge_of_stochastic_stability-{size}.npz"
        measured[size] = train(task, design, size, checkpoint)
    numbers = summarize(design, measured)
    return Study(draw(numbers), find(numbers), numbers)


def make_task(design: Design) -> mj.Task:
    pixels, labels = (rows[: design.images] for rows in mj.make_task("logistic").train)
    network = mj.MLP((design.width,), activation="tanh", weight_init=INITIAL)

    def loss(params: Params, batch: tuple[Array, Array]) -> Float[Array, ""]:
        outputs: Any = network.apply(params, batch[0])
        return jnp.mean(jnp.sum((outputs - jax.nn.one_hot(batch[1], 10)) ** 2, axis=-1)) / 2

    return mj.Task(
        init=lambda key: network.init(key, jnp.zeros([1, pixels.shape[1]])),
        loss=loss,
        train=(PIXEL_SCALE * pixels, labels),
    )


def train(task: mj.Task, design: Design, size: int, checkpoint: pathlib.Path | None = None) -> dict[str, Measured]:
    """By method, what is measured along the runs with batches of one size."""
    batches = 1 if size == design.images else min(128, 4 * design.images // size)

    def of_batches(params: Params) -> Float[Array, ""]:
        key = jax.random.key(0)
        return curvature.batch_sharpness(task.loss, params, task.train, key, batch_size=size, batches=batches).mean

    def of_examples(params: Params) -> Float[Array, "2"]:
        top = sharpness.top_eigenvector(task.loss, params, task.train, jax.random.key(0), iterations=12)
        along = curvature.directional_curvatures(task.loss, params, task.train, top)
        return jnp.stack([along.mean(), along.var()])

    cfg = mj.Config(
        iterations=design.iterations,
        batch_size=size,
        seeds=design.seeds,
        sampling="epochs",
        optimizers=OPTIMIZERS,
        record_every=design.every,
        loss_after=False,
    )
    metrics = {
        "batches": sharpness.metric(of_batches, every=design.every),
        "examples": sharpness.metric(of_examples, every=RARER * design.every),
    }
    return measure(mj.train(cfg, task=task, metrics=metrics, checkpoint=checkpoint), design)


def measure(result: mj.Result, design: Design) -> dict[str, Measured]:
    """By method, what was measured along the runs that did not fail."""
    # The last iteration is recorded too, and not measured.
    regular = result.iterations % design.every == 0
    measured = {}
    for label in OPTIMIZERS:
        works = ~result.failed[label]
        if not works.any():
            raise ValueError(f"all runs of {label} failed: a lower rate must be tried")
        recorded = result.metrics["batches"], result.metrics["examples"], result.losses_before
        batches, examples, losses = (of[label][works][:, regular] for of in recorded)
        mean, variance = np.moveaxis(examples[:, ::RARER], -1, 0)
        measured[label] = Measured(batches, mean, variance, losses, int(np.sum(~works)))
    return measured


def limits(optimizer: mj.OptimizerConfig, relative_variance: float) -> dict[str, float]:
    """The levels of batch sharpness up to which a method is stable, the last for a relative variance s/λ²."""
    rate, beta = (float(optimizer.hyperparameters[name]) for name in ("learning_rate", "momentum"))
    of_rate = noise.nesterov_mean_square_limit if optimizer.name == "nesterov" else noise.heavy_ball_mean_square_limit

    def level(r: float) -> float:
        # A limit of ηλ at λ = 1 is one of λ at the rate η.
        return float(of_rate(beta, 1.0, r)) * (1 + r) / rate

    return {LOWER: 2 * (1 - beta) / rate, UPPER: level(0.0), MEAN_SQUARE: level(relative_variance)}


def summarize(design: Design, measured: Mapping[int, Mapping[str, Measured]]) -> dict[str, Any]:
    """The numbers that finding and figure are made of."""
    methods = {
        label: {
            "optimizer": optimizer.name,
            "learning rate": optimizer.hyperparameters["learning_rate"],
            "momentum": optimizer.hyperparameters["momentum"],
            "batches": {f"{size}": summary(optimizer, of[label], size, design.images) for size, of in measured.items()},
        }
        for label, optimizer in OPTIMIZERS.items()
    }
    sizes = {"iterations": design.iterations, "measured every": design.every, "seeds": design.seeds}
    return {**sizes, "images": design.images, "methods": methods}


def summary(optimizer: mj.OptimizerConfig, of: Measured, size: int, images: int) -> dict[str, Any]:
    """Where batch sharpness settles with batches of one size, beside the limits, and its median over the seeds."""
    low, median, high = np.percentile(quarter(of.batch_sharpness), [10, 50, 90])
    top = float(np.median(quarter(of.curvature)))
    variance = float(np.median(quarter(of.variance / of.curvature**2)))
    of_batch = variance / size * (images - size) / (images - 1)
    settling = of.curvature if size == images else of.batch_sharpness
    return {
        "settles at": rounded(float(np.median(quarter(settling)))),
        "a quarter earlier": rounded(float(np.median(quarter(settling, -2)))),
        "batch sharpness": {"10 %": rounded(low), "median": rounded(median), "90 %": rounded(high)},
        "sharpness": rounded(top),
        "relative variance of the examples": rounded(variance),
        "limits": {name: rounded(level) for name, level in limits(optimizer, of_batch).items()},
        "loss": rounded(float(np.median(quarter(of.losses)))),
        "failed": of.failed,
        "curve": [rounded(float(value)) for value in np.median(of.batch_sharpness, axis=0)],
        "curve of the sharpness": [rounded(float(value)) for value in np.median(of.curvature, axis=0)],
    }


def quarter(values: Float[np.ndarray, "seeds measured"], which: int = -1) -> Float[np.ndarray, "seeds part"]:
    """One quarter of the iterations, by default the last."""
    part: Float[np.ndarray, "seeds part"] = np.array_split(values, 4, axis=1)[which]
    return part


def rounded(number: float) -> float:
    """To four digits."""
    return float(f"{number:.4g}")


def ratios(numbers: Mapping[str, Any], name: str) -> Float[np.ndarray, "methods sizes"]:
    """What settles over one of the limits."""
    return np.array(
        [
            [of["settles at"] / of["limits"][name] for of in method["batches"].values()]
            for method in numbers["methods"].values()
        ]
    )


def find(numbers: Mapping[str, Any]) -> str:
    """The finding, from the numbers of `summarize`."""
    methods = numbers["methods"]
    sizes = list(map(int, next(iter(methods.values()))["batches"]))
    lower, upper, mean_square = (ratios(numbers, name) for name in (LOWER, UPPER, MEAN_SQUARE))
    every = [of for method in methods.values() for of in method["batches"].values()]
    variances = [of["relative variance of the examples"] for of in every]
    before = {
        (label, size): of["a quarter earlier"] / of["settles at"]
        for label, method in methods.items()
        for size, of in method["batches"].items()
    }
    label, size = max(before, key=lambda which: abs(math.log(before[which])))
    ball = methods[BALL]["batches"][f"{sizes[-1]}"]
    failed = sum(of["failed"] for of in every)
    return (
        f"Full batches settle {place(upper[:, -1])} the upper limit, 2(1 + β)/η or Nesterov's "
        f"{FORMULAS['nesterov']}, and batches of {sizes[0]} {place(lower[:, 0])} the lower one, 2(1 − β)/η. "
        f"Batches of {listed([f'{size:,}' for size in sizes])}, the last of which are full, settle as follows. "
        f"{' '.join(sentence(label, of) for label, of in methods.items())} With momentum the three limits miss by "
        f"factors of {listed([f'{miss(of[1:]):.2g}' for of in (lower, upper, mean_square)])} (from the root mean "
        "square of logarithms). The relative variance of the examples' curvatures along the sharpest direction is "
        f"{min(variances):.2g} to {max(variances):.2g}, from which the limit in mean square is nowhere below "
        f"{np.min(upper / mean_square):.2g} times the upper one. Farthest from settled is {label} with batches of "
        f"{int(size):,}: a quarter of the iterations earlier its level was {before[label, size]:.2f} times as high. "
        "With the heavy ball and full batches, whose level is that of the sharpness, 80 % of the values of batch "
        f"sharpness are between {ball['batch sharpness']['10 %']:.2g} and {ball['batch sharpness']['90 %']:.2g}. "
        f"Of {numbers['seeds'] * len(every)} runs {failed or 'none'} failed."
    )


def place(over: Float[np.ndarray, " methods"]) -> str:
    """Whether all methods are at a limit, and how many times it they are."""
    near = np.all(np.abs(over - 1) <= NEAR)
    return f"{'at' if near else 'not at'} ({listed([f'{times:.2g}' for times in over])} times)"


def miss(over: Float[np.ndarray, "..."]) -> float:
    """The typical factor between what is measured and a limit."""
    return float(np.exp(np.sqrt(np.mean(np.log(over) ** 2))))


def sentence(label: str, method: Mapping[str, Any]) -> str:
    """Where batch sharpness settles with one method, and its ratio to each limit."""
    batches = method["batches"].values()

    def over(name: str) -> str:
        return listed([f"{of['settles at'] / of['limits'][name]:.2g}" for of in batches])

    levels = listed([f"{of['settles at']:.3g}" for of in batches])
    if not method["momentum"]:
        return f"{label.capitalize()} (η = {method['learning rate']}): at {levels}, which is {over(LOWER)} times 2/η."
    return (
        f"{label.capitalize()} (η = {method['learning rate']}, β = {method['momentum']}): at {levels}, which is "
        f"{over(LOWER)} times the lower limit, {over(UPPER)} times the upper one and {over(MEAN_SQUARE)} times that in "
        "mean square."
    )


def listed(texts: Sequence[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}"


def draw(numbers: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    rows = figure.subplots(2, 3, sharey="row", height_ratios=(3, 2))
    for i, (label, method) in enumerate(numbers["methods"].items()):
        draw_curves(rows[0, i], numbers, method)
        rows[0, i].set_title(f"{label}, η = {method['learning rate']}, β = {method['momentum']:g}")
        draw_ratios(rows[1, i], method)
    rows[0, 0].set(ylabel="batch sharpness")
    rows[1, 0].set(ylabel="what settles, over the limit")
    for row in rows:
        make_logarithmic(row[0])
    rows[0, 0].set_ylim(1, 100)
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False, title="images in a batch")
    handles, labels = rows[1, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_curves(axes: Axes, numbers: Mapping[str, Any], method: Mapping[str, Any]) -> None:
    """Batch sharpness along the runs, one line for each batch size, with the limits that need no measurement."""
    batches = method["batches"]
    colors = colormaps["viridis_r"](np.linspace(0.15, 1, len(batches)))
    iterations = numbers["measured every"] * np.arange(numbers["iterations"] // numbers["measured every"])
    for color, (size, of) in zip(colors, batches.items(), strict=True):
        full = int(size) == numbers["images"]
        curve, at = (of["curve of the sharpness"], iterations[::RARER]) if full else (of["curve"], iterations)
        label = f"all {numbers['images']:,} (sharpness)" if full else f"{int(size):,}"
        axes.plot(at, curve, color=color, label=label, linewidth=1.3)
    limits = next(iter(batches.values()))["limits"]
    formulas = {LOWER: "2(1 − β)/η", UPPER: FORMULAS[method["optimizer"]]} if method["momentum"] else {LOWER: "2/η"}
    for name, formula in formulas.items():
        level = limits[name]
        axes.axhline(level, color="0.2", linestyle="--", linewidth=1)
        below = name == LOWER and method["momentum"] > 0
        axes.annotate(
            f"{formula} = {level:.3g}", (0.99, level), (0, -3 if below else 4), fontsize=9, textcoords="offset points",
            xycoords=("axes fraction", "data"), ha="right", va="top" if below else "bottom",
        )  # fmt: skip
    axes.set(xlabel="iteration")
    axes.grid(alpha=0.25)


def draw_ratios(axes: Axes, method: Mapping[str, Any]) -> None:
    """What settles over each limit, against the batch size."""
    sizes = np.array(list(map(int, method["batches"])))
    axes.axhline(1, color="0.2", linestyle="--", linewidth=1)
    for name, style in zip((LOWER, UPPER, MEAN_SQUARE), STYLES, strict=False):
        if name != UPPER and not method["momentum"]:
            # Without momentum all limits are the same.
            continue
        over = [of["settles at"] / of["limits"][name] for of in method["batches"].values()]
        axes.plot(sizes, over, color=style.color, marker=style.marker, linestyle=style.linestyle, label=name)
    axes.set(xlabel="images in a batch", xscale="log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.25)


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

"""Do the curvatures of single examples predict the largest workable learning rate, and from which batch momentum pays?

Finding: No: λ and σ² at initialisation predict the largest workable rates of three methods at 7 batch sizes with an rms
log error of 0.98, a factor of 2.7 (0.86 for gradient descent, 0.95 for heavy ball and 1.11 for Nesterov; the grid, of
factor 1.25, is good to 0.22). Those after a tenth of the training have an error of 1.06. Measured over predicted rates
(geometric means of the methods), at initialisation, are 0.21 at 1, 0.4 at 4, 0.91 at 16, 1.8 at 64, 2.1 at 256, 2.1 at
1,024 and 2.2 at 4,096; after a tenth of the training, 0.19 at 1, 0.46 at 4, 1 at 16, 2 at 64, 2.5 at 256, 2.4 at 1,024
and 2.6 at 4,096. Farthest off is Nesterov with batches of 1: 0.34 predicted, 0.035 measured. The largest effective rate
of heavy ball, over gradient descent's, goes from 0.86 at 1 to 13 at 4,096 (predicted: 2.5 to 19), and is at least 2
from 16 on (predicted: from 1 on). The largest effective rate of Nesterov, over gradient descent's, goes from 1.1 at 1
to 5.1 at 4,096 (predicted: 5.2 to 6.8), and is at least 2 from 4 on (predicted: from 1 on). λ is 1.46 and σ² 0.978 at
initialisation, and 1.16 to 1.87 and 0.781 to 1.82 after a tenth of the training, by batch size (medians of 20 seeds).
The runs have 150 iterations on 5,000 images. Of 2,080 runs that failed, 0 came to a loss that is not finite; the others
end no better than a constant prediction.

A mini-batch of B examples has a curvature of mean λ and variance σ²/B along the sharpest direction u of the full batch.
On a parabola with such a noisy curvature `momentum_jax.analysis.noise` has the largest learning rate that is stable in
mean square, for the heavy ball and for Nesterov. `analysis.curvature.predict_rates` takes a network for this parabola:
λ is the mean and σ² the variance over the examples of uᵀH_i·u. Nothing is fitted. Both are measured for each seed at
initialisation, and after a tenth of the iterations by gradient descent with half the rate that is predicted at
initialisation. A rate is workable if at least 90 % of the seeds do not fail, so the prediction is the largest rate
that is stable for as many of the seeds' own parabolas. The network, 64-32-10 with ReLUs, learns images of MNIST that
are averaged to 8×8, in batches that are drawn with replacement.
"""

import argparse
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from study import Study, run

import momentum_jax as mj
from momentum_jax.analysis.curvature import PredictedRates, predict_rates
from momentum_jax.report import STYLES
from momentum_jax.report.drawing import make_logarithmic
from momentum_jax.tasks import Params

MOMENTUM = 0.9
OPTIMIZERS = {
    "gradient descent": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.0),
    "heavy ball": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=MOMENTUM),
    "Nesterov": mj.OptimizerConfig("nesterov", learning_rate=0.1, momentum=MOMENTUM),
}
DESCENT, BALL, NESTEROV = OPTIMIZERS
MOMENTS = ("at initialisation", "after a tenth of the training")
# Rates are powers of FACTOR. Of the first that are tried only every STRIDE-th is.
FACTOR, STRIDE = 1.25, 4
# Of the seeds, those that must not fail where a rate is workable.
PROPORTION = 0.9
# Momentum pays where its largest workable effective rate is so many times gradient descent's.
PAYS = 2.0
# Two numbers among those of a batch size.
FAILED = "failed runs, and those of them with a loss that is not finite"


class Design(NamedTuple):
    """What is tried: the batch sizes, how long and how often, on how many images, and the powers of FACTOR."""

    sizes: tuple[int, ...]
    iterations: int
    seeds: int
    images: int
    powers: range


class Predicted(NamedTuple):
    """Medians over the seeds of λ and σ², and by optimizer the largest rate that should work."""

    curvature: float
    variance: float
    rates: dict[str, float]


class Failures(NamedTuple):
    """How many of a trial's seeds fail, and how many of these because a loss was not finite."""

    failed: int
    diverged: int


class Found(NamedTuple):
    """With batches of one size, by optimizer the failures at each power of FACTOR, and what was predicted."""

    failures: dict[str, dict[int, Failures]]
    predicted: tuple[Predicted, ...]


FULL = Design(
    sizes=(1, 4, 16, 64, 256, 1024, 4096), iterations=150, seeds=20, images=5000, powers=range(-24, 17, STRIDE)
)
FAST = Design(sizes=(4, 64), iterations=30, seeds=2, images=200, powers=range(-16, 25, 10))


def study(arguments: argparse.Namespace) -> Study:
    design = FAST if arguments.fast else FULL
    task = make_task(design.images)
    measure = curvatures(task, design.sizes)
    start = initial(task, design)
    first = measure(start)
    found = {}
    for i, size in enumerate(design.sizes):
        at_start = predicted(first, i)
        trained = train_a_tenth(task, design, size, at_start.rates[DESCENT] / 2)
        folder = arguments.folder and arguments.folder / f"batch-{size}"
        failures = search(task, design, size, folder)
        found[size] = Found(failures, (at_start, predicted(measure(trained), i)))
    numbers = summarize(design, found)
    return Study(draw(numbers), find(numbers), numbers)


def make_task(images: int) -> mj.Task:
    """A small network on small images: the batches of 4,096 of the tutorial's network would take hours."""
    pixels, labels = (rows[:images] for rows in mj.make_task("logistic").train)
    network = mj.MLP((32,))

    def loss(params: Params, batch: tuple[Array, Array]) -> Float[Array, ""]:
        outputs: Any = network.apply(params, batch[0])
        mean: Array = optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean()
        return mean

    proportions = np.bincount(labels) / len(labels)
    return mj.Task(
        init=lambda key: network.init(key, jnp.zeros([1, pixels.shape[1]])),
        loss=loss,
        train=(pixels, labels),
        baseline_loss=float(-proportions @ np.log(proportions)),
    )


def curvatures(task: mj.Task, sizes: Sequence[int]) -> Callable[[Params], PredictedRates]:
    """From the parameters of all seeds, stacked, to what each seed's curvatures predict for all batch sizes."""

    def of_seed(params: Params) -> PredictedRates:
        return predict_rates(task.loss, params, task.train, sizes, MOMENTUM, jax.random.key(0))

    return jax.jit(lambda params: jax.lax.map(of_seed, params))


def initial(task: mj.Task, design: Design) -> Params:
    cfg = mj.Config(optimizers=OPTIMIZERS)
    seeds = [mj.initial_params(cfg, seed, DESCENT, task=task) for seed in range(design.seeds)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *seeds)


def train_a_tenth(task: mj.Task, design: Design, size: int, rate: float) -> Params:
    optimizers = {DESCENT: mj.OptimizerConfig("sgd", learning_rate=rate)}
    cfg = mj.Config(
        iterations=max(1, design.iterations // 10), batch_size=size, seeds=design.seeds, optimizers=optimizers
    )
    return mj.train(cfg, task=task).params[DESCENT]


def predicted(rates: PredictedRates, column: int) -> Predicted:
    """What the seeds' curvatures predict for the batch size in one column."""
    limits = rates.gradient_descent, rates.heavy_ball, rates.nesterov
    return Predicted(
        float(np.median(rates.curvature)),
        float(np.median(rates.example_variance)),
        {
            label: workable_limit(np.asarray(of_seeds)[:, column])
            for label, of_seeds in zip(OPTIMIZERS, limits, strict=True)
        },
    )


def most_failures(seeds: int) -> int:
    """How many of the seeds may fail at a workable rate."""
    return math.floor((1 - PROPORTION) * seeds + 1e-9)


def workable_limit(limits: Float[np.ndarray, " seeds"]) -> float:
    """The rate below which no more seeds are beyond their own limits than may fail."""
    return float(np.sort(limits)[most_failures(len(limits))])


def search(
    task: mj.Task, design: Design, size: int, folder: pathlib.Path | None = None
) -> dict[str, dict[int, Failures]]:
    """By optimizer, how many seeds fail at each power of FACTOR that is tried.

    First every STRIDE-th is tried, then those between the largest that is workable and the next.
    """
    cfg = mj.Config(
        iterations=design.iterations,
        batch_size=size,
        seeds=design.seeds,
        optimizers=OPTIMIZERS,
        record_every=design.iterations,
    )
    failures: dict[str, dict[int, Failures]] = {label: {} for label in OPTIMIZERS}

    def train_all(powers: Mapping[str, Sequence[int]]) -> None:
        space = {label: {"learning_rate": [FACTOR**power for power in own]} for label, own in powers.items()}
        result = mj.sweep(cfg, space, task=task, folder=folder)
        for label, own in powers.items():
            numbers = (of.sum(axis=1).tolist() for of in (result.failed[label], result.diverged_at[label] >= 0))
            failures[label].update(zip(own, map(Failures, *numbers), strict=True))

    train_all(dict.fromkeys(OPTIMIZERS, design.powers))
    best = {label: largest_workable(of, design.seeds) for label, of in failures.items()}
    if max(best.values()) == design.powers[-1]:
        raise ValueError(f"with batches of {size} the highest rate is workable: higher ones must be tried")
    train_all({label: range(power + 1, power + design.powers.step) for label, power in best.items()})
    return failures


def largest_workable(failures: Mapping[int, Failures], seeds: int) -> int:
    """The largest power of FACTOR at which no more seeds fail than may."""
    workable = [power for power, of in failures.items() if of.failed <= most_failures(seeds)]
    if not workable:
        raise ValueError("no rate is workable: lower ones must be tried")
    return max(workable)


def summarize(design: Design, found: Mapping[int, Found]) -> dict[str, Any]:
    """The numbers that finding and figure are made of."""
    batches = {}
    for size, (failures, moments) in found.items():
        batches[f"{size}"] = {
            "largest workable": {
                label: rounded(FACTOR ** largest_workable(of, design.seeds)) for label, of in failures.items()
            },
            "predicted": {
                moment: {label: rounded(rate) for label, rate in one.rates.items()}
                for moment, one in zip(MOMENTS, moments, strict=True)
            },
            "λ": {moment: rounded(one.curvature) for moment, one in zip(MOMENTS, moments, strict=True)},
            "σ²": {moment: rounded(one.variance) for moment, one in zip(MOMENTS, moments, strict=True)},
            "failed of the seeds": {
                label: {f"{FACTOR**power:.4g}": of[power].failed for power in sorted(of)}
                for label, of in failures.items()
            },
            FAILED: [sum(one[i] for of in failures.values() for one in of.values()) for i in range(2)],
        }
    return {"iterations": design.iterations, "seeds": design.seeds, "images": design.images, "batches": batches}


def rounded(number: float) -> float:
    """To four digits."""
    return float(f"{number:.4g}")


def errors(numbers: Mapping[str, Any], moment: str) -> Float[np.ndarray, "methods sizes"]:
    """The logarithms of predicted over measured rates."""
    ratios = [
        [of["predicted"][moment][label] / of["largest workable"][label] for of in numbers["batches"].values()]
        for label in OPTIMIZERS
    ]
    logs: Float[np.ndarray, "methods sizes"] = np.log(ratios)
    return logs


def gains(rates: Iterable[Mapping[str, float]], label: str) -> Float[np.ndarray, " sizes"]:
    """An optimizer's largest effective rates over gradient descent's, by batch size."""
    return np.array([of[label] / (1 - MOMENTUM) / of[DESCENT] for of in rates])


def rates_of(numbers: Mapping[str, Any], moment: str | None = None) -> list[dict[str, float]]:
    """By batch size, the largest rates of all optimizers: measured, or predicted at a moment."""
    batches = numbers["batches"].values()
    return [of["predicted"][moment] if moment else of["largest workable"] for of in batches]


def find(numbers: Mapping[str, Any]) -> str:
    """The finding, from the numbers of `summarize`."""
    sizes = list(map(int, numbers["batches"]))
    off = {moment: errors(numbers, moment) for moment in MOMENTS}
    start, later = (off[moment] for moment in MOMENTS)
    where = [f"{ratio:.2g} at {size:,}" for ratio, size in zip(np.exp(-start.mean(axis=0)), sizes, strict=True)]
    afterwards = [f"{ratio:.2g} at {size:,}" for ratio, size in zip(np.exp(-later.mean(axis=0)), sizes, strict=True)]
    row, column = np.unravel_index(np.abs(start).argmax(), start.shape)
    label, size = list(OPTIMIZERS)[row], sizes[column]
    worst = numbers["batches"][f"{size}"]
    failed, diverged = map(sum, zip(*(of[FAILED] for of in numbers["batches"].values()), strict=True))
    by_method = [f"{rms(of):.2f} for {name}" for name, of in zip(OPTIMIZERS, start, strict=True)]
    return (
        f"{verdict(rms(start))}: λ and σ² {MOMENTS[0]} predict the largest workable rates of three methods at "
        f"{len(sizes)} batch sizes with an rms log error of {rms(start):.2f}, a factor of {math.exp(rms(start)):.2g} "
        f"({listed(by_method)}; the grid, of factor {FACTOR}, is good to {math.log(FACTOR):.2f}). Those "
        f"{MOMENTS[1]} have an error of {rms(later):.2f}. Measured over predicted rates (geometric means of the "
        f"methods), {MOMENTS[0]}, are {listed(where)}; {MOMENTS[1]}, {listed(afterwards)}. Farthest off is {label} "
        f"with batches of {size:,}: {worst['predicted'][MOMENTS[0]][label]:.2g} predicted, "
        f"{worst['largest workable'][label]:.2g} measured. {' '.join(map(gain(numbers), (BALL, NESTEROV)))} λ is "
        f"{spread(numbers, 'λ', MOMENTS[0])} and σ² {spread(numbers, 'σ²', MOMENTS[0])} {MOMENTS[0]}, and "
        f"{spread(numbers, 'λ', MOMENTS[1])} and {spread(numbers, 'σ²', MOMENTS[1])} {MOMENTS[1]}, by batch size "
        f"(medians of {numbers['seeds']} seeds). The runs have {numbers['iterations']:,} iterations on "
        f"{numbers['images']:,} images. Of {failed:,} runs that failed, {diverged:,} came to a loss that is not "
        "finite; the others end no better than a constant prediction."
    )


def verdict(error: float) -> str:
    """By the rms log error: as near as the grid is fine, to a factor of two, or neither."""
    return "Yes" if error <= math.log(FACTOR) else "Roughly" if error <= math.log(2) else "No"


def rms(logs: Float[np.ndarray, "..."]) -> float:
    return float(np.sqrt(np.mean(logs**2)))


def gain(numbers: Mapping[str, Any]) -> Callable[[str], str]:
    """From a method to what is said of its gain."""
    sizes = list(map(int, numbers["batches"]))

    def sentence(label: str) -> str:
        measured = gains(rates_of(numbers), label)
        predicted = gains(rates_of(numbers, MOMENTS[0]), label)
        return (
            f"The largest effective rate of {label}, over gradient descent's, goes from {measured[0]:.2g} at "
            f"{sizes[0]:,} to {measured[-1]:.2g} at {sizes[-1]:,} (predicted: {predicted[0]:.2g} to "
            f"{predicted[-1]:.2g}), and is at least {PAYS:g} {since(sizes, measured)} (predicted: "
            f"{since(sizes, predicted)})."
        )

    return sentence


def since(sizes: Sequence[int], gains: Float[np.ndarray, " sizes"]) -> str:
    """From which of the batch sizes on momentum pays."""
    behind = np.flatnonzero(gains < PAYS)
    from_here = behind[-1] + 1 if len(behind) else 0
    return f"from {sizes[from_here]:,} on" if from_here < len(sizes) else "nowhere"


def spread(numbers: Mapping[str, Any], name: str, moment: str) -> str:
    """A number, or the least and the greatest of those of the batch sizes."""
    values = [of[name][moment] for of in numbers["batches"].values()]
    ends = [f"{value:.3g}" for value in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def listed(texts: Sequence[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}"


def draw(numbers: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    rates, gained = figure.subplots(1, 2)
    sizes = np.array(list(map(int, numbers["batches"])))
    styles = dict(zip(OPTIMIZERS, STYLES, strict=False))
    for label, style in styles.items():
        draw_law(rates, sizes, {m: [of[label] for of in rates_of(numbers, m)] for m in (None, *MOMENTS)}, style)
        if label != DESCENT:
            draw_law(gained, sizes, {m: gains(rates_of(numbers, m), label) for m in (None, *MOMENTS)}, style)
    mark_worst(rates, numbers, styles)
    gained.axhline(1, color="0.5", linewidth=0.8)
    rates.set(title="largest workable learning rate", xscale="log")
    gained.set(title="its gain over gradient descent\n(of effective rates)", xscale="log")
    for axes in (rates, gained):
        make_logarithmic(axes)
        axes.set(xlabel="batch size")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=9)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.25)
    handles = [
        *(Line2D([], [], color=s.color, marker=s.marker, mfc="none", ls="", label=name) for name, s in styles.items()),
        *(Line2D([], [], color="0.3", ls=line, label=moment) for moment, line in zip(MOMENTS, LINES, strict=True)),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, frameon=False, title="marks: measured; lines: predicted"
    )
    return figure


# Of the predictions at the two moments.
LINES = ("-", ":")


def draw_law(axes: Axes, sizes: np.ndarray, curves: Mapping[str | None, Any], style: Any) -> None:
    """What was measured as marks, the predictions as lines."""
    axes.plot(sizes, curves[None], style.marker, color=style.color, markersize=7, mfc="none", mew=1.8)
    for moment, line in zip(MOMENTS, LINES, strict=True):
        axes.plot(sizes, curves[moment], line, color=style.color, linewidth=1.3)


def mark_worst(axes: Axes, numbers: Mapping[str, Any], styles: Mapping[str, Any]) -> None:
    """Says at the mark that is farthest from the prediction at initialisation how far."""
    off = errors(numbers, MOMENTS[0])
    row, column = np.unravel_index(np.abs(off).argmax(), off.shape)
    label, size = list(styles)[row], list(numbers["batches"])[column]
    measured = numbers["batches"][size]["largest workable"][label]
    left = 2 * column < off.shape[1]
    axes.annotate(
        f"missed {math.exp(abs(off[row, column])):.2g}-fold",
        (int(size), measured),
        (10 if left else -10, 0),
        textcoords="offset points",
        ha="left" if left else "right",
        va="center",
        color=styles[label].color,
        fontsize=10,
    )


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

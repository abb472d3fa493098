"""Is momentum's advantage one of large batches? SGD and momentum 0.9, each at its best, with batches of 1 to 4,096.

Finding: Yes: momentum is ahead with batches of 512 and 4,096; no difference was found with batches of 1, 8 and 64. Both
have the best of 9 learning rates. SGD's iterations to a training loss of 0.25, over those of momentum 0.9, are 0.99
(0.87 to 1.20) at 1, 1.02 (0.88 to 1.11) at 8, 1.13 (0.97 to 1.37) at 64, 2.07 (1.80 to 2.56) at 512 and 2.37 (2.03 to
3.04) at 4,096 (medians of 16 seeds; the intervals hold together with 95 %). 6 other seeds chose the rates; none is at
the edge of those tried. At the lowest effective learning rate that gets both there, the ratio is 0.84 to 0.98 (medians
of the seeds that chose, without intervals). The highest effective rate with which half of the runs get there is, for
SGD and momentum, 0.022 and 0.016 at 1, 0.12 and 0.18 at 8, 0.71 and 1 at 64, 0.71 and 2 at 512 and 0.5 and 4 at 4,096.
The network is 784-32-32-10, on MNIST.
"""

import argparse
import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from study import Study, run

import momentum_jax as mj
from momentum_jax.analysis import (
    Interval,
    iterations_to,
    median_interval,
    median_of_trials,
    paired_differences,
    simultaneous_level,
)
from momentum_jax.report import STYLES
from momentum_jax.report.drawing import add_edge_row
from momentum_jax.tasks import Params, Scalars, image_classification

MOMENTUM = 0.9
OPTIMIZERS = {
    "sgd": mj.OptimizerConfig("sgd", learning_rate=0.1),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=MOMENTUM),
}
CONFIG = mj.Config(hidden_sizes=(32, 32), optimizers=OPTIMIZERS, record_every=1000)
# A sixteenth of the highest effective learning rate is the lowest.
RANGE = 16
EVALUATIONS, EXAMPLES = 125, 6000
# What the figure shows of ratios; where only one of the two gets there, the ratio is drawn at the edge.
SHOWN = (0.6, 4.0)


class Design(NamedTuple):
    """What is tried.

    Fields:
      sizes: by batch size, the highest effective learning rate and the iterations, of which the best need about half.
      target: the training loss that is to be reached.
      rates: how many learning rates each optimizer has.
      tuning, judged: the seeds by which the best rates are chosen, and those by which they are compared.
    """

    sizes: Mapping[int, tuple[float, int]]
    target: float
    rates: int
    tuning: range
    judged: range


FULL = Design(
    sizes={1: (2**-5, 25_000), 8: (2**-2, 5000), 64: (1, 1250), 512: (2, 500), 4096: (4, 250)},
    target=0.25,
    rates=9,
    tuning=range(100, 106),
    judged=range(16),
)
FAST = Design(sizes={64: (1, 2)}, target=3.0, rates=2, tuning=range(100, 101), judged=range(2))


Times = Float[np.ndarray, "rates seeds"]


class Found(NamedTuple):
    """What was found with batches of one size.

    Fields:
      best: by optimizer, the effective learning rate with which it needs the fewest iterations.
      at_an_edge: the optimizers whose best rate is the lowest or the highest that was tried.
      highest: by optimizer, the highest rate with which half of the runs get to the target.
      matched: by effective rate, how many times as many iterations SGD needs with the same one.
      advantage: how many times as many it needs where each has its best rate.
    """

    best: dict[str, float]
    at_an_edge: list[str]
    highest: dict[str, float]
    matched: dict[float, float]
    advantage: Interval


def study(arguments: argparse.Namespace) -> Study:
    design = FAST if arguments.fast else FULL
    task = make_task(CONFIG)
    found = {}
    for size in design.sizes:
        folder = arguments.folder and arguments.folder / f"batch-{size}"
        found[size] = compare(design, task, size, folder)
    numbers = {f"{size}": as_json(of_size) for size, of_size in found.items()}
    return Study(draw(design, found), find(numbers, design), numbers)


def make_task(cfg: mj.Config) -> mj.Task:
    """MNIST, evaluated on some of its training images: on all of them would take longer than to train."""
    task = image_classification(mj.load_dataset(cfg.dataset), hidden_sizes=cfg.hidden_sizes)

    def evaluate(params: Params, train: Any, _: None) -> Scalars:
        return {"train_loss": task.loss(params, jax.tree.map(lambda a: a[:EXAMPLES], train))}

    return dataclasses.replace(task, test=None, evaluate=evaluate)


def compare(design: Design, task: mj.Task, size: int, folder: pathlib.Path | None) -> Found:
    """Chooses the best rates by some seeds, and compares by others what they come to."""
    highest, iterations = design.sizes[size]
    every = max(1, iterations // EVALUATIONS)
    cfg = dataclasses.replace(CONFIG, batch_size=size, iterations=iterations, evaluate_every=every)

    def count(seeds: range, rates: Mapping[str, Sequence[float]], name: str) -> dict[str, Times]:
        space: dict[str, dict[str, Sequence[float]]] = {
            "sgd": {"learning_rate": rates["sgd"]},
            "momentum": {"learning_rate": [rate * (1 - MOMENTUM) for rate in rates["momentum"]]},
        }
        result = mj.sweep(
            dataclasses.replace(cfg, seeds=tuple(seeds)),
            space,
            task=task,
            folder=folder and folder / name,
        )
        curves = result.evaluations["train_loss"]
        return {label: iterations_to(curves[label], result.evaluation_iterations, design.target) for label in curves}

    effective = mj.LogUniform(highest / RANGE, highest).grid(design.rates)
    tried = count(design.tuning, dict.fromkeys(OPTIMIZERS, effective), "tuning")
    medians = {label: median_of_trials(t, np.isinf(t), np.zeros_like(t, bool)) for label, t in tried.items()}
    chosen = {label: int(of_label.argmin()) for label, of_label in medians.items()}
    best = {label: effective[at] for label, at in chosen.items()}
    final = count(design.judged, {label: [rate] for label, rate in best.items()}, "judged")
    return Found(
        best,
        [label for label, at in chosen.items() if at in (0, len(effective) - 1)],
        {label: max(itertools.compress(effective, np.isfinite(m)), default=math.nan) for label, m in medians.items()},
        {rate: ratio(*pair).value for rate, *pair in zip(effective, tried["sgd"], tried["momentum"], strict=True)},
        ratio(final["sgd"][0], final["momentum"][0], simultaneous_level(0.95, len(design.sizes))),
    )


def ratio(sgd: np.ndarray, momentum: np.ndarray, level: float = 0.95) -> Interval:
    """The median over seeds of SGD's iterations over momentum's, with its interval."""
    value, low, high, _ = median_interval(*paired_differences(np.log(sgd), np.log(momentum)), level)
    return Interval(math.exp(value), math.exp(low), math.exp(high), level)


def find(numbers: Mapping[str, Any], design: Design = FULL) -> str:
    """The finding, from the numbers of each batch size."""
    intervals = {int(size): Interval(**of_size["advantage"]) for size, of_size in numbers.items()}
    ahead = [size for size, advantage in intervals.items() if advantage.low > 1]
    behind = [size for size, advantage in intervals.items() if advantage.high < 1]
    neither = [size for size in intervals if size not in ahead + behind]
    largest = list(intervals)[len(intervals) - len(ahead) :]
    verdict = "No advantage was found" if not ahead else "Yes" if ahead == largest != list(intervals) else "Not only"
    sides = {"momentum is ahead": ahead, "SGD is ahead": behind, "no difference was found": neither}
    said = [f"{side} with batches of {listed(f'{size:,}' for size in sizes)}" for side, sizes in sides.items() if sizes]
    ratios = [f"{a.value:.2f} ({a.low:.2f} to {a.high:.2f}) at {size:,}" for size, a in intervals.items()]
    matched = [[float(ratio) for ratio in of_size["matched"].values()] for of_size in numbers.values()]
    lowest = [next(filter(math.isfinite, of_size), math.nan) for of_size in matched]
    limits = [
        f"{of_size['highest']['sgd']:.2g} and {of_size['highest']['momentum']:.2g} at {int(size):,}"
        for size, of_size in numbers.items()
    ]
    edges = [
        f"that of {label} at {int(size):,}" for size, of_size in numbers.items() for label in of_size["at_an_edge"]
    ]
    return (
        f"{verdict}: {'; '.join(said)}. Both have the best of {design.rates} learning rates. SGD's iterations to a "
        f"training loss of {design.target}, over those of momentum {MOMENTUM}, are {listed(ratios)} (medians of "
        f"{len(design.judged)} seeds; the intervals hold together with 95 %). {len(design.tuning)} other seeds chose "
        f"the rates; {listed(edges) if edges else 'none'} is at the edge of those tried. At the lowest effective "
        f"learning rate that gets both there, the ratio is {min(lowest):.2f} to {max(lowest):.2f} (medians of the "
        f"seeds that chose, without intervals). The highest effective rate with which half of the runs get there is, "
        f"for SGD and momentum, {listed(limits)}. "
        f"The network is 784-{'-'.join(map(str, CONFIG.hidden_sizes))}-10, on MNIST."
    )


def as_json(found: Found) -> dict[str, Any]:
    """The numbers of one batch size."""
    matched = {f"{rate:.4g}": round(r, 4) if math.isfinite(r) else f"{r}" for rate, r in found.matched.items()}
    return {**found._asdict(), "matched": matched, "advantage": found.advantage._asdict()}


def listed(texts: Iterable[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def draw(design: Design, found: Mapping[int, Found]) -> Figure:
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    at_best, matched = figure.subplots(1, 2, sharey=True)
    values = np.array([one.advantage[:3] for one in found.values()])
    middle, low, high = np.clip(values, *SHOWN).T
    at_best.errorbar(list(found), middle, [middle - low, high - middle], color="black", marker="o", capsize=3)
    at_best.set(xlabel="batch size", title="each at its best learning rate")
    at_best.set_ylabel(f"iterations to a training loss of {design.target},\nSGD's over momentum's")
    for axes in (at_best, matched):
        axes.set(xscale="log", yscale="log", ylim=SHOWN)
        axes.axhline(1, color="0.5", linewidth=0.8)
    ticks = [0.6, 0.8, 1, 1.5, 2, 3, 4]
    at_best.minorticks_off()
    at_best.set_yticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    at_best.set_xticks(list(found), [f"{size:,}" for size in found])
    row = add_edge_row(matched, "never").marks
    for (size, one), style in zip(found.items(), STYLES, strict=False):
        ratios = np.array(list(one.matched.values()))
        ratios = np.where(np.isinf(ratios), row, np.clip(ratios, *SHOWN))
        matched.plot(list(one.matched), ratios, **style._asdict(), markersize=5, label=f"{size:,}")
    matched.set(xlabel="effective learning rate of both", title="at the same effective learning rate")
    matched.legend(title="batch size", loc="upper left", bbox_to_anchor=(0, 0.86))
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

"""When does momentum help?

Finding: Sometimes: with each optimizer tuned, the heavy ball is ahead of SGD at 4 of 12 points by the iterations to a
target. By the training loss it is ahead of SGD at 11 of 12 points and behind at 1 at the same learning rate, and ahead
of SGD at 1 of 12 points and behind at 2 at the same effective learning rate. SGD's training loss is 2.3 times the heavy
ball's at the same learning rate and 1.00 times at the same effective one, in the median over points: what the tutorial
saw is the larger effective learning rate. Tuned SGD needs so many times the iterations of the tuned heavy ball:
logistic regression: 1.00 (0.87 to 1.48) with batches of 2, 1.00 (1.00 to 1.00) with batches of 16, 1.06 (1.00 to 1.53)
with batches of 128; least squares: 1.00 (0.78 to 1.07) with batches of 4, 1.62 (1.46 to 1.90) with batches of 32, 2.31
(2.21 to 2.40) with batches of 256; MNIST MLP: 1.00 (0.85 to 1.29) with batches of 4, 1.00 (0.79 to 1.08) with batches
of 32, 1.62 (1.24 to 2.19) with batches of 256; Shakespeare transformer: 1.07 (1.00 to 1.90) with batches of 2, 1.61
(1.36 to 1.95) with batches of 16, 1.32 (0.00 to 2.71) with batches of 128. Predicted was that it helps from the batch
size at which the heavy ball's limit of stability in mean square is half of the full batch's. From there on it is ahead
of SGD at 3 of 7 points; below, it is ahead of SGD at 1 of 5 points. Each tuned, Nesterov ahead of SGD at 7 of 12 points
and behind at 1, QHM ahead of SGD at 3 of 4 points, AggMo ahead of SGD at 3 of 4 points, Adam ahead of SGD at 1 of 4
points, Lion ahead of SGD at 0 of 4 points. With warm-up and cosine, the tuned heavy ball is ahead of SGD at 2 of 4
points. With coupled decay, the tuned heavy ball is ahead of SGD at 2 of 4 points. With decoupled decay, the tuned heavy
ball is ahead of SGD at 3 of 4 points. Of 42 points 14 are not run yet.

Six tasks are trained with small, middle and large batches, and each optimizer is tuned with an equal budget.

Each point is a comparison of its own, whose numbers are written when it is finished. Points that are there are not run
again, so that the study goes on where it was stopped, cheap points first. It says first how long that will take. A
point named by `--points` is run in any case, alone:

    python experiments/when_does_momentum_help.py --points logistic-regression-128

A target is the loss that nine of ten runs of tuned SGD reach in three quarters of the iterations. With each optimizer
tuned, the gain is the ratio of the iterations to it. At equal learning rates most runs of SGD miss it, so there the
gain is the ratio of the training losses at the end. No run has weight decay or clipping, but where a point's name says
so. The batch size from which momentum should help is predicted at initialisation, from the curvatures of 1,024 examples
(`momentum_jax.analysis.heavy_ball_crossover_batch`). With batch normalisation the examples of a batch depend on each
other, so batches of 16 stand for examples.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study import Study, run, write_numbers

import momentum_jax as mj
from momentum_jax._base.display import counted
from momentum_jax._base.errors import check_choice
from momentum_jax._base.machine import cores
from momentum_jax.analysis.curvature import directional_curvatures
from momentum_jax.analysis.noise import heavy_ball_crossover_batch, heavy_ball_mean_square_limit
from momentum_jax.analysis.sharpness import top_eigenvector
from momentum_jax.comparison.counts import planned_runs
from momentum_jax.comparison.metrics import median_of
from momentum_jax.comparison.protocols import plan_untuned
from momentum_jax.comparison.task_comparison import TIME
from momentum_jax.comparison.task_folder import folder_of
from momentum_jax.comparison.tuning import plan_search
from momentum_jax.comparison.verdict import Verdict
from momentum_jax.report import STYLES
from momentum_jax.report.drawing import make_logarithmic
from momentum_jax.space import EFFECTIVE, Space
from momentum_jax.training.validate import resolve_task

MOMENTUM, RATE = 0.9, 0.01
SGD, BALL, NESTEROV = "SGD", "heavy ball", "Nesterov"
OPTIMIZERS = {
    SGD: mj.OptimizerConfig("sgd", learning_rate=RATE),
    BALL: mj.OptimizerConfig("momentum", learning_rate=RATE, momentum=MOMENTUM),
    NESTEROV: mj.OptimizerConfig("nesterov", learning_rate=RATE, momentum=MOMENTUM),
    "QHM": mj.OptimizerConfig("qhm", learning_rate=RATE, momentum=0.99, nu=0.7),
    "AggMo": mj.OptimizerConfig("aggmo", learning_rate=RATE, betas=(0.0, 0.9, 0.99)),
    "Adam": mj.OptimizerConfig("optax.adam", learning_rate=RATE),
    "Lion": mj.OptimizerConfig("optax.lion", learning_rate=RATE),
}
RATES, MOMENTA = mj.LogUniform(1e-3, 10.0), mj.ReverseLogUniform(0.0, 0.99)
SPACE: dict[str, dict[str, Any]] = {
    SGD: {EFFECTIVE: RATES},
    BALL: {EFFECTIVE: RATES, "momentum": MOMENTA},
    NESTEROV: {EFFECTIVE: RATES, "momentum": MOMENTA},
    "QHM": {EFFECTIVE: RATES, "momentum": mj.ReverseLogUniform(0.0, 0.999), "nu": mj.Uniform(0.0, 1.0)},
    "AggMo": {EFFECTIVE: RATES, "betas": ((0.0, 0.9), (0.0, 0.9, 0.99), (0.0, 0.9, 0.99, 0.999))},
    "Adam": {"learning_rate": mj.LogUniform(1e-5, 0.1), "b1": MOMENTA},
    "Lion": {"learning_rate": mj.LogUniform(1e-6, 0.01), "b1": MOMENTA},
}
FEW = (SGD, BALL, NESTEROV)
# What the middle batch is also tried with: SGD and the heavy ball alone, or SGD and the references, which have no
# effective learning rate: with them among the others there would be no comparison at the same one.
VARIANTS = COSINE, COUPLED, DECOUPLED, REFERENCES = (
    *("warm-up and cosine", "coupled decay", "decoupled decay"),
    "adaptive references",
)
DECAY = 5e-4
# The range of gains in which ends of intervals are drawn that runs without a time leave open.
SHOWN = (0.5, 10.0)
# The examples that curvatures are measured on, and how many stand for one with batch normalisation.
EXAMPLES, GROUP = 1024, 16
# One seed for each trial, since the best trials are run again.
TUNING_SEEDS = 1
# The seconds that a point takes besides its runs, for compiling above all.
OVERHEAD = 30
FASHION = "/usr/share/datasets/fashion-mnist"
LOSS = "train_loss"
# What the figure shows of the heavy ball, by protocol: the metric of the gain, and the title.
PANELS = {
    "tuned": (TIME, "each tuned: iterations to the target"),
    "same": (LOSS, "same learning rate: training loss"),
    "matched": (LOSS, "same effective learning rate: training loss"),
}


class Setting(NamedTuple):
    """A task with what is spent on it.

    Fields:
      task: its text.
      sizes: the iterations by batch size, small to large; the second is the middle one.
      trials: of each optimizer.
      seeds: to judge with.
      dataset: of images.
    """

    task: str
    sizes: Mapping[int, int]
    trials: int
    seeds: int
    dataset: str = "mnist"


FULL = {
    "logistic regression": Setting("logistic", {2: 2000, 16: 1000, 128: 500}, 64, 20),
    "least squares": Setting(
        "least_squares,dimensions=64,mu=0.001,spectrum=power,noise=0.1", {4: 2000, 32: 1000, 256: 500}, 64, 20
    ),
    "MNIST MLP": Setting("mlp", {4: 2000, 32: 1000, 256: 300}, 32, 16),
    "deep autoencoder": Setting("autoencoder,hidden_sizes=(100,50),code=10", {4: 1500, 32: 750, 256: 300}, 32, 12),
    "Fashion-MNIST convnet": Setting(
        "convnet,channels=(4,8),batch_norm=true,shift=2", {8: 500, 32: 300, 128: 150}, 32, 12, FASHION
    ),
    "Shakespeare transformer": Setting(
        "char_transformer,layers=1,width=16,context=16", {2: 1500, 16: 750, 128: 250}, 32, 12
    ),
}
FAST = {"least squares": Setting("least_squares,mu=0.01,noise=0.1", {4: 40}, 2, 2)}


class Point(NamedTuple):
    """One comparison: a task, a batch size, and what else all its optimizers have, such as a schedule."""

    task: str
    setting: Setting
    batch_size: int
    variant: str | None

    @property
    def name(self) -> str:
        return folder_of(" ".join(filter(None, (self.task, str(self.batch_size), self.variant))))

    @property
    def is_middle(self) -> bool:
        return self.batch_size in list(self.setting.sizes)[1:2]

    @property
    def config(self) -> mj.Config:
        setting = self.setting
        return mj.Config(
            task=setting.task,
            dataset=setting.dataset,
            batch_size=self.batch_size,
            iterations=setting.sizes[self.batch_size],
            seeds=setting.seeds,
            optimizers=self.optimizers,
        )

    @property
    def optimizers(self) -> dict[str, mj.OptimizerConfig]:
        labels: tuple[str, ...]
        if self.variant is None:
            labels = (*FEW, "QHM", "AggMo") if self.is_middle else FEW
        else:
            labels = (SGD, "Adam", "Lion") if self.variant == REFERENCES else (SGD, BALL)
        return {label: self._varied(OPTIMIZERS[label]) for label in labels}

    def _varied(self, optimizer: mj.OptimizerConfig) -> mj.OptimizerConfig:
        values = optimizer.hyperparameters
        if self.variant == COSINE:
            steps = self.setting.sizes[self.batch_size]
            peak = values["learning_rate"]
            values["learning_rate"] = mj.Schedule(
                "warmup_cosine", peak_value=peak, warmup_steps=max(1, steps // 10), decay_steps=steps
            )
        elif self.variant in (COUPLED, DECOUPLED):
            values["weight_decay"] = DECAY
            # Without a velocity both decays are the same.
            if self.variant == DECOUPLED and optimizer.name != "sgd":
                values["decoupled_weight_decay"] = True
        return mj.OptimizerConfig(optimizer.name, **values)

    @property
    def space(self) -> Space:
        if self.variant == COSINE:
            return {"learning_rate.peak_value": RATES, "momentum": MOMENTA}
        return {label: SPACE[label] for label in self.optimizers}


def points_of(settings: Mapping[str, Setting]) -> list[Point]:
    """All points; those at the middle batch also with each variant."""
    plain = [Point(task, setting, size, None) for task, setting in settings.items() for size in setting.sizes]
    varied = [point._replace(variant=name) for point in plain if point.is_middle for name in VARIANTS]
    return plain + varied


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--points", nargs="*", default=[], metavar="POINT", help="run these alone")


def study(arguments: argparse.Namespace) -> Study:
    points = {point.name: point for point in points_of(FAST if arguments.fast else FULL)}
    for name in arguments.points:
        check_choice("--points", name, points)
    file = arguments.out / f"{pathlib.Path(__file__).stem}.json"
    found = json.loads(file.read_text())["numbers"]["points"] if file.exists() else {}
    seconds = {name: estimate(points[name]) for name in arguments.points or points.keys() - found.keys()}
    for name in sorted(seconds, key=seconds.__getitem__):
        print(f"{name}: {seconds[name] / 60:.1f} minutes", file=sys.stderr)
    print(f"{len(seconds)} of {len(points)} points, {sum(seconds.values()) / 3600:.1f} hours", file=sys.stderr)
    for name in sorted(seconds, key=seconds.__getitem__):
        found[name] = measure(points[name], arguments.folder)
        numbers = numbers_of(points, found)
        write_numbers(file, find(numbers), numbers)
    numbers = numbers_of(points, found)
    return Study(draw(numbers), find(numbers), numbers)


def numbers_of(points: Mapping[str, Point], found: Mapping[str, Any]) -> dict[str, Any]:
    """The points that are there, in order, and how many there will be."""
    return {"planned": len(points), "points": {name: found[name] for name in points if name in found}}


def estimate(point: Point) -> float:
    """The seconds that a point takes: its runs on all cores, each as long as one of SGD.

    An iteration takes as long as the difference of 150 and 50 says, without what a training begins with.
    """
    cfg = point.config
    search = plan_search(cfg, point.space, "sobol", point.setting.trials, 0, TUNING_SEEDS, 3, 10)
    runs = planned_runs(search, cfg, plan_untuned(cfg, None, None), 0.95)
    alone = dataclasses.replace(cfg, optimizers={SGD: cfg.optimizers[SGD]}, seeds=cores())

    def seconds(count: int) -> dict[str, float]:
        short = dataclasses.replace(alone, iterations=count)
        found: dict[str, float] = mj.train(short, progress=False).provenance["seconds"]
        return found

    few, more = seconds(50), seconds(150)
    iteration = max(0.0, more["training"] - few["training"]) / 100
    evaluation = min(few["evaluating"], more["evaluating"])
    count = runs.tuning + runs.rerunning + runs.judging
    return OVERHEAD + count * (cfg.iterations * iteration + evaluation) / cores()


def measure(point: Point, folder: pathlib.Path | None) -> dict[str, Any]:
    """The numbers of a point, as JSON types."""
    compared = mj.compare_tasks(
        {point.task: point.config},
        point.optimizers,
        cfg=mj.Config(seeds=point.setting.seeds),
        space=point.space,
        trials=point.setting.trials,
        tuning_seeds=TUNING_SEEDS,
        folder=folder and folder / point.name,
    ).comparisons[point.task]
    scores = [name for name in ("test_accuracy", "test_bits_per_character", "test_loss") if name in judged(compared)]
    return {
        "task": point.task,
        "config": point.config.to_json(),
        "variant": point.variant,
        "trials": point.setting.trials,
        "target": compared.target,
        "notes": list(compared.notes),
        "predicted": predicted(point),
        "protocols": {
            name: {
                label: {
                    "optimizer": arm.trial.optimizer.to_json(),
                    "medians": {
                        metric: number(median_of(metric, arm.values[metric])) for metric in (TIME, LOSS, *scores[:1])
                    },
                    "gains": gains(compared, name, label),
                }
                for label, arm in protocol.arms.items()
            }
            for name, protocol in compared.protocols.items()
        },
    }


def judged(compared: mj.Comparison) -> set[str]:
    return {verdict.metric for verdict in compared.verdicts}


def number(value: float) -> float | None:
    """A number with four digits; None where half of the runs failed or missed the target."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def gains(compared: mj.Comparison, protocol: str, label: str) -> dict[str, Any]:
    """By metric, SGD's iterations or loss over those of another optimizer, with the verdict on them.

    It is that of the median paired difference. An end of the interval is None where runs miss the target.
    """
    if label == SGD or SGD not in compared.protocols[protocol].arms:
        return {}
    metrics = [metric for metric in (TIME, LOSS) if metric in judged(compared)]
    return {metric: gain(compared.verdict(protocol, metric, label, SGD)) for metric in metrics}


def gain(verdict: Verdict) -> dict[str, Any]:
    values = (verdict.median_b + difference for difference in verdict.difference[:3])
    value, low, high = (number(verdict.median_b / own) if own > 0 else None for own in values)
    return {"outcome": verdict.outcome, "value": value, "low": high, "high": low}


def predicted(point: Point) -> dict[str, Any]:
    """λ and σ² of the examples at the weights of seed 0, and what stability in mean square says of the batch size.

    `effective` is the heavy ball's largest stable effective learning rate over that of gradient descent.
    """
    task = resolve_task(point.config, None)
    key = jax.random.key(0)
    params, state = task.init(key) if task.has_state else (task.init(key), None)
    grouped = GROUP if task.has_state else 1
    data = jax.tree.map(lambda rows: np.reshape(rows[:EXAMPLES], (-1, grouped, *rows.shape[1:])), task.train)

    def loss(params: Any, groups: Any) -> Any:
        def of_group(group: Any) -> Any:
            return task.loss(params, state, group)[0] if task.has_state else task.loss(params, group)

        return jax.vmap(of_group)(groups).mean()

    curvatures = directional_curvatures(loss, params, data, top_eigenvector(loss, params, data, key), slice_size=64)
    curvature, variance = curvatures.mean(), curvatures.var() * grouped
    limits = [heavy_ball_mean_square_limit(beta, curvature, variance / point.batch_size) for beta in (0.0, MOMENTUM)]
    return {
        "curvature": number(float(curvature)),
        "example_variance": number(float(variance)),
        "crossover": number(float(heavy_ball_crossover_batch(MOMENTUM, curvature, variance))),
        "effective": number(float(limits[1] / (1 - MOMENTUM) / limits[0])),
    }


def find(numbers: Mapping[str, Any]) -> str:
    """The finding, from the numbers of the points that are there."""
    points = numbers["points"]
    plain = without_variants(points)
    if not plain:
        return f"Nothing yet: none of {numbers['planned']} points is finished."
    parts = [overall(plain), *effective(plain), tasks_of(plain), prediction(plain), *others(points), *varied(points)]
    unfinished = numbers["planned"] - len(points)
    if unfinished:
        parts.append(f"Of {numbers['planned']} points {unfinished} are not run yet.")
    return " ".join(parts)


def without_variants(points: Mapping[str, Any]) -> dict[str, Any]:
    return {name: point for name, point in points.items() if point["variant"] is None}


def gain_of(point: Mapping[str, Any], protocol: str, label: str, metric: str) -> dict[str, Any] | None:
    """The gain of an optimizer over SGD at a point, if it has one."""
    gain: dict[str, Any] | None = point["protocols"].get(protocol, {}).get(label, {}).get("gains", {}).get(metric)
    return gain


def outcomes(points: Mapping[str, Any], protocol: str, label: str, metric: str = TIME) -> list[str]:
    """The verdicts on an optimizer against SGD, one of each point that has one."""
    own = (gain_of(point, protocol, label, metric) for point in points.values())
    return [gain["outcome"] for gain in own if gain]


def tally(found: Sequence[str]) -> str:
    ahead, behind = found.count("better"), found.count("worse")
    told = f"ahead of SGD at {ahead} of {counted(len(found), 'point')}"
    return told + (f" and behind at {behind}" if behind else "")


def overall(plain: Mapping[str, Any]) -> str:
    """In how many points the heavy ball is ahead, by protocol; the answer first."""
    tuned, same, matched = (outcomes(plain, protocol, BALL, metric) for protocol, (metric, _) in PANELS.items())
    ahead = tuned.count("better")
    answer = "Mostly" if 2 * ahead > len(tuned) else "Sometimes" if ahead else "Not here"
    return (
        f"{answer}: with each optimizer tuned, the heavy ball is {tally(tuned)} by the iterations to a target. By the "
        f"training loss it is {tally(same)} at the same learning rate, and {tally(matched)} at the same effective "
        "learning rate."
    )


def effective(plain: Mapping[str, Any]) -> Iterator[str]:
    """What the tutorial's comparison, at the same learning rate, measures."""
    same, matched = (
        [gain["value"] for point in plain.values() if (gain := gain_of(point, protocol, BALL, LOSS)) and gain["value"]]
        for protocol in ("same", "matched")
    )
    if not same or not matched:
        return
    whole, left = float(np.median(same)), float(np.median(matched))
    # The effective learning rate explains all but a tenth of the gain, by its logarithm.
    if 10 * abs(math.log(left)) < math.log(whole):
        yield (
            f"SGD's training loss is {whole:.1f} times the heavy ball's at the same learning rate and {left:.2f} times "
            "at the same effective one, in the median over points: what the tutorial saw is the larger effective "
            "learning rate."
        )


def tasks_of(plain: Mapping[str, Any]) -> str:
    """The tuned heavy ball's gain with each batch size, by task."""
    by_task: dict[str, list[str]] = {}
    for point in plain.values():
        gain = gain_of(point, "tuned", BALL, TIME)
        said = told(gain) if gain else "no time"
        by_task.setdefault(point["task"], []).append(f"{said} with batches of {point['config']['batch_size']:,}")
    listed = "; ".join(f"{task}: {', '.join(texts)}" for task, texts in by_task.items())
    return f"Tuned SGD needs so many times the iterations of the tuned heavy ball: {listed}."


def told(gain: Mapping[str, Any]) -> str:
    value, low, high = (gain[end] for end in ("value", "low", "high"))
    if value is None:
        return "no number, since runs miss the target,"
    return f"{value:.2f} ({'0' if low is None else f'{low:.2f}'} to {'∞' if high is None else f'{high:.2f}'})"


def prediction(plain: Mapping[str, Any]) -> str:
    """How often the tuned heavy ball is ahead above the predicted crossover, and how often below."""
    sides: dict[bool, list[str]] = {True: [], False: []}
    for name, point in plain.items():
        crossover = point["predicted"]["crossover"]
        if crossover is not None:
            sides[point["config"]["batch_size"] >= crossover] += outcomes({name: point}, "tuned", BALL)
    above, below = (tally(found) for found in (sides[True], sides[False]))
    return (
        "Predicted was that it helps from the batch size at which the heavy ball's limit of stability in mean square "
        f"is half of the full batch's. From there on it is {above}; below, it is {below}."
    )


def others(points: Mapping[str, Any]) -> Iterator[str]:
    """How often the other optimizers are ahead of SGD, each tuned: Nesterov everywhere, the rest at middle batches."""
    own = {name: point for name, point in points.items() if point["variant"] in (None, REFERENCES)}
    texts = [
        f"{label} {tally(found)}"
        for label in OPTIMIZERS
        if label not in (SGD, BALL) and (found := outcomes(own, "tuned", label))
    ]
    if texts:
        yield f"Each tuned, {', '.join(texts)}."


def varied(points: Mapping[str, Any]) -> Iterator[str]:
    """What warm-up and cosine decay, and weight decay, change at the middle batch."""
    for variant in (COSINE, COUPLED, DECOUPLED):
        if own := {name: point for name, point in points.items() if point["variant"] == variant}:
            yield f"With {variant}, the tuned heavy ball is {tally(outcomes(own, 'tuned', BALL))}."


def draw(numbers: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
    for axes, (protocol, (metric, title)) in zip(panels, PANELS.items(), strict=True):
        draw_gains(axes, numbers["points"], protocol, metric)
        axes.set_title(title, fontsize=11)
    panels[0].set_ylabel("gain: SGD's over the heavy ball's")
    # Not of the figure, whose label would lie over the legend.
    panels[1].set_xlabel("batch size over the batch size from which momentum should help")
    handles, labels = panels[-1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_gains(axes: Axes, points: Mapping[str, Any], protocol: str, metric: str) -> None:
    """A line for each task: the heavy ball's gain with its interval, whose ends are within the figure."""
    for task, style in zip(FULL, STYLES, strict=False):
        own = (point for point in points.values() if point["task"] == task and point["variant"] is None)
        rows = sorted(row for point in own if (row := row_of(point, protocol, metric)))
        if not rows:
            continue
        x, value, low, high = np.array(rows).T
        bars: dict[str, Any] = {"color": style.color, "marker": style.marker, "markersize": 5, "capsize": 2}
        axes.errorbar(x, value, [value - low, high - value], **bars, linewidth=1.2, label=task)
    axes.axhline(1, color="0.4", linewidth=1)
    axes.axvline(1, color="0.4", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    make_logarithmic(axes)
    axes.grid(alpha=0.25)


def row_of(point: Mapping[str, Any], protocol: str, metric: str) -> tuple[float, float, float, float] | None:
    """The batch size over the predicted crossover, the gain, and its ends; None where one of the first is missing."""
    gain, crossover = gain_of(point, protocol, BALL, metric), point["predicted"]["crossover"]
    if not (gain and gain["value"] and crossover):
        return None
    low, high = gain["low"] or SHOWN[0], gain["high"] or SHOWN[1]
    return point["config"]["batch_size"] / crossover, gain["value"], low, high


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv, add_arguments)


if __name__ == "__main__":
    main()

"""Do MARS, Grokfast, AccSGD and other names of QHM beat a tuned QHM, heavy ball or SGD at an equal tuning budget?

Finding: No: at 240 trials each, 0 of the 7 methods end at some batch size with a lower training loss than QHM, 6 with a
lower one than the heavy ball, and 7 with a lower one than SGD. That gains vanish once all methods are tuned alike is
borne out against QHM, and not against the heavy ball and SGD. The intervals leave room for a gain over QHM of at most
6.3 % (MARS with batches of 512). Of 14 comparisons with a baseline they win none and lose 8 (AccSGD, synthesized
Nesterov, primal averaging, MARS and outer Nesterov with batches of 32; AccSGD, primal averaging and Grokfast with
batches of 512) against QHM, win 10 (AccSGD, MaSS, MARS and Grokfast with batches of 32; AccSGD, MaSS, synthesized
Nesterov, MARS, Grokfast and outer Nesterov with batches of 512) and lose none against the heavy ball, and win 11
(AccSGD, MaSS, MARS and Grokfast with batches of 32; all with batches of 512) and lose none against SGD. These are of
the trials that won, judged by 60 seeds; the intervals leave out the luck of the search. At 16 trials each they win none
and lose none against QHM. These are of 15 tunings, each with 2 seeds that choose and 5 others that judge, and the
intervals have the luck in them. They leave room for a gain over QHM of at most 41.2 % (synthesized Nesterov with
batches of 512); two tunings of one method differ by 10.6 % (median). The intervals at a budget hold together with 95 %.
Of the 300 learning rates that were chosen, 0.3 % are in the outer 5 % of their ranges, on a logarithmic scale. The runs
have 600 and 150 iterations on 10,000 images.

Each method is QHM, p ← p − η·((1 − ν)·g + ν·a) with a ← β·a + (1 − β)·g, under parameters of its own
(`momentum_jax.optimizers.FAMILY`). So a tuned method can be better than a tuned QHM only by where its parameters lead
the search. Each is searched at random over the ranges in `METHODS`, which hold the defaults of its paper or code. MARS
has no preconditioner here, Grokfast is on gradient descent, and the outer Nesterov momentum has one inner step.

A tuning draws trials and seeds of its own, and takes the trial with the lowest median training loss at the end. Other
seeds judge it, the same for all methods. Tunings are repeated, since one may be lucky, and an interval is that of the
median over the tunings of the ratio of two methods' losses. The best of all tunings, which is the best of many trials,
is judged once more by new seeds. There an interval is that of the median over the seeds, for the trials that won.

For language models Wen et al. (2509.02046) find that gains over AdamW shrink once all methods are tuned. Semenov et al.
(2509.01440) count MARS among the best even then, with its preconditioner.

The network, 64-32-10 with ReLUs, learns images of MNIST that are averaged to 8×8, at constant learning rates.
"""

import argparse
import itertools
import math
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optax
from batch_size import listed
from batch_size_law import make_task
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study import Study, run

import momentum_jax as mj
from momentum_jax.analysis import (
    Interval,
    median_interval,
    paired_differences,
    simultaneous_level,
)
from momentum_jax.optimizers import convert
from momentum_jax.report import STYLES, Style
from momentum_jax.space import Values, make_trials


def mass_arguments(learning_rate: Any, alpha: Any, kappa: Any) -> dict[str, Any]:
    """The arguments of `mass` from those of its authors' code."""
    eta2 = learning_rate * (1 - 1 / kappa) / (1 + alpha)
    return {"learning_rate": learning_rate, "eta2": eta2, "gamma": (1 - alpha) / (1 + alpha)}


def mass(learning_rate: Any, alpha: Any, kappa: Any) -> optax.GradientTransformation:
    return mj.optimizers.mass(**mass_arguments(learning_rate, alpha, kappa))


class Method(NamedTuple):
    """A method with the defaults of its paper or code, and the ranges of its parameters."""

    optimizer: mj.OptimizerConfig
    space: Mapping[str, Values]


def method(name: str | Callable[..., Any], **parameters: tuple[float, Values]) -> Method:
    """The method with a default and a range for each parameter."""
    defaults = {key: default for key, (default, _) in parameters.items()}
    return Method(mj.OptimizerConfig(name, **defaults), {key: values for key, (_, values) in parameters.items()})


Log, Lin = mj.LogUniform, mj.Uniform
# Of methods whose learning rate multiplies an average or a gradient, and of those where a velocity adds them up.
AVERAGED, SUMMED = (0.1, Log(0.03, 30)), (0.01, Log(0.003, 3))
MOMENTA = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
BALL, QHM, SGD = "heavy ball", "QHM", "SGD"
METHODS = {
    SGD: method("sgd", learning_rate=AVERAGED),
    BALL: method("momentum", learning_rate=SUMMED, momentum=(0.9, MOMENTA)),
    QHM: method("qhm", learning_rate=AVERAGED, momentum=(0.999, (*MOMENTA, 0.999)), nu=(0.7, Lin(0, 1))),
    "AccSGD": method("accsgd", learning_rate=AVERAGED, kappa=(1000.0, Log(100, 10_000)), xi=(10.0, Log(1.5, 15))),
    "MaSS": method(mass, learning_rate=AVERAGED, alpha=(0.05, Log(0.005, 0.08)), kappa=(12.0, Log(1, 12.5))),
    "synthesized Nesterov": method(
        "synthesized_nesterov", learning_rate=SUMMED, beta1=(0.9, MOMENTA), beta2=(0.9, Lin(0, 1))
    ),
    "primal averaging": method("primal_averaging", learning_rate=AVERAGED, c=(0.1, Log(0.01, 0.5))),
    "MARS": method("mars", learning_rate=AVERAGED, gamma=(0.025, Log(0.005, 0.5)), beta1=(0.95, MOMENTA)),
    "Grokfast": method("grokfast", learning_rate=AVERAGED, alpha=(0.98, MOMENTA), lamb=(2.0, Log(0.1, 10))),
    "outer Nesterov": method(
        "outer_nesterov", learning_rate=SUMMED, outer_learning_rate=(0.7, Lin(0.3, 1)), momentum=(0.9, MOMENTA)
    ),
}
BASELINES = (QHM, BALL, SGD)
# The two budgets under which losses are judged: of each tuning, and of all tunings together.
EACH, ALL = "losses of each tuning", "losses of the best of all, by seed"
MEMBERS = tuple(label for label in METHODS if label not in BASELINES)
# A learning rate in the outer part of its range, so much of it at either end on the logarithmic scale, is at an edge.
EDGE = 0.05


class Design(NamedTuple):
    """What is tried.

    Fields:
      sizes: iterations by batch size.
      images: how many are trained on.
      tunings: how often all methods are tuned.
      trials: of each method in a tuning.
      tuning_seeds, seeds: how many choose in a tuning, and how many others judge what it chose.
      last_seeds: how many judge the best of all tunings.
    """

    sizes: Mapping[int, int]
    images: int
    tunings: int
    trials: int
    tuning_seeds: int
    seeds: int
    last_seeds: int


FULL = Design(sizes={32: 600, 512: 150}, images=10_000, tunings=15, trials=16, tuning_seeds=2, seeds=5, last_seeds=60)
FAST = Design(sizes={64: 60}, images=500, tunings=2, trials=6, tuning_seeds=1, seeds=1, last_seeds=2)

# On the map, one parameter of each method varies from its default.
VARIED = {
    QHM: ("nu", np.linspace(0, 1)),
    "AccSGD": ("xi", np.geomspace(1 / 0.7, 1000**0.5)),
    "MaSS": ("kappa", np.geomspace(1, 20)),
    "synthesized Nesterov": ("beta2", np.linspace(0, 9)),
    "primal averaging": ("c", np.geomspace(0.001, 1)),
    "MARS": ("gamma", np.linspace(0, 1)),
    "Grokfast": ("lamb", np.geomspace(0.01, 100)),
    "outer Nesterov": ("momentum", 1 - np.geomspace(0.001, 1)),
}
# The names on the map, where they stand if not at a default, and how far from there, in points.
NAMES: Mapping[str, tuple[str, tuple[float, float] | None, tuple[int, int]]] = {
    SGD: ("SGD", (0.0, 0.0), (8, 0)),
    BALL: ("heavy ball", (0.0, 1.0), (4, 9)),
    QHM: (QHM, None, (-9, 0)),
    "AccSGD": ("AccSGD", None, (8, 11)),
    "MaSS": ("MaSS", None, (9, 0)),
    "synthesized Nesterov": ("synthesized Nesterov", (0.9, 0.1), (-6, 0)),
    "primal averaging": ("primal averaging", None, (-4, 10)),
    "MARS": ("MARS", None, (4, 13)),
    "Grokfast": ("Grokfast", None, (-9, -6)),
    "outer Nesterov": ("outer Nesterov", None, (-10, 2)),
}
# The range of ratios of losses that is drawn, beyond which they stand at its ends, and its ticks.
SHOWN, RATIOS = (0.5, 2.2), (0.5, 0.6, 0.7, 0.8, 1, 1.2, 1.5, 2)


class Tuned(NamedTuple):
    """What a tuning chose for a method, and the median loss of the seeds that judge it."""

    optimizer: mj.OptimizerConfig
    loss: float


Losses = Mapping[str, Float[np.ndarray, " seeds"]]
Train = Callable[[str, Mapping[str, mj.OptimizerConfig], Sequence[int]], Losses]


class Found(NamedTuple):
    """With batches of one size: what the tunings chose, and the losses of the best of all by seed."""

    tunings: list[dict[str, Tuned]]
    best: Losses


def study(arguments: argparse.Namespace) -> Study:
    design = FAST if arguments.fast else FULL
    task = make_task(design.images)
    found = {size: tune_all(design, trainer(design, task, size, arguments.folder)) for size in design.sizes}
    numbers = summarize(design, found)
    return Study(draw(numbers), find(numbers), numbers)


def trainer(design: Design, task: mj.Task, size: int, folder: pathlib.Path | None) -> Train:
    """A function that trains optimizers by label with some seeds, and gives the losses at the end, +inf if failed."""

    def train(name: str, optimizers: Mapping[str, mj.OptimizerConfig], seeds: Sequence[int]) -> Losses:
        cfg = mj.Config(
            iterations=design.sizes[size],
            batch_size=size,
            seeds=tuple(seeds),
            # All are QHM, and so one program.
            optimizers={label: as_qhm(optimizer) for label, optimizer in optimizers.items()},
            record_every=design.sizes[size],
        )
        result = mj.sweep(cfg, {}, task=task, folder=folder and folder / f"batch-{size}" / name)
        ends = {label: of[0, :, -1] for label, of in result.evaluations["train_loss"].items()}
        return {label: np.where(result.failed[label][0], np.inf, of) for label, of in ends.items()}

    return train


def tune_all(design: Design, train: Train) -> Found:
    """All tunings, and the best of each method over them, with seeds that no tuning has."""
    tunings = [tune(design, train, number) for number in range(design.tunings)]
    best = {label: min((of[label] for of in tunings), key=lambda of: of.loss).optimizer for label in METHODS}
    first = design.tunings * (design.seeds + design.tuning_seeds)
    return Found(tunings, train("best", best, range(first, first + design.last_seeds)))


def tune(design: Design, train: Train, number: int) -> dict[str, Tuned]:
    """Each method at its best of as many trials, in the tuning of a number, which decides on draws and seeds."""
    count = design.seeds + design.tuning_seeds
    seeds = range(number * count, (number + 1) * count)
    cfg = mj.Config(optimizers={label: of.optimizer for label, of in METHODS.items()})
    spaces = {label: of.space for label, of in METHODS.items()}
    trials = make_trials(cfg, spaces, search="random", budget=design.trials, search_seed=number)
    drawn = {f"{label} {i}": trial.optimizer for label, own in trials.items() for i, trial in enumerate(own)}
    tried = train(f"tuning-{number}", drawn, seeds[design.seeds :])
    names = {label: [f"{label} {i}" for i in range(design.trials)] for label in METHODS}
    best = {label: drawn[min(own, key=lambda name: np.median(tried[name]))] for label, own in names.items()}
    judged = train(f"judged-{number}", best, seeds[: design.seeds])
    return {label: Tuned(best[label], float(np.median(of))) for label, of in judged.items()}


def as_qhm(optimizer: mj.OptimizerConfig) -> mj.OptimizerConfig:
    """The QHM that an optimizer is."""
    name, own = optimizer.name, optimizer.hyperparameters
    if name == "sgd":
        return mj.OptimizerConfig("qhm", **own, momentum=0.0, nu=0.0)
    if name is mass:
        name, own = "mass", mass_arguments(**own)
    return mj.OptimizerConfig("qhm", **convert(own, "momentum_jax" if name == "momentum" else name, "qhm"))


def constants(optimizer: mj.OptimizerConfig) -> tuple[float, float]:
    """β and ν of the QHM that an optimizer is."""
    qhm = as_qhm(optimizer).hyperparameters
    return qhm["momentum"], qhm["nu"]


def at_an_edge(label: str, optimizer: mj.OptimizerConfig) -> bool:
    """Whether the learning rate is near the lowest or the highest of its range."""
    allowed: Any = METHODS[label].space["learning_rate"]
    rate = optimizer.hyperparameters["learning_rate"]
    return not EDGE < math.log(rate / allowed.low) / math.log(allowed.high / allowed.low) < 1 - EDGE


def summarize(design: Design, found: Mapping[int, Found]) -> dict[str, Any]:
    """The numbers that finding and figure are made of."""
    batches = {
        f"{size}": {
            label: {
                EACH: [rounded(of[label].loss) for of in tunings],
                ALL: [rounded(loss) for loss in best[label]],
                "β and ν": [[round(x, 4) for x in constants(of[label].optimizer)] for of in tunings],
                "learning rates at an edge": sum(at_an_edge(label, of[label].optimizer) for of in tunings),
            }
            for label in METHODS
        }
        for size, (tunings, best) in found.items()
    }
    sizes = {f"{size}": iterations for size, iterations in design.sizes.items()}
    return {**design._asdict(), "sizes": sizes, "batches": batches}


def rounded(loss: float) -> float:
    """To five digits."""
    return float(f"{loss:.5g}")


def ratio(numbers: Mapping[str, Any], size: str, label: str, losses: str, base: str = QHM) -> Interval:
    """A method's loss over another's: the median over the tunings or seeds that both have, and its interval.

    The intervals of all members, baselines and batch sizes hold together with 95 %.
    """
    a, b = (np.log(numbers["batches"][size][name][losses]) for name in (label, base))
    level = simultaneous_level(0.95, len(MEMBERS) * len(BASELINES) * len(numbers["batches"]))
    value, low, high, _ = median_interval(*paired_differences(a, b), level)
    return Interval(math.exp(value), math.exp(low), math.exp(high), level)


def find(numbers: Mapping[str, Any]) -> str:
    """The finding, from the numbers of `summarize`."""
    batches: Mapping[str, Mapping[str, Any]] = numbers["batches"]
    keys = [(size, label) for size in batches for label in MEMBERS]
    each, of_all = ({key: ratio(numbers, *key, losses) for key in keys} for losses in (EACH, ALL))
    ahead = {
        base: {label for size, label in keys if ratio(numbers, size, label, ALL, base).high < 1} for base in BASELINES
    }
    answer = "No" if not ahead[QHM] else "Yes" if ahead[QHM] == set(MEMBERS) else "In part"
    chosen = numbers["tunings"] * len(METHODS) * len(batches)
    edges = sum(of["learning rates at an edge"] for by_label in batches.values() for of in by_label.values())
    iterations = listed(f"{count:,}" for count in numbers["sizes"].values())
    trials = numbers["trials"]
    return (
        f"{answer}: at {trials * numbers['tunings']} trials each, {len(ahead[QHM])} of the {len(MEMBERS)} methods end "
        f"at some batch size with a lower training loss than QHM, {len(ahead[BALL])} with a lower one than the heavy "
        f"ball, and {len(ahead[SGD])} with a lower one than SGD. That gains vanish once all methods are tuned alike is "
        f"{borne_out(ahead)}. The intervals leave room for a gain over QHM of {room(of_all)}. Of {len(keys)} "
        f"comparisons with a baseline they {tallies(numbers)}. These are of the trials that won, judged by "
        f"{numbers['last_seeds']} seeds; the intervals leave out the luck of the search. At {trials} trials each they "
        f"{tally(numbers, EACH, QHM)} against QHM. These are of {numbers['tunings']} tunings, each with "
        f"{numbers['tuning_seeds']} seeds that choose and {numbers['seeds']} others that judge, and the intervals have "
        f"the luck in them. They leave room for a gain over QHM of {room(each)}; two tunings of one method differ by "
        f"{100 * luck(numbers):.1f} % (median). The "
        f"intervals at a budget hold together with 95 %. Of the {chosen:,} learning rates that were chosen, "
        f"{100 * edges / chosen:.1f} % are in the outer {100 * EDGE:g} % of their ranges, on a logarithmic scale. The "
        f"runs have {iterations} iterations on {numbers['images']:,} images."
    )


def tallies(numbers: Mapping[str, Any]) -> str:
    """How often the members win and lose against each baseline, at the larger budget."""
    return (
        f"{tally(numbers, ALL, QHM)} against QHM, {tally(numbers, ALL, BALL)} against the heavy ball, and "
        f"{tally(numbers, ALL, SGD)} against SGD"
    )


def tally(numbers: Mapping[str, Any], losses: str, base: str) -> str:
    """How often the members win and lose against a baseline, and which."""
    won: dict[str, list[str]] = {}
    lost: dict[str, list[str]] = {}
    for size in numbers["batches"]:
        intervals = {label: ratio(numbers, size, label, losses, base) for label in MEMBERS}
        won[size] = [label for label, of in intervals.items() if of.high < 1]
        lost[size] = [label for label, of in intervals.items() if of.low > 1]
    return f"win {named(won)} and lose {named(lost)}"


def borne_out(ahead: Mapping[str, Collection[str]]) -> str:
    """Against which baselines no member is ahead."""
    names = {label: "the heavy ball" if label == BALL else label for label in ahead}
    holds, fails = ([names[base] for base, labels in ahead.items() if bool(labels) == some] for some in (False, True))
    if not fails or not holds:
        return f"{'' if holds else 'not '}borne out"
    return f"borne out against {listed(holds)}, and not against {listed(fails)}"


def room(ratios: Mapping[tuple[str, str], Interval]) -> str:
    """The largest gain that the intervals leave room for."""
    least = min(ratios, key=lambda key: ratios[key].low)
    return f"at most {100 * (1 - ratios[least].low):.1f} % ({place(least)})"


def place(key: tuple[str, str]) -> str:
    size, label = key
    return f"{label} with batches of {int(size):,}"


def named(labels: Mapping[str, Sequence[str]]) -> str:
    """How many labels there are, and which at which batch size."""
    count = sum(map(len, labels.values()))
    which = (
        f"{'all' if len(of) == len(MEMBERS) else listed(of)} with batches of {int(size):,}"
        for size, of in labels.items()
        if of
    )
    return f"{count} ({'; '.join(which)})" if count else "none"


def luck(numbers: Mapping[str, Any]) -> float:
    """How much the losses of two tunings of one method differ: the median over pairs, methods and batch sizes."""
    pairs = [
        0.0 if a == b else abs(math.log(a) - math.log(b))
        for of_size in numbers["batches"].values()
        for of in of_size.values()
        for a, b in itertools.combinations(of[EACH], 2)
    ]
    return math.expm1(np.median(pairs))


def draw(numbers: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(9, 9.5), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1])
    # The baselines are grey.
    styles = dict(zip(MEMBERS, STYLES, strict=True)) | {
        label: Style("0.45", marker, "-") for label, marker in zip(BASELINES, "*hd", strict=True)
    }
    draw_map(halves[0].subplots(), numbers, styles)
    panels = halves[1].subplots(1, len(numbers["batches"]), sharey=True, squeeze=False)[0]
    for axes, size in zip(panels, numbers["batches"], strict=True):
        draw_losses(axes, numbers, size, styles)
    trials = numbers["trials"]
    halves[1].supxlabel(
        f"training loss over QHM's. Open: at {trials} trials each (dots: tunings). "
        f"Filled: at {trials * numbers['tunings']} trials each. Bars: intervals.",
        fontsize=10,
    )
    return figure


def abscissa(beta: Any) -> Any:
    return -np.log10(1 - np.asarray(beta))


def draw_map(axes: Axes, numbers: Mapping[str, Any], styles: Mapping[str, Style]) -> None:
    """The plane of β and ν with all methods: their loci, defaults, and what the tunings chose."""
    *_, size = numbers["batches"]
    for label, (name, values) in VARIED.items():
        default = METHODS[label].optimizer
        varied = (default.hyperparameters | {name: value} for value in values.tolist())
        beta, nu = np.transpose([constants(mj.OptimizerConfig(default.name, **own)) for own in varied])
        axes.plot(abscissa(beta), nu, color=styles[label].color, linewidth=1.3, alpha=0.8)
    for label, of in numbers["batches"][size].items():
        beta, nu = np.transpose(of["β and ν"])
        axes.plot(abscissa(beta), nu, styles[label].marker, color=styles[label].color, markersize=4, alpha=0.45)
    for label, (text, place, offset) in NAMES.items():
        at, style = place or constants(METHODS[label].optimizer), styles[label]
        if place is None:
            mark: dict[str, Any] = {"color": style.color, "markersize": 10, "markeredgecolor": "white", "zorder": 3}
            axes.plot(abscissa(at[0]), at[1], style.marker, **mark)
        axes.annotate(
            text,
            (float(abscissa(at[0])), at[1]),
            offset,
            textcoords="offset points",
            color=style.color,
            ha="right" if offset[0] < 0 else "left",
            va="center",
        )
    ticks = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999]
    axes.set_xticks(abscissa(ticks), [f"{tick:g}" for tick in ticks])
    axes.set(xlabel="momentum β", ylabel="share ν of the average in the step", ylim=(-0.06, 1.12))
    axes.set_title(
        "large: defaults; lines: one parameter of the method varies; "
        f"small: chosen by the tunings with batches of {int(size):,}",
        fontsize=10,
    )
    axes.grid(alpha=0.2)


def draw_losses(axes: Axes, numbers: Mapping[str, Any], size: str, styles: Mapping[str, Style]) -> None:
    """By method, the ratio of its loss to QHM's at both budgets: the median with its interval, and each tuning."""
    losses = {label: np.array(of[EACH]) for label, of in numbers["batches"][size].items()}
    others = [label for label in losses if label != QHM]
    for height, label in enumerate(others):
        style = styles[label]
        own = np.clip(losses[label] / losses[QHM], *SHOWN)
        axes.plot(own, np.full(len(own), height - 0.18), ".", color=style.color, markersize=4, alpha=0.35)
        for budget, shift, width, fill in ((EACH, -0.18, 1, "white"), (ALL, 0.18, 2.5, style.color)):
            value, low, high = np.clip(ratio(numbers, size, label, budget)[:3], *SHOWN)
            axes.hlines(height + shift, low, high, style.color, linewidth=width)
            mark: dict[str, Any] = {"color": style.color, "markersize": 6.5, "markerfacecolor": fill}
            axes.plot(value, height + shift, style.marker, **mark)
    axes.axvline(1, color="0.4", linewidth=1)
    for between in range(1, len(others)):
        axes.axhline(between - 0.5, color="0.85", linewidth=0.6)
    axes.set(xscale="log", xlim=SHOWN, ylim=(len(others) - 0.5, -0.5))
    axes.set_title(f"batches of {int(size):,}", fontsize=11)
    axes.set_yticks(range(len(others)), others)
    axes.minorticks_off()
    axes.set_xticks(RATIOS, [f"{tick:g}" for tick in RATIOS])
    axes.grid(alpha=0.25, axis="x")


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

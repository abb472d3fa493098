"""Does momentum escape from local minima, and when not? Where each method ends, on the double well and on Rastrigin.

Finding: It depends on the landscape and the learning rate: each at its best learning rate, momentum 0.9 ends lower than
SGD for a net 3.4 % of the starts on double well (−0.5 to 7.2) and 14.1 % of the starts on Rastrigin (10.9 to 17.3).
There are 4,000 starts in the window and learning rates 26 % apart; the intervals hold together with 95 %. On double
well, at SGD's rates from 0.001 to 0.13: momentum 0.9 ends lower at 8 from 0.002 to 0.05 but higher at 3 from 0.079 to
0.13 at the same learning rate, lower at 6 from 0.02 to 0.13 at the same effective one, and each at its best lower for
3.4 % (−0.5 to 7.2); Nesterov 0.9 ends lower at 9 from 0.0025 to 0.016 but higher at 2 from 0.1 to 0.13 at the same
learning rate, lower at 8 from 0.025 to 0.13 at the same effective one, and each at its best lower for 2.9 % (1.7 to
4.2); momentum 0.99 ends lower at 17 from 0.001 to 0.04 but higher at 4 from 0.063 to 0.13 at the same learning rate,
lower at 10 from 0.0016 to 0.13 at the same effective one, and each at its best lower for 4.8 % (1.1 to 8.4). On
Rastrigin, at SGD's rates from 0.0001 to 0.005: momentum 0.9 ends lower at 4 from 0.0025 to 0.005 at the same learning
rate, alike at the same effective one, and each at its best lower for 14.1 % (10.9 to 17.3); Nesterov 0.9 ends higher at
2 from 0.004 to 0.005 at the same learning rate, alike at the same effective one, and each at its best lower for 0.0 %
(−0.3 to 0.3); momentum 0.99 ends lower at 16 from 0.0001 to 0.0032 but higher at 0.005 at the same learning rate, lower
at 3 from 0.0032 to 0.005 at the same effective one, and each at its best lower for 21.3 % (18.5 to 24.1). The first
start escapes where α/(1 − β)² is, on double well and Rastrigin: SGD 0.063 and never, momentum 0.9 0.16 and 0.25,
Nesterov 0.9 0.25 and never, momentum 0.99 0.16 and 0.32. 595 starts in the shallow well lie lower than the pass. By
their energy none of them escapes up to a learning rate of 0.058 with SGD (measured, the first: never), 0.011 with
momentum 0.9 (measured, the first: 0.13), 0.0011 with momentum 0.99 (measured, the first: 0.04).

A start escapes if it leads to a lower minimum than with SGD in the smallest steps, and is lost if it leads to a higher
one or to none. A method ends lower than SGD by the proportion of starts that it leads to a lower minimum, less the
proportion that it leads to a higher one or to none. The effective learning rate is α/(1 − β). Where no curvature
exceeds (1 − β²)/α the energy f + ‖v‖²/2α of the heavy ball never rises: what starts lower than the pass between two
wells stays in its own. How fast it falls is a matter of friction, which in small steps is (1 − β)/√α.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from study import Study, rounded, run

import momentum_jax as mj
from momentum_jax._base.progress import show_progress
from momentum_jax.analysis import (
    Interval,
    nearest_minimum,
    proportion_difference_interval,
    proportion_interval,
    simultaneous_level,
)
from momentum_jax.report import STYLES, Style
from momentum_jax.tasks.landscapes import Landscape, make_landscape

# A path has settled if its last points are so near to one minimum.
LAST, NEAR = 10, 0.1
Points = Float[np.ndarray, "starts dimensions"]
# Of the minimum that a start leads to; infinite where it leads to none.
Heights = Float[np.ndarray, "rates starts"]


class Method(NamedTuple):
    """An optimizer of α and β, and β."""

    optimizer: Callable[..., Any]
    beta: float

    @property
    def shift(self) -> int:
        """The effective learning rate over α, in tenths of a decade."""
        return round(-10 * math.log10(1 - self.beta))


class Ground(NamedTuple):
    """A landscape, and the learning rates of SGD in tenths of a decade: the lowest and the highest.

    Momentum's are as high, and as low at the same effective learning rate.
    """

    landscape: Landscape
    lowest: int
    highest: int


class Reached(NamedTuple):
    """By one method on one landscape, at each learning rate in tenths of a decade."""

    tenths: list[int]
    heights: Heights


class Moved(NamedTuple):
    """Which of the starts lead to a lower minimum than others do, and which to a higher one or to none."""

    lower: Bool[np.ndarray, " starts"]
    higher: Bool[np.ndarray, " starts"]

    @property
    def net(self) -> float:
        return float(self.lower.mean() - self.higher.mean())

    def interval(self, level: float) -> Interval:
        return proportion_difference_interval(self.lower, self.higher, level)


# By landscape and method.
All = Mapping[tuple[str, str], Reached]

PLAIN = "SGD"
SAME, EFFECTIVE, BEST = "at the same learning rate", "at the same effective one", "each at its best"
METHODS = {
    PLAIN: Method(mj.momentum, 0.0),
    "momentum 0.9": Method(mj.momentum, 0.9),
    "Nesterov 0.9": Method(mj.nesterov, 0.9),
    "momentum 0.99": Method(mj.momentum, 0.99),
}
WELL, RASTRIGIN = "double well", "Rastrigin"
GROUNDS = {
    WELL: Ground(make_landscape("double_well"), -30, -8),
    RASTRIGIN: Ground(make_landscape("rastrigin"), -40, -20),
}
DEEP, SHALLOW, NONE = "#0072B2", "#E69F00", "#000000"


def study(arguments: argparse.Namespace) -> Study:
    count, side, step = (20, 4, 10) if arguments.fast else (4000, 100, 1)
    reached, pairs = {}, [(ground, method) for ground in GROUNDS for method in METHODS]
    with jax.enable_x64(True), show_progress() as progress:
        for i, (ground, method) in enumerate(pairs, start=1):
            starts = random_starts(GROUNDS[ground].landscape, count)
            reached[ground, method] = reach(ground, method, starts, rates(ground, method, step))
            progress("methods and landscapes", i, len(pairs), whole=i / len(pairs))
        figure = draw(reached, side)
        numbers = measure(reached, count)
    return Study(figure, find(numbers), numbers)


def rates(ground: str, method: str, step: int) -> list[int]:
    _, lowest, highest = GROUNDS[ground]
    return list(range(lowest - METHODS[method].shift, highest + 1, step))


def random_starts(landscape: Landscape, count: int) -> Points:
    """Uniform over the window."""
    low, high = landscape.window.T
    return np.random.default_rng(0).uniform(low, high, [count, landscape.dimensions])


def reach(ground: str, method: str, starts: Points, tenths: list[int]) -> Reached:
    """From all starts at all rates, as one program."""
    landscape, (optimizer, beta) = GROUNDS[ground].landscape, METHODS[method]
    # In the smallest steps, of 0.001, what is left of the smallest curvature, of 1, is e⁻⁴.
    iterations = 4000

    def last_points(alpha: Array) -> Array:
        return mj.trajectory(optimizer(alpha, beta), landscape, starts, iterations).points[:, -LAST:]

    points = np.asarray(jax.jit(lambda alpha: jax.lax.map(last_points, alpha))(10 ** (np.array(tenths) / 10)))
    return Reached(tenths, settle(points, landscape))


def settle(points: Float[np.ndarray, "rates starts last dimensions"], landscape: Landscape) -> Heights:
    minima = np.asarray(jax.jit(jax.vmap(landscape.function))(landscape.minima))
    which, apart = nearest_minimum(points, landscape.minima)
    settled = ((apart < NEAR) & (which == which[..., :1])).all(axis=-1)
    heights: Heights = np.where(settled, minima[which[..., -1]], np.inf)
    return heights


def moved(heights: Float[np.ndarray, " starts"], others: Float[np.ndarray, " starts"]) -> Moved:
    """Minima of Rastrigin that mirror each other have one height, but for roundings."""
    same = np.isclose(heights, others, rtol=0, atol=1e-9)
    return Moved((heights < others) & ~same, (heights > others) & ~same)


def escapes(reached: All, ground: str, method: str) -> list[Moved]:
    """At each rate, beside SGD in the smallest steps."""
    smallest = reached[ground, PLAIN].heights[0]
    if not np.isfinite(smallest).all():
        raise ValueError(f"on {ground} small steps of SGD do not settle: it needs more iterations")
    return [moved(of, smallest) for of in reached[ground, method].heights]


def best(reached: All, ground: str, method: str) -> int:
    """The rate at which most escape on balance, the lowest of those."""
    return int(np.argmax([of.net for of in escapes(reached, ground, method)]))


def settling(plain: Reached) -> list[int]:
    """The rates at which SGD settles from all starts."""
    return [tenth for tenth, of in zip(*plain, strict=True) if np.isfinite(of).all()]


def measure(reached: All, count: int) -> dict[str, Any]:
    numbers: dict[str, Any] = {"starts": count}
    # The best is one of all rates.
    comparisons = sum(len(of.tenths) for of in reached.values())
    comparisons += sum(2 * len(settling(reached[of, PLAIN])) + 1 for of, method in reached if method != PLAIN)
    level = simultaneous_level(0.95, comparisons)
    for (ground, method), (tenths, heights) in reached.items():
        beside_small, at, shift = escapes(reached, ground, method), best(reached, ground, method), METHODS[method].shift
        some = [bool(of.lower.any()) for of in beside_small]
        found: dict[str, Any] = {
            "rates": len(tenths),
            "lowest rate with an escape": onset(tenths, some),
            "which over (1 − β)² is": onset(tenths, some, 2 * shift),
            "best rate": rate(tenths[at]) if beside_small[at].net > 0 else None,
            "escape there": share(beside_small[at].lower),
            "are lost there": share(beside_small[at].higher),
        }
        if method != PLAIN:
            plain = reached[ground, PLAIN]
            shifts = {SAME: 0, EFFECTIVE: shift}
            found |= {at_rates: sides(plain, reached[ground, method], by, level) for at_rates, by in shifts.items()}
            found[BEST] = rounded(moved(heights[at], plain.heights[best(reached, ground, PLAIN)]).interval(level), 4)
        numbers[f"{ground}, {method}"] = found
    return numbers | {"trapped": trapped(reached, count)}


def sides(plain: Reached, other: Reached, shift: int, level: float) -> dict[str, Any]:
    """The rates of SGD at which the other ends lower, and those at which it ends higher."""
    tried = settling(plain)
    intervals = {
        tenth: moved(
            other.heights[other.tenths.index(tenth - shift)], plain.heights[plain.tenths.index(tenth)]
        ).interval(level)
        for tenth in tried
    }
    return {
        "rates of SGD": [rate(tried[0]), rate(tried[-1])],
        "ends lower": [rate(tenth) for tenth, of in intervals.items() if of.low > 0],
        "ends higher": [rate(tenth) for tenth, of in intervals.items() if of.high < 0],
    }


def trapped(reached: All, count: int) -> dict[str, Any]:
    """Of the starts in the shallow well that lie lower than the pass: the lowest rates at which one escapes.

    And those up to which the heavy ball's energy lets none escape, by the largest curvature that lies as low.
    """
    landscape = GROUNDS[WELL].landscape
    height, hessian = jax.jit(jax.vmap(landscape.function)), jax.jit(jax.vmap(jax.hessian(landscape.function)))
    deep, shallow = height(landscape.minima)
    way = np.linspace(landscape.minima[0], landscape.minima[1], 1001)
    top = int(height(way).argmax())
    starts = random_starts(landscape, count)
    below = np.asarray(height(starts) < height(way)[top])
    below = below & np.isclose(reached[WELL, PLAIN].heights[0], shallow, rtol=0, atol=1e-9)
    # Along x, where the curvature differs.
    beyond = np.linspace(way[top], landscape.window[:, 1] * [1, 0], 10_001)
    steepest = float(hessian(beyond[height(beyond) <= height(way)[top]]).max())
    told: dict[str, Any] = {"starts": int(below.sum()), "largest curvature": round(steepest, 2)}
    for method, (optimizer, beta) in METHODS.items():
        tenths, heights = reached[WELL, method]
        out = np.isclose(heights[:, below], deep, rtol=0, atol=1e-9).any(axis=-1)
        told[method] = {"first escape": onset(tenths, out)}
        if optimizer is mj.momentum:
            told[method]["none up to"] = float(f"{(1 - beta**2) / steepest:.2g}")
    return told


def onset(tenths: list[int], holds: Sequence[bool], shift: int = 0) -> float | None:
    """The lowest rate at which it holds, times so many tenths of a decade."""
    return next((rate(tenth + shift) for tenth, one in zip(tenths, holds, strict=True) if one), None)


def rate(tenths: int) -> float:
    return float(f"{10 ** (tenths / 10):.2g}")


def share(which: Bool[np.ndarray, " starts"]) -> list[float]:
    return rounded(proportion_interval(int(which.sum()), len(which)), 4)


def find(numbers: Mapping[str, Any]) -> str:
    others = [method for method in METHODS if method != PLAIN]
    compared = {(ground, method): numbers[f"{ground}, {method}"] for ground in GROUNDS for method in others}
    lower = [bool(of[at]["ends lower"]) for of in compared.values() for at in (SAME, EFFECTIVE)]
    lower += [of[BEST][1] > 0 for of in compared.values()]
    answer = "Yes" if all(lower) else "It depends on the landscape and the learning rate" if any(lower) else "No"
    beside = []
    for ground in GROUNDS:
        of_methods = {method: compared[ground, method] for method in others}
        low, high = of_methods[others[0]][SAME]["rates of SGD"]
        said = "; ".join(f"{method} {against(of)}" for method, of in of_methods.items())
        beside.append(f"On {ground}, at SGD's rates from {low:g} to {high:g}: {said}.")
    firsts = [
        f"{method} {' and '.join(known(numbers[f'{of}, {method}']['which over (1 − β)² is']) for of in GROUNDS)}"
        for method in METHODS
    ]
    caught = numbers["trapped"]
    kept = [
        f"{of['none up to']:g} with {method} (measured, the first: {known(of['first escape'])})"
        for method in METHODS
        if "none up to" in (of := caught[method])
    ]
    best = [at_best(compared[ground, "momentum 0.9"], f"of the starts on {ground} ") for ground in GROUNDS]
    return (
        f"{answer}: each at its best learning rate, momentum 0.9 ends lower than SGD for a net {' and '.join(best)}. "
        f"There are {numbers['starts']:,} starts in the window and learning rates 26 % apart; "
        f"the intervals hold together with 95 %. {' '.join(beside)} The first start escapes where α/(1 − β)² is, on "
        f"{' and '.join(GROUNDS)}: {', '.join(firsts)}. {caught['starts']} starts in the shallow well lie lower than "
        f"the pass. By their energy none of them escapes up to a learning rate of {', '.join(kept)}."
    )


def against(of: Mapping[str, Any]) -> str:
    return (
        f"ends {rates_of(of[SAME])} {SAME}, {rates_of(of[EFFECTIVE])} {EFFECTIVE}, and {BEST} lower for {at_best(of)}"
    )


def at_best(of: Mapping[str, Any], where: str = "") -> str:
    value, low, high = (f"{100 * number:.1f}".replace("-", "−") for number in of[BEST])
    return f"{value} % {where}({low} to {high})"


def rates_of(found: Mapping[str, Any]) -> str:
    spans = [f"{side} {span(found[f'ends {side}'])}" for side in ("lower", "higher") if found[f"ends {side}"]]
    return " but ".join(spans) or "alike"


def span(found: list[float]) -> str:
    """From the lowest to the highest, and how many they are."""
    return f"at {found[0]:g}" if len(found) == 1 else f"at {len(found)} from {found[0]:g} to {found[-1]:g}"


def known(number: float | None) -> str:
    return "never" if number is None else f"{number:g}"


def draw(reached: All, side: int) -> Figure:
    figure = Figure(figsize=(11, 12), layout="constrained")
    wells, well_shares, bowl_shares, bowls = figure.subplots(4, len(METHODS), height_ratios=[3, 2, 2, 3])
    for axes, method in zip(wells, METHODS, strict=True):
        draw_well(axes, method, reached[WELL, method].tenths, side)
    wells[0].set_ylabel("double well\n\neffective learning rate α/(1 − β)")
    colors = {"to the deep well": DEEP, "to the shallow well": SHALLOW, "to neither": NONE}
    patches = [Patch(color=color, label=label) for label, color in colors.items()]
    patches.append(Patch(facecolor="white", edgecolor="0.5", label="not tried"))
    wells[0].legend(handles=patches, fontsize=8, loc="upper center", title="leads", title_fontsize=8)
    for row, ground in ((well_shares, WELL), (bowl_shares, RASTRIGIN)):
        for axes, method, style in zip(row, METHODS, STYLES, strict=False):
            axes.sharex(row[0])
            draw_shares(axes, ground, method, reached, style)
        row[0].set_ylabel(f"{ground}\n\nof the starts (%)")
    well_shares[0].legend(fontsize=8, loc="upper left")
    for axes, (method, tenths) in zip(bowls, shown(reached), strict=True):
        heights = draw_bowl(axes, method, tenths, side)
    bowls[0].set_ylabel("Rastrigin\n\nstart y")
    bar = figure.colorbar(heights, ax=list(bowls))
    bar.set_label("height of the minimum that\nit leads to (black: to none)")
    return figure


def shown(reached: All) -> list[tuple[str, int]]:
    """SGD at the highest rate at which it settles, momentum at this and at the effective one, and at its best."""
    highest, strong = settling(reached[RASTRIGIN, PLAIN])[-1], "momentum 0.99"
    at_best = reached[RASTRIGIN, strong].tenths[best(reached, RASTRIGIN, strong)]
    same, effective = highest, highest - METHODS["momentum 0.9"].shift
    return [(PLAIN, highest), ("momentum 0.9", same), ("momentum 0.9", effective), (strong, at_best)]


def draw_well(axes: Axes, method: str, tenths: list[int], side: int) -> None:
    """Starts with y = 0, which goes its own way: what it does has no part in what x does."""
    low, high = GROUNDS[WELL].landscape.window[0]
    x = np.linspace(low, high, 4 * side)
    _, heights = reach(WELL, method, np.stack([x, np.zeros_like(x)], axis=-1), tenths)
    led = np.where(np.isinf(heights), 2, heights > 0)
    effective = 10 ** ((np.array(tenths) + METHODS[method].shift) / 10)
    axes.pcolormesh(x, effective, led, cmap=ListedColormap([DEEP, SHALLOW, NONE]), vmin=0, vmax=2, rasterized=True)
    axes.set(yscale="log", ylim=(1e-3, 16), xlabel="start x")
    axes.set_title(method, fontsize=10)


def draw_bowl(axes: Axes, method: str, tenths: int, side: int) -> Any:
    """A quarter of the landscape, whose others mirror it."""
    along = np.linspace(0, 5.12, side)
    starts = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    _, heights = reach(RASTRIGIN, method, starts, [tenths])
    colors = colormaps["viridis"].with_extremes(bad=NONE)
    mesh = axes.pcolormesh(along, along, heights.reshape(side, side), cmap=colors, vmin=0, vmax=50, rasterized=True)
    axes.set(xlabel="start x", aspect="equal")
    axes.set_title(f"{method}, α = {rate(tenths):g},\neffective {rate(tenths + METHODS[method].shift):g}", fontsize=10)
    return mesh


def draw_shares(axes: Axes, ground: str, method: str, reached: All, style: Style) -> None:
    """The starts that escape and those that are lost, each with its 95 % interval."""
    effective = 10 ** ((np.array(reached[ground, method].tenths) + METHODS[method].shift) / 10)
    moves = escapes(reached, ground, method)
    for which, label, color, dashes in (("lower", "escape", style.color, "-"), ("higher", "are lost", "0.45", ":")):
        value, low, high = 100 * np.array([share(getattr(of, which)) for of in moves]).T
        marker = style.marker if which == "lower" else ""
        axes.plot(effective, value, ls=dashes, marker=marker, ms=4, color=color, label=label)
        axes.fill_between(effective, low, high, color=color, alpha=0.2, lw=0)
    # Small shares are to be told apart beside large ones.
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axes.set(xscale="log", xlabel="effective rate α/(1 − β)", ylim=(0, 100))
    axes.set_yticks([0, 1, 5, 20, 50, 100])
    axes.set_title(f"{method}, {ground}", fontsize=10)
    axes.grid(alpha=0.25)


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

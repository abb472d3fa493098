"""Does momentum escape from local minima, and when not? Where each method ends, on the double well and on Rastrigin.

Finding: Yes, from high starts and where friction is weak. Of 4,000 starts some escape where α/(1 − β)² is at least,
with momentum 0.9 and momentum 0.99: double well 0.16 and 0.16; Rastrigin 0.25 and 0.32. There others can be lost. The
gain at the best rate, with intervals that hold together with 95 %: double well SGD 2.1 % (−0.3 to 4.4), momentum 0.9
5.4 % (1.7 to 9.1), Nesterov 0.9 5.0 % (2.8 to 7.2), momentum 0.99 6.8 % (3.1 to 10.5); Rastrigin SGD 0.0 % (−0.3 to
0.3), momentum 0.9 14.1 % (10.9 to 17.3), Nesterov 0.9 0.0 % (−0.3 to 0.3), momentum 0.99 21.3 % (18.5 to 24.1). At the
same learning rate and at the same effective one, where SGD settles from all starts: double well momentum 0.9 ends lower
than SGD at 8 and 6 of 22 rates, higher at 3 and 0, momentum 0.99 ends lower than SGD at 17 and 10 of 22 rates, higher
at 4 and 0; Rastrigin momentum 0.9 ends lower than SGD at 4 and 0 of 18 rates, higher at 0 and 0, momentum 0.99 ends
lower than SGD at 16 and 3 of 18 rates, higher at 1 and 0. Of 595 starts in the shallow well that lie lower than the
pass, the first escapes at a learning rate of: SGD none, momentum 0.9 0.13, Nesterov 0.9 0.13, momentum 0.99 0.04.

A start escapes if it leads to a lower minimum than with SGD in small steps, and is lost if it leads to a higher one or
to none. The gain is the share that escapes less the share that is lost. The effective learning rate is α/(1 − β). Where
no curvature exceeds (1 − β²)/α the energy f + ‖v‖²/2α of the heavy ball never rises: what starts lower than the pass
between two wells stays in its own. How fast it falls is a matter of friction, which in small steps is (1 − β)/√α.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from study import Study, run

import momentum_jax as mj
from momentum_jax.analysis import (
    Interval,
    nearest_minimum,
    share_difference_interval,
    share_interval,
    simultaneous_level,
)
from momentum_jax.progress import line_progress
from momentum_jax.report import STYLES
from momentum_jax.tasks.landscapes import Landscape, make_landscape

# A path has settled if its last points are so near to one minimum.
LAST, NEAR = 10, 0.1
Points = Float[np.ndarray, "starts dimensions"]
Line = Float[np.ndarray, " rates"]
# Of the minimum that a start leads to; infinite where it leads to none.
Heights = Float[np.ndarray, "rates starts"]


class Method(NamedTuple):
    """An optimizer of α and β, and β."""

    optimizer: Callable[..., Any]
    beta: float

    @property
    def tenths(self) -> int:
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


PLAIN = "SGD"
SAME, EFFECTIVE = "at the same learning rate", "at the same effective one"
METHODS = {
    PLAIN: Method(mj.momentum, 0.0),
    "momentum 0.9": Method(mj.momentum, 0.9),
    "Nesterov 0.9": Method(mj.nesterov, 0.9),
    "momentum 0.99": Method(mj.momentum, 0.99),
}
WELL, BOWL = "double well", "Rastrigin"
GROUNDS = {
    WELL: Ground(make_landscape("double_well"), -30, -8),
    BOWL: Ground(make_landscape("rastrigin"), -40, -20),
}
# What is shown of Rastrigin: a method and its learning rate, in tenths of a decade.
SHOWN = ((PLAIN, -24), ("momentum 0.9", -24), ("momentum 0.9", -34), ("momentum 0.99", -28))
LOWEST, OTHER, NONE = "#0072B2", "#E69F00", "#000000"


def study(arguments: argparse.Namespace) -> Study:
    count, side, iterations, step = (30, 5, 300, 10) if arguments.fast else (4000, 100, 3000, 1)
    progress, reached = line_progress(sys.stderr), {}
    with jax.enable_x64(True):
        for i, (ground, method) in enumerate([(ground, method) for ground in GROUNDS for method in METHODS]):
            starts = random_starts(GROUNDS[ground].landscape, count)
            reached[ground, method] = reach(ground, method, starts, iterations, rates(ground, method, step))
            progress("methods and landscapes", i + 1, len(GROUNDS) * len(METHODS))
        figure = draw(reached, side, iterations)
    numbers = measure(reached, count)
    return Study(figure, find(numbers), numbers)


def rates(ground: str, method: str, step: int) -> list[int]:
    _, lowest, highest = GROUNDS[ground]
    return list(range(lowest - METHODS[method].tenths, highest + 1, step))


def random_starts(landscape: Landscape, count: int) -> Points:
    """Uniform over the window."""
    low, high = landscape.window.T
    return np.random.default_rng(0).uniform(low, high, [count, landscape.dimensions])


def reach(ground: str, method: str, starts: Points, iterations: int, tenths: list[int]) -> Reached:
    """From all starts at all rates, as one program."""
    landscape, (optimizer, beta) = GROUNDS[ground].landscape, METHODS[method]

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


class Moved(NamedTuple):
    """Which of the starts lead to a lower minimum than another method's, and which to a higher one or to none."""

    lower: Bool[np.ndarray, " starts"]
    higher: Bool[np.ndarray, " starts"]

    @property
    def net(self) -> float:
        return float(self.lower.mean() - self.higher.mean())

    def gain(self, level: float) -> Interval:
        return share_difference_interval(self.lower, self.higher, level)


def moved(heights: Float[np.ndarray, " starts"], others: Float[np.ndarray, " starts"]) -> Moved:
    """Minima of Rastrigin that mirror each other have one height, but for roundings."""
    same = np.isclose(heights, others, rtol=0, atol=1e-9)
    return Moved((heights < others) & ~same, (heights > others) & ~same)


def measure(reached: Mapping[tuple[str, str], Reached], count: int) -> dict[str, Any]:
    numbers: dict[str, Any] = {"starts": count}
    # The best is one of all rates.
    chosen_from = sum(len(of.tenths) for of in reached.values())
    beside_plain = sum(2 * len(reached[ground, PLAIN].tenths) for ground, method in reached if method != PLAIN)
    level = simultaneous_level(0.95, chosen_from + beside_plain)
    for (ground, method), (tenths, heights) in reached.items():
        plain = reached[ground, PLAIN]
        from_small = [moved(of, plain.heights[0]) for of in heights]
        best = int(np.argmax([of.net for of in from_small]))
        escaping = [tenth for tenth, of in zip(tenths, from_small, strict=True) if of.lower.any()]
        numbers[f"{ground}, {method}"] = {
            "rates": len(tenths),
            "lowest rate with an escape": rate(min(escaping)) if escaping else None,
            "over (1 − β)²": rate(min(escaping) + 2 * METHODS[method].tenths) if escaping else None,
            "best rate": rate(tenths[best]),
            "escape there": share(from_small[best].lower),
            "are lost there": share(from_small[best].higher),
            "gain there": rounded(from_small[best].gain(level)),
        }
        if method == PLAIN:
            continue
        for situation, shift in ((SAME, 0), (EFFECTIVE, METHODS[method].tenths)):
            gains = [
                moved(heights[tenths.index(tenth - shift)], others).gain(level)
                for tenth, others in zip(plain.tenths, plain.heights, strict=True)
                if np.isfinite(others).all()
            ]
            numbers[f"{ground}, {method}"][situation] = {
                "rates at which SGD settles from all starts": len(gains),
                "ends lower than SGD": sum(gain.low > 0 for gain in gains),
                "ends higher": sum(gain.high < 0 for gain in gains),
            }
    return numbers | {"trapped": trapped(reached, count)}


def trapped(reached: Mapping[tuple[str, str], Reached], count: int) -> dict[str, Any]:
    """Starts in the shallow well that are lower than the pass to the deep one: where they are led all the same."""
    landscape = GROUNDS[WELL].landscape
    deep, shallow = landscape.minima
    height = jax.jit(jax.vmap(landscape.function))
    below = np.asarray(height(random_starts(landscape, count)) < height(np.linspace(deep, shallow, 1001)).max())
    below = below & (reached[WELL, PLAIN].heights[0] > 0)
    told: dict[str, Any] = {"starts": int(below.sum())}
    # By method, the lowest rate at which one of them escapes.
    for method in METHODS:
        tenths, heights = reached[WELL, method]
        escaping = [tenth for tenth, of in zip(tenths, heights[:, below], strict=True) if (of < 0).any()]
        told[method] = rate(min(escaping)) if escaping else None
    return told


def rate(tenths: int) -> float:
    return float(f"{10 ** (tenths / 10):.2g}")


def share(which: Bool[np.ndarray, " starts"]) -> list[float]:
    return rounded(share_interval(int(which.sum()), len(which)))


def rounded(interval: Interval) -> list[float]:
    return [round(number, 4) for number in interval[:3]]


def find(numbers: Mapping[str, Any]) -> str:
    count, caught = numbers["starts"], numbers["trapped"]
    heavy = [method for method, (optimizer, beta) in METHODS.items() if optimizer is mj.momentum and beta]
    escapes = any(numbers[f"{ground}, {method}"]["over (1 − β)²"] for ground in GROUNDS for method in heavy)
    onsets, gains, beside = [], [], []
    for ground in GROUNDS:
        onsets.append(f"{ground} {' and '.join(onset(numbers[f'{ground}, {method}']) for method in heavy)}")
        gains.append(f"{ground} " + ", ".join(f"{method} {gain(numbers[f'{ground}, {method}'])}" for method in METHODS))
        beside.append(f"{ground} " + ", ".join(f"{m} {against(numbers[f'{ground}, {m}'])}" for m in heavy))
    kept = ", ".join(f"{method} {lowest(caught[method])}" for method in METHODS)
    answer = "Yes, from high starts and where friction is weak" if escapes else "No"
    return (
        f"{answer}. Of {count:,} starts some escape where α/(1 − β)² is at least, with {' and '.join(heavy)}: "
        f"{'; '.join(onsets)}. There others can be lost. The gain at the best rate, with intervals that hold "
        f"together with 95 %: {'; '.join(gains)}. {SAME.capitalize()} and {EFFECTIVE}, where SGD settles from all "
        f"starts: {'; '.join(beside)}. Of {caught['starts']} starts in the shallow well that lie lower than the pass, "
        f"the first escapes at a learning rate of: {kept}."
    )


def onset(of: Mapping[str, Any]) -> str:
    return "never" if of["over (1 − β)²"] is None else f"{of['over (1 − β)²']:g}"


def lowest(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:g}"


def gain(of: Mapping[str, Any]) -> str:
    value, low, high = (f"{100 * number:.1f}".replace("-", "−") for number in of["gain there"])
    return f"{value} % ({low} to {high})"


def against(of: Mapping[str, Any]) -> str:
    (lower, higher), (lower_too, higher_too) = (
        (of[at]["ends lower than SGD"], of[at]["ends higher"]) for at in (SAME, EFFECTIVE)
    )
    rates = of[SAME]["rates at which SGD settles from all starts"]
    return f"ends lower than SGD at {lower} and {lower_too} of {rates} rates, higher at {higher} and {higher_too}"


def draw(reached: Mapping[tuple[str, str], Reached], side: int, iterations: int) -> Figure:
    figure = Figure(figsize=(11, 9.5), layout="constrained")
    wells, bowls, shares = (f"{row}{{}}".format for row in "wbs")
    grid = figure.subplot_mosaic(
        [
            [wells(i) for i in range(4)],
            [bowls(i) for i in range(4)],
            [shares(i // 2) for i in range(4)],
        ]
    )
    for i, method in enumerate(METHODS):
        draw_well(grid[wells(i)], method, reached[WELL, method].tenths, side, iterations)
    grid[wells(0)].set_ylabel("double well\n\neffective learning rate α/(1 − β)")
    colors = {"to the deep well": LOWEST, "to the shallow well": OTHER, "to neither": NONE}
    patches = [Patch(color=color, label=label) for label, color in colors.items()]
    patches.append(Patch(facecolor="white", edgecolor="0.5", label="not tried"))
    grid[wells(0)].legend(handles=patches, fontsize=8, loc="upper center", title="leads", title_fontsize=8)
    for i, (method, tenths) in enumerate(SHOWN):
        heights = draw_bowl(grid[bowls(i)], method, tenths, side, iterations)
    grid[bowls(0)].set_ylabel("Rastrigin\n\nstart y")
    figure.colorbar(heights, ax=[grid[bowls(i)] for i in range(4)], label="height of the minimum\nthat it leads to")
    for i, ground in enumerate(GROUNDS):
        draw_shares(grid[shares(i)], ground, reached)
    grid[shares(0)].set_ylabel("share of the starts (%), with 95 % intervals")
    grid[shares(0)].legend(fontsize=8)
    return figure


def draw_well(axes: Axes, method: str, tenths: list[int], side: int, iterations: int) -> None:
    """Starts with y = 0: what happens along x is the same for all y."""
    low, high = GROUNDS[WELL].landscape.window[0]
    x = np.linspace(low, high, 4 * side)
    starts = np.stack([x, np.zeros_like(x)], axis=-1)
    _, heights = reach(WELL, method, starts, iterations, tenths)
    led = np.where(np.isinf(heights), 2, heights > 0)
    effective = 10 ** ((np.array(tenths) + METHODS[method].tenths) / 10)
    axes.pcolormesh(x, effective, led, cmap=ListedColormap([LOWEST, OTHER, NONE]), vmin=0, vmax=2, rasterized=True)
    axes.set(yscale="log", ylim=(1e-3, 16), xlabel="start x")
    axes.set_title(method, fontsize=10)


def draw_bowl(axes: Axes, method: str, tenths: int, side: int, iterations: int) -> Any:
    """A quarter of the landscape, whose others mirror it."""
    along = np.linspace(0, 5.12, side)
    starts = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    _, heights = reach(BOWL, method, starts, iterations, [tenths])
    colors = colormaps["cividis"].with_extremes(over="#CC79A7")
    shown = axes.pcolormesh(along, along, heights.reshape(side, side), cmap=colors, vmin=0, vmax=50, rasterized=True)
    axes.set(xlabel="start x", aspect="equal")
    axes.set_title(f"{method}, α = {rate(tenths):g},\neffective {rate(tenths + METHODS[method].tenths):g}", fontsize=10)
    return shown


def draw_shares(axes: Axes, ground: str, reached: Mapping[tuple[str, str], Reached]) -> None:
    for method, style in zip(METHODS, STYLES, strict=False):
        tenths, heights = reached[ground, method]
        effective = 10 ** ((np.array(tenths) + METHODS[method].tenths) / 10)
        from_small = [moved(of, reached[ground, PLAIN].heights[0]) for of in heights]
        for which, dashes, marker in (("lower", "-", style.marker), ("higher", ":", "")):
            shares = [share(getattr(of, which)) for of in from_small]
            value, low, high = 100 * np.array(shares).T
            label = method if which == "lower" else None
            axes.plot(effective, value, ls=dashes, marker=marker, ms=3, color=style.color, label=label)
            axes.fill_between(effective, low, high, color=style.color, alpha=0.2, lw=0)
    axes.set(xscale="log", xlabel="effective learning rate α/(1 − β)", ylim=(-1, 35))
    axes.set_title(f"{ground}: escape (marks), are lost (dotted)", fontsize=10)
    axes.grid(alpha=0.25)


def main(argv: Any = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

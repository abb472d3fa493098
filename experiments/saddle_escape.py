"""Does momentum leave a saddle faster than gradient descent, and when is it slower?

Finding: At the same learning rate it is faster, at the same effective one slower, at all of 1,715 pairs of c from 0.01
to 0.5 and β from 0.02 to 0.98, for the heavy ball and Nesterov. At c = 0.1, β = 0.9 gradient descent grows by 1.1000 an
iteration, the heavy ball by 1.3162 and at the same effective rate by 1.0647: a thousandfold after 73, 27 and 115
iterations (Nesterov 24 and 110). The same effective rate costs up to 4.6 times the iterations (c = 0.45, β = 0.98), but
no more than 1.09 times where c ≤ (1 − β)/10. The closed forms give all rates to 4e-16, and the iterations exactly. Of
1,000 paths from rest in the middle, driven by noise of each gradient, at c = 0.1, a median of so many iterations brings
gradient descent to a coordinate of 1, and the heavy ball of β = 0.9 at the same effective rate takes (intervals that
hold together with 95 %): the saddle, noise 0.01: 68 and 1.64 times as many (1.63 to 1.65); the saddle, noise 0.001: 93
and 1.61 times as many (1.60 to 1.62); the monkey saddle, noise 0.01: 380 and 1.18 times as many (1.17 to 1.18); the
monkey saddle, noise 0.001: 1,796 and 1.05 times as many (1.05 to 1.06).

Near a saddle of curvature −λ a path from rest in the long run grows by a factor in each iteration that depends on
c = αλ and β alone. At the same effective learning rate momentum has c(1 − β) where gradient descent has c. The monkey
saddle has no curvature at all in its middle: there only the iterations until a path is away can be compared. How many
these are depends on how large the noise is beside what counts as away, a coordinate of 1.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from study import Study, rounded, run

import momentum_jax as mj
from momentum_jax.analysis import Interval, median_interval, simultaneous_level, theory
from momentum_jax.report import STYLES
from momentum_jax.tasks.landscapes import Landscape, make_landscape

# What the finding tells of in numbers; both are on the grid.
C, BETA, FACTOR = 0.1, 0.9, 1000.0
# The start on the grid: so small that no path overflows.
TINY = 1e-300
# Standard deviations of the noise on each coordinate of a gradient; and the coordinate at which a path is away.
NOISES, AWAY, LONGEST = (1e-2, 1e-3), 1.0, 10_000
Line = Float[np.ndarray, " n"]


class Way(NamedTuple):
    """Off a saddle of curvature −1: an optimizer of α and β, its α where gradient descent's is c, its closed form."""

    optimizer: Callable[..., Any]
    alpha: Callable[..., Any]
    growth: Callable[..., theory.Growth]


class Growing(NamedTuple):
    """Over the grid [c, β]: rates and iterations to grow by FACTOR, simulated and in closed form; wₖ/w₀ at C, BETA."""

    rate: Float[np.ndarray, "c beta"]
    closed_rate: Float[np.ndarray, "c beta"]
    steps: Int[np.ndarray, "c beta"]
    closed_steps: Int[np.ndarray, "c beta"]
    path: Line


class Leaving(NamedTuple):
    """The median number of iterations until a coordinate is AWAY, and the median of its ratio to gradient descent's."""

    steps: Interval
    ratio: Interval


def same(c: Any, beta: Any) -> Any:
    return c


def effective(c: Any, beta: Any) -> Any:
    return c * (1 - beta)


DESCENT = "gradient descent"
BALL = "heavy ball, same effective rate"
WAYS = {
    DESCENT: Way(lambda alpha, beta: mj.sgd(alpha), same, lambda c, beta: theory.heavy_ball_saddle_growth(c, 0.0)),
    "heavy ball, same rate": Way(mj.momentum, same, theory.heavy_ball_saddle_growth),
    "Nesterov, same rate": Way(mj.nesterov, same, theory.nesterov_saddle_growth),
    BALL: Way(mj.momentum, effective, theory.heavy_ball_saddle_growth),
    "Nesterov, same effective rate": Way(mj.nesterov, effective, theory.nesterov_saddle_growth),
}
SADDLES = {
    "the saddle": make_landscape("quadratic", curvatures=(1.0, -1.0)),
    "the monkey saddle": make_landscape("monkey_saddle"),
}


def study(arguments: argparse.Namespace) -> Study:
    if arguments.fast:
        c, beta, iterations, paths = np.array([C, 0.3]), np.array([0.8, BETA]), 300, 12
    else:
        c, beta, iterations, paths = 10 ** (np.arange(-40, -5) / 20), np.arange(1, 50) / 50, 1500, 1000
    with jax.enable_x64(True):
        growing = {name: grow(way, c, beta, iterations) for name, way in WAYS.items()}
        leaving = {
            f"{name}, noise {noise:g}": by_way
            for name, landscape in SADDLES.items()
            for noise, by_way in leave(landscape, paths).items()
        }
        figure = draw(c, beta, growing, leaving)
    numbers = measure(c, beta, growing, leaving) | {"paths": paths}
    return Study(figure, find(numbers), numbers)


def grow(way: Way, c: Line, beta: Line, iterations: int) -> Growing:
    """From rest on −½w², as one program. The rate is that of the last iteration: nothing is left of the other root."""
    saddle = make_landscape("quadratic", curvatures=(-1.0,))

    def path(alpha: Array, beta: Array) -> Array:
        return mj.trajectory(way.optimizer(alpha, beta), saddle, jnp.array([TINY]), iterations).points[:, 0]

    cs, betas = (axis.ravel() for axis in np.meshgrid(c, beta, indexing="ij"))
    w = np.asarray(jax.jit(jax.vmap(path))(way.alpha(cs, betas), betas))
    closed = jax.jit(way.growth)(way.alpha(cs, betas), betas)
    predicted = np.ceil(theory.steps_to_grow(closed, FACTOR)).astype(int)
    measured = w[:, -1] / w[:, -2], np.asarray(closed.rate), first(w >= FACTOR * TINY), predicted
    rate, closed_rate, steps, closed_steps = (of.reshape(len(c), len(beta)) for of in measured)
    example = w[nearest(c, C) * len(beta) + nearest(beta, BETA)] / TINY
    return Growing(rate, closed_rate, steps, closed_steps, example)


def nearest(values: Line, value: float) -> int:
    return int(np.abs(values - value).argmin())


def first(reached: Bool[np.ndarray, "paths points"]) -> Int[np.ndarray, " paths"]:
    """The number of each path's first point that has."""
    if not reached.any(axis=-1).all():
        raise ValueError("a path did not get so far: it needs more iterations")
    steps: Int[np.ndarray, " paths"] = reached.argmax(axis=-1)
    return steps


def leave(landscape: Landscape, paths: int) -> dict[float, dict[str, Leaving]]:
    """From the saddle itself, by each noise of the gradients, which is the same for all ways: ratios are paired."""
    start, key = np.zeros([paths, landscape.dimensions]), jax.random.key(0)

    @partial(jax.jit, static_argnums=0)
    def reached(way: Way, noise: Array) -> Array:
        optimizer = way.optimizer(way.alpha(C, BETA), BETA)
        points = mj.trajectory(optimizer, landscape, start, LONGEST, noise=noise, key=key).points
        return (jnp.abs(points) >= AWAY).any(axis=-1)

    level = simultaneous_level(0.95, len(SADDLES) * len(NOISES) * (2 * len(WAYS) - 1))
    found: dict[float, dict[str, Leaving]] = {}
    for noise in NOISES:
        steps = {name: first(np.asarray(reached(way, noise))) for name, way in WAYS.items()}
        found[noise] = {
            name: Leaving(median_interval(of, level=level), median_interval(of / steps[DESCENT], level=level))
            for name, of in steps.items()
        }
    return found


def measure(
    c: Line, beta: Line, growing: Mapping[str, Growing], leaving: Mapping[str, Mapping[str, Leaving]]
) -> dict[str, Any]:
    descent = growing[DESCENT]
    example = nearest(c, C), nearest(beta, BETA)
    times = growing[BALL].steps / descent.steps
    most = np.unravel_index(times.argmax(), times.shape)
    gentle = times[c[:, None] <= (1 - beta) / 10]
    late = [of.steps - of.closed_steps for of in growing.values()]
    return {
        "c": [c.min(), c.max()],
        "β": [beta.min(), beta.max()],
        "pairs of c and β": times.size,
        "pairs where it grows faster than gradient descent": {
            name: int((of.rate > descent.rate).sum()) for name, of in growing.items()
        },
        "pairs where it grows slower": {name: int((of.rate < descent.rate).sum()) for name, of in growing.items()},
        f"growth at c {C} and β {BETA}": {name: round(float(of.rate[example]), 6) for name, of in growing.items()},
        f"iterations to grow {FACTOR:g}-fold there": {name: int(of.steps[example]) for name, of in growing.items()},
        "largest disagreement with a closed rate": max(
            float(np.abs(of.rate - of.closed_rate).max()) for of in growing.values()
        ),
        "most iterations off the closed form": int(np.abs(late).max()),
        "most times gradient descent's iterations, its c, its β": [times[most], c[most[0]], beta[most[1]]],
        "most times where c ≤ (1 − β)/10": float(gentle.max()) if gentle.size else None,
        "iterations until away": {
            saddle: {name: rounded(of.steps, 3) for name, of in by_way.items()} for saddle, by_way in leaving.items()
        },
        "times gradient descent's": {
            saddle: {name: rounded(of.ratio, 3) for name, of in by_way.items()} for saddle, by_way in leaving.items()
        },
    }


def find(numbers: Mapping[str, Any]) -> str:
    pairs, faster, slower = (
        numbers[key]
        for key in (
            "pairs of c and β",
            "pairs where it grows faster than gradient descent",
            "pairs where it grows slower",
        )
    )
    always = all(
        (slower if way.alpha is effective else faster)[name] == pairs for name, way in WAYS.items() if name != DESCENT
    )
    growth, steps = numbers[f"growth at c {C} and β {BETA}"], numbers[f"iterations to grow {FACTOR:g}-fold there"]
    off, late = numbers["largest disagreement with a closed rate"], numbers["most iterations off the closed form"]
    most, c, beta = numbers["most times gradient descent's iterations, its c, its β"]
    gentle = numbers["most times where c ≤ (1 − β)/10"]
    noisy = "; ".join(
        f"{saddle}: {numbers['iterations until away'][saddle][DESCENT][0]:,.0f} and {value:.2f} times as many "
        f"({low:.2f} to {high:.2f})"
        for saddle, (value, low, high) in (
            (saddle, by_way[BALL]) for saddle, by_way in numbers["times gradient descent's"].items()
        )
    )
    answer = (
        f"At the same learning rate it is faster, at the same effective one slower, at all of {pairs:,} pairs of"
        if always
        else f"It depends on c and β, over {pairs:,} pairs of"
    )
    return (
        f"{answer} c from {numbers['c'][0]:g} to {numbers['c'][1]:.1g} and β from "
        f"{numbers['β'][0]:g} to {numbers['β'][1]:g}, for the heavy ball and Nesterov. At c = {C}, β = {BETA} gradient "
        f"descent grows by {growth[DESCENT]:.4f} an iteration, the heavy ball by "
        f"{growth['heavy ball, same rate']:.4f} and at the same effective rate by {growth[BALL]:.4f}: a thousandfold "
        f"after {steps[DESCENT]}, {steps['heavy ball, same rate']} and {steps[BALL]} iterations (Nesterov "
        f"{steps['Nesterov, same rate']} and {steps['Nesterov, same effective rate']}). The same effective rate costs "
        f"up to {most:.1f} times the iterations (c = {c:.2g}, β = {beta:g})"
        f"{'' if gentle is None else f', but no more than {gentle:.2f} times where c ≤ (1 − β)/10'}. The closed forms "
        f"give all rates to {off:.0e}, and the iterations {'exactly' if late == 0 else f'to {late}'}. Of "
        f"{numbers['paths']:,} paths from rest in the middle, driven by noise of each gradient, at c = {C}, a median "
        f"of so many iterations brings gradient descent to a coordinate of {AWAY:g}, and the heavy ball of β = {BETA} "
        f"at the same effective rate takes (intervals that hold together with 95 %): {noisy}."
    )


def draw(c: Line, beta: Line, growing: Mapping[str, Growing], leaving: Mapping[str, Mapping[str, Leaving]]) -> Figure:
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    # Rows of their own, since the wide labels of one would leave a hole in the other.
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
    (paths, rates), (plane, away) = above.subplots(1, 2), below.subplots(1, 2)
    draw_paths(paths, growing)
    draw_rates(rates, beta, growing, nearest(c, C))
    draw_times(plane, c, beta, growing[BALL].steps / growing[DESCENT].steps)
    draw_leaving(away, leaving)
    handles = [Line2D([], [], **style._asdict(), label=name) for name, style in zip(WAYS, STYLES, strict=False)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_paths(axes: Axes, growing: Mapping[str, Growing]) -> None:
    for (name, of), style in zip(growing.items(), STYLES, strict=False):
        w, last = of.path, int((of.path >= FACTOR).argmax())
        axes.plot(w[: last + 1], color=style.color, ls=style.linestyle)
        axes.plot(last, w[last], style.marker, color=style.color)
        axes.annotate(str(last), (last, 1.5 * FACTOR), ha="right" if "Nesterov" in name else "left", fontsize=9)
    axes.axhline(FACTOR, color="0.5", lw=1)
    axes.set(
        yscale="log",
        xlim=(-5, 1.15 * max((of.path >= FACTOR).argmax() for of in growing.values())),
        ylim=(0.7, 4 * FACTOR),
        xlabel="iterations (updates)",
        ylabel="distance from the saddle, wₖ/w₀",
    )
    axes.set_title(f"c = {C}, β = {BETA}, until a thousandfold", fontsize=10)


def draw_rates(axes: Axes, beta: Line, growing: Mapping[str, Growing], row: int) -> None:
    for of, style in zip(growing.values(), STYLES, strict=False):
        axes.plot(beta, of.closed_rate[row], color=style.color, ls=style.linestyle)
        axes.plot(beta[::6], of.rate[row, ::6], style.marker, color=style.color, ms=5)
    axes.set(xlabel="momentum β", ylabel="growth per iteration")
    axes.set_title(f"c = {C} (lines: closed form, marks: simulated)", fontsize=10)


def draw_times(axes: Axes, c: Line, beta: Line, times: Float[np.ndarray, "c beta"]) -> None:
    mesh = axes.pcolormesh(beta, c, times, cmap="cividis", norm=LogNorm(1, times.max()), rasterized=True)
    # Before they are rounded up to whole iterations, which makes steps.
    ball, descent = (
        np.asarray(theory.steps_to_grow(WAYS[name].growth(WAYS[name].alpha(c[:, None], beta), beta), FACTOR))
        for name in (BALL, DESCENT)
    )
    levels = axes.contour(beta, c, ball / descent, [1.1, 1.25, 1.5, 2, 3], colors="w", linewidths=0.8)
    axes.clabel(levels, fontsize=8)
    axes.set(xlabel="momentum β", ylabel="c = αλ of gradient descent", yscale="log")
    axes.set_title("The heavy ball at the same effective rate (lines: closed form)", fontsize=10)
    bar = axes.figure.colorbar(mesh, ax=axes, label="iterations to a thousandfold,\ntimes gradient descent's")
    whole = list(range(1, math.floor(times.max()) + 1))
    bar.set_ticks(whole, labels=[str(times) for times in whole])
    bar.minorticks_off()


def draw_leaving(axes: Axes, leaving: Mapping[str, Mapping[str, Leaving]]) -> None:
    for row, by_way in enumerate(leaving.values()):
        for i, (of, style) in enumerate(zip(by_way.values(), STYLES, strict=False)):
            value, low, high, _ = of.steps
            axes.errorbar(
                value,
                row + 0.15 * (2 - i),
                xerr=[[value - low], [high - value]],
                color=style.color,
                marker=style.marker,
                capsize=3,
            )
    axes.set(xscale="log", xlabel="iterations until a coordinate is 1 (medians)", ylim=(-0.6, len(leaving) - 0.4))
    axes.set_yticks(range(len(leaving)), [name.replace(", ", ",\n") for name in leaving])
    axes.set_title(f"From rest, by noise: c = {C}, β = {BETA}", fontsize=10)
    axes.grid(axis="x", which="both", alpha=0.25)


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

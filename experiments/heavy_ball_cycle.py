"""Can the best heavy ball fail on a strongly convex function, and from which starts? Does the best Nesterov?

Finding: The heavy ball can, Nesterov does not. Of 32,001 starts from −8 to 8 the heavy ball converges from 27,891 and
goes round for ever from 4,110, always on 0.646531, −1.802449, 2.115918, which is 792/1225, −2208/1225, 2592/1225 to
2e-15. These starts lie in 12 intervals, x₀ = 3.3 in (3.06123, 3.46333). Nesterov converges from all, with either of its
tunings.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from study import Study, run

import momentum_jax as mj
from momentum_jax.optimizers import Tuning, optimal_momentum, optimal_nesterov, standard_nesterov
from momentum_jax.report import STYLES
from momentum_jax.tasks.landscapes import make_landscape

MU, L = 1.0, 25.0
# The cycle attracts as fast as the minimum: after 150 iterations neither is farther off than roundings.
ITERATIONS = 150
# Its order is that of the iterations.
CYCLE = np.array([792, -2208, 2592]) / 1225
Starts = Float[np.ndarray, " starts"]
Which = Bool[np.ndarray, " starts"]
# The last six points: each of a cycle of three twice.
Ends = Float[np.ndarray, "starts 6"]


def tuned(method: str, tuning: Tuning) -> mj.OptimizerConfig:
    return mj.OptimizerConfig(method, learning_rate=tuning.learning_rate, momentum=tuning.momentum)


METHODS = {
    "heavy ball": tuned("momentum", optimal_momentum(MU, L)),
    "Nesterov": tuned("nesterov", optimal_nesterov(MU, L)),
    "Nesterov, α = 1/L": tuned("nesterov", standard_nesterov(MU, L)),
}


def study(arguments: argparse.Namespace) -> Study:
    bound, count = (4.0, 81) if arguments.fast else (8.0, 32_001)
    x0 = np.linspace(-bound, bound, count)
    with jax.enable_x64(True):
        ends = {name: run_from(name, x0) for name in METHODS}
        cycling = cycles(ends["heavy ball"])
        intervals = cycling_intervals(x0, cycling)
        figure = draw(x0, ends)
    met = in_order(ends["heavy ball"][cycling])
    numbers = {
        "starts": count,
        "largest |x0|": bound,
        "starts that cycle": {name: int(cycles(of).sum()) for name, of in ends.items()},
        "starts that converge": {name: int(converges(of).sum()) for name, of in ends.items()},
        "cycle": met[0].tolist(),
        "farthest from the known cycle": float(np.abs(met - CYCLE).max()),
        "intervals that cycle": intervals.round(5).tolist(),
    }
    return Study(figure, find(numbers), numbers)


def run_from(name: str, x0: Starts) -> Ends:
    """All starts as one program."""
    ends: Ends = np.asarray(mj.trajectory(METHODS[name], "lessard", x0[:, None], ITERATIONS).points[:, -6:, 0])
    return ends


def converges(ends: Ends) -> Which:
    small: Which = (np.abs(ends) < 1e-6).all(axis=-1)
    return small


def cycles(ends: Ends) -> Which:
    again: Which = (np.abs(ends[:, 3:] - ends[:, :3]) < 1e-9).all(axis=-1)
    lasting: Which = again & ~converges(ends)
    return lasting


def in_order(ends: Ends) -> Float[np.ndarray, "starts 3"]:
    """Each cycle from the point before its lowest."""
    first = ends[:, 1:4].argmin(axis=-1)
    ordered: Float[np.ndarray, "starts 3"] = np.take_along_axis(ends, first[:, None] + np.arange(3), axis=-1)
    return ordered


def cycling_intervals(x0: Starts, cycling: Which) -> Float[np.ndarray, "intervals 2"]:
    """The intervals of neighbouring starts that cycle, their ends found by halving the gap to the next start."""
    first = np.flatnonzero(cycling[1:] != cycling[:-1])
    left, right, goes_in = x0[first], x0[first + 1], cycling[first + 1]
    for _ in range(30):
        middle = (left + right) / 2
        beyond = cycles(run_from("heavy ball", middle)) == goes_in
        left, right = np.where(beyond, left, middle), np.where(beyond, middle, right)
    intervals: Float[np.ndarray, "intervals 2"] = ((left + right) / 2).reshape(-1, 2)
    return intervals


def find(numbers: Mapping[str, Any]) -> str:
    count, cycling, converging = (numbers[key] for key in ("starts", "starts that cycle", "starts that converge"))
    intervals, bound = numbers["intervals that cycle"], numbers["largest |x0|"]
    around = [f"({low:.5f}, {high:.5f})" for low, high in intervals if low < 3.3 < high]
    failing = [
        f"{name} fails from {count - converging[name]:,}"
        for name in METHODS
        if name != "heavy ball" and converging[name] < count
    ]
    cycle = ", ".join(f"{x:.6f}" for x in numbers["cycle"]).replace("-", "−")
    ball, nesterov = "can" if cycling["heavy ball"] else "cannot", "can too" if failing else "does not"
    return (
        f"The heavy ball {ball}, Nesterov {nesterov}. Of {count:,} starts from −{bound:g} to {bound:g} "
        f"the heavy ball converges from {converging['heavy ball']:,} and goes round for ever from "
        f"{cycling['heavy ball']:,}, always on {cycle}, which is 792/1225, "
        f"−2208/1225, 2592/1225 to {numbers['farthest from the known cycle']:.0e}. "
        f"These starts lie in {len(intervals)} intervals, x₀ = 3.3 in {around[0] if around else 'none of them'}. "
        f"{'; '.join(failing) or 'Nesterov converges from all, with either of its tunings'}."
    )


def draw(x0: Starts, ends: Mapping[str, Ends]) -> Figure:
    figure = Figure(figsize=(7, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 2])
    landscape = make_landscape("lessard")
    f = jax.jit(jax.vmap(landscape.function))
    path = np.asarray(mj.trajectory(METHODS["heavy ball"], landscape, np.array([3.3]), 60).points)
    x = np.linspace(-3.4, 3.6, 300)[:, None]
    above.plot(x, f(x), color="0.5", lw=1, label="f(x)")
    for points, style, label in (
        (path[:9], STYLES[6], "heavy ball from 3.3, first iterations"),
        (path[-4:], STYLES[0], "and for ever"),
    ):
        color, marker, dashes = style
        above.plot(points, f(points), color=color, marker=marker, ls=dashes, lw=1.2, label=label)
    above.set(xlabel="position x", ylabel="f(x)")
    above.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8)
    for name, style, size in (("Nesterov", STYLES[1], 7), ("heavy ball", STYLES[0], 3)):
        last = ends[name][:, :3].ravel()
        below.plot(np.repeat(x0, 3), last, ".", ms=size, color=style.color, rasterized=True, label=name)
    below.set(xlabel="start x₀", ylabel="last three x", ylim=(-2.5, 2.7), xlim=(x0[0], x0[-1]))
    below.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8, markerscale=2)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

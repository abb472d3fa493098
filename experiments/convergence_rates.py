"""Do momentum's closed-form rates hold over the whole plane of αλ and β, and where exactly does it begin to diverge?

Finding: They hold to 0.001. Over 14,000 pairs of αλ from 0.03 to 4.2 and β from 0 to 0.99, stable or not, the largest
disagreements between the rates of simulated runs and the closed forms are: heavy ball 7.2e-4 at αλ = 0.36, β = 0.16,
where the two roots are 7.6e-9 apart and a double root would leave 7.2e-4; Nesterov 7.2e-4 at αλ = 0.36, β = 0.25, where
the two roots are 9.7e-9 apart and a double root would leave 7.2e-4. Where the roots are 0.1 or more apart they are at
most 4.4e-15 if these are real, and 4.0e-4 if the run oscillates. Half of all are within 8.3e-8. Runs turn from
shrinking to growing within 2.2e-15 of 2(1 + β) and 2.2e-15 of 2(1 + β)/(1 + 2β).
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from study import Study, run

import momentum_jax as mj
from momentum_jax._base.progress import show_progress
from momentum_jax.analysis import theory
from momentum_jax.tasks.landscapes import make_landscape

Line = Float[np.ndarray, " n"]
Plane = Float[np.ndarray, "beta a"]
LARGEST = 1e300
APART = 0.1


class Method(NamedTuple):
    """An optimizer and its closed forms."""

    optimizer: Callable[..., Any]
    rate: Callable[..., Array]
    matrix: Callable[..., Array]
    limit: Callable[..., Array]
    limit_formula: str
    # Where its two roots meet, from β to a.
    double_roots: Callable[..., tuple[Array, Array]]


class Measured(NamedTuple):
    """Of one method: rates over the plane, how far apart the two roots are, and the a at which it begins to diverge."""

    rate: Plane
    closed: Plane
    apart: Plane
    oscillates: Bool[np.ndarray, "beta a"]
    limit: Line
    closed_limit: Line

    @property
    def disagreement(self) -> Plane:
        disagreement: Plane = np.abs(self.rate - self.closed)
        return disagreement


class Disagreement(NamedTuple):
    """The largest over the plane with its place, and what a double root of that rate would leave; on the limit too."""

    largest: float
    a: float
    beta: float
    apart: float
    double_root: float
    median: float
    # The largest where the roots are APART, complex or real.
    oscillating: float
    monotone: float
    limit: float
    limit_beta: float


METHODS = {
    "heavy ball": Method(
        mj.momentum,
        theory.heavy_ball_rate,
        theory.heavy_ball_matrix,
        theory.heavy_ball_stability_limit,
        "2(1 + β)",
        theory.robust_region,
    ),
    "Nesterov": Method(
        mj.nesterov,
        theory.nesterov_rate,
        theory.nesterov_matrix,
        theory.nesterov_stability_limit,
        "2(1 + β)/(1 + 2β)",
        theory.nesterov_oscillating_region,
    ),
}


# By method, the rates that have a line, and where on it, at αλ and β, it has a label: apart from the others.
LABELLED = {
    "heavy ball": {rate: (1.0 + rate / 2, rate**2) for rate in (0.2, 0.4, 0.6, 0.8, 0.9, 0.95)},
    # Where the run oscillates the rate is √(β(1 − αλ)).
    "Nesterov": {rate: (1 - rate**2 / beta, beta) for rate, beta in ((0.2, 0.4), (0.4, 0.55), (0.6, 0.7), (0.8, 0.84))},
}


def study(arguments: argparse.Namespace) -> Study:
    columns, rows, iterations = (12, 5, 200) if arguments.fast else (140, 100, 10_000)
    a, beta = np.linspace(0, 4.2, columns + 1)[1:], np.arange(rows) / rows
    with jax.enable_x64(True):
        measured = {name: measure(name, a, beta, iterations) for name in METHODS}
        figure = draw(measured, a, beta)
    found = {name: describe(of, a, beta, iterations) for name, of in measured.items()}
    numbers = {
        "iterations": iterations,
        "pairs": len(a) * len(beta),
        "αλ": [float(a[0]), float(a[-1])],
        "β": [float(beta[0]), float(beta[-1])],
        **{name: of._asdict() for name, of in found.items()},
    }
    return Study(figure, find(numbers), numbers)


def measure(name: str, a: Line, beta: Line, iterations: int) -> Measured:
    with show_progress() as progress:
        return _measure(name, a, beta, iterations, progress)


def _measure(name: str, a: Line, beta: Line, iterations: int, progress: Callable[..., None]) -> Measured:
    method = METHODS[name]
    rates = simulation(method.optimizer, iterations)
    plane = np.empty((len(beta), len(a)))
    for row, value in enumerate(beta):
        plane[row] = rates(a, np.full_like(a, value))
        progress(f"{name}, rows", row + 1, len(beta))
    # As many momenta as the program takes. Here and there it is stable at 0.5 and unstable at 5.
    betas = limit_betas(a, beta)
    low, high, halvings = np.full_like(a, 0.5), np.full_like(a, 5.0), 50
    for halving in range(halvings):
        middle = (low + high) / 2
        grows = np.asarray(rates(middle, betas)) > 1
        low, high = np.where(grows, low, middle), np.where(grows, middle, high)
        progress(f"{name}, halvings", halving + 1, halvings)
    at = (a, beta[:, None])
    closed, matrices, closed_limit = jax.jit(lambda: (method.rate(*at), method.matrix(*at), method.limit(betas)))()
    roots = np.linalg.eigvals(matrices)
    between = roots[..., 0] - roots[..., 1]
    oscillates = between.imag != 0
    return Measured(plane, np.asarray(closed), np.abs(between), oscillates, (low + high) / 2, np.asarray(closed_limit))


def limit_betas(a: Line, beta: Line) -> Line:
    return np.linspace(beta[0], beta[-1], len(a))


def simulation(optimizer: Callable[..., Any], iterations: int) -> Callable[..., Array]:
    """From arrays of a and β to the rates of runs from rest on ½w², as one program.

    The size of the state is the larger of two successive |w|, which is not 0 where one of them crosses it. The rate is
    e to the slope of the least-squares line through ln size, over the second half of the iterations before the size
    leaves 1e-300 to 1e300. What is left of the transient there is the disagreement. At a double root the size goes as
    k·ρᵏ, which makes the slope too high by 1.364/k, with the last iteration k; as k ≤ 691/|ln ρ|, the rate is then too
    high by up to 7.3e-4 however long the run.
    """
    bowl = make_landscape("quadratic", curvatures=(1.0,))

    def rate(a: Array, beta: Array) -> Array:
        w = jnp.abs(mj.trajectory(optimizer(a, beta), bowl, jnp.ones(1), iterations).points[:, 0])
        log_size, k = jnp.log(jnp.maximum(w[1:], w[:-1])), jnp.arange(float(iterations))
        last = jnp.cumprod(jnp.abs(log_size) < np.log(LARGEST)).sum(dtype=float)
        window = (k >= last // 2) & (k < last)
        centred = jnp.where(window, k - jnp.mean(k, where=window), 0)
        return jnp.exp(jnp.sum(centred * jnp.where(window, log_size, 0)) / jnp.sum(centred**2))

    return jax.jit(jax.vmap(rate))


def describe(measured: Measured, a: Line, beta: Line, iterations: int) -> Disagreement:
    row, column = np.unravel_index(measured.disagreement.argmax(), measured.disagreement.shape)
    rho = measured.closed[row, column]
    last = min(iterations, np.log(LARGEST) / abs(np.log(rho)))
    apart, limits = measured.apart >= APART, np.abs(measured.limit - measured.closed_limit)
    told = Disagreement(
        largest=measured.disagreement.max(),
        a=a[column],
        beta=beta[row],
        apart=measured.apart[row, column],
        double_root=rho * np.expm1(1.364 / last),
        median=np.median(measured.disagreement),
        oscillating=measured.disagreement[apart & measured.oscillates].max(),
        monotone=measured.disagreement[apart & ~measured.oscillates].max(),
        limit=limits.max(),
        limit_beta=limit_betas(a, beta)[limits.argmax()],
    )
    return Disagreement(*map(float, told))


def find(numbers: Mapping[str, Any]) -> str:
    a, beta = numbers["αλ"], numbers["β"]
    found = {name: Disagreement(**numbers[name]) for name in METHODS}
    worst, median, oscillating, monotone = (
        max(getattr(of, field) for of in found.values()) for field in ("largest", "median", "oscillating", "monotone")
    )
    where = "; ".join(
        f"{name} {short(of.largest)} at αλ = {of.a:.4g}, β = {of.beta:.4g}, where the two roots are {short(of.apart)} "
        f"apart and a double root would leave {short(of.double_root)}"
        for name, of in found.items()
    )
    limits = " and ".join(f"{short(of.limit)} of {METHODS[name].limit_formula}" for name, of in found.items())
    return (
        f"{'They hold' if worst < 1e-3 else 'They do not hold'} to 0.001. Over {numbers['pairs']:,} pairs of αλ from "
        f"{a[0]:.2g} to {a[1]:.2g} and β from {beta[0]:.2g} to {beta[1]:.2g}, stable or not, the largest "
        f"disagreements between the rates of simulated runs and the closed forms are: {where}. Where the roots are "
        f"{APART} or more apart they are at most {short(monotone)} if these are real, and {short(oscillating)} if the "
        f"run oscillates. Half of all are within {short(median)}. Runs turn from shrinking to growing within {limits}."
    )


def short(number: float) -> str:
    return f"{number:.1e}".replace("e-0", "e-")


def draw(measured: Mapping[str, Measured], a: Line, beta: Line) -> Figure:
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for (name, of), column in zip(measured.items(), axes.T, strict=True):
        betas = limit_betas(a, beta)
        rates = column[0].pcolormesh(a, beta, of.rate, cmap="cividis", vmin=0, vmax=2, rasterized=True)
        levels = column[0].contour(a, beta, of.closed, list(LABELLED[name]), colors="w", linewidths=0.7)
        column[0].clabel(levels, fontsize=7, manual=list(LABELLED[name].values()))
        column[0].plot(of.closed_limit, betas, color="#D55E00", label="closed form")
        column[0].plot(of.limit[::10], betas[::10], "o", color="k", ms=3, label="simulated runs")
        column[0].set_title(f"{name}, diverging from {METHODS[name].limit_formula}", fontsize=9)
        shown = np.maximum(of.disagreement, 1e-16)
        errors = column[1].pcolormesh(a, beta, shown, cmap="magma", norm=LogNorm(1e-16, 1e-2), rasterized=True)
        for roots in jax.jit(METHODS[name].double_roots)(betas):
            column[1].plot(roots, betas, ":", color="#56B4E9", lw=1, label="double roots")
        column[1].legend(*(part[:1] for part in column[1].get_legend_handles_labels()), fontsize=6, loc="lower right")
        column[1].set_xlabel("αλ")
        column[1].set_xlim(0, a[-1])
    axes[0, 1].legend(title="where it begins to diverge", fontsize=7, title_fontsize=7, loc="upper right")
    for row in axes:
        row[0].set_ylabel("momentum β")
    figure.colorbar(rates, ax=axes[0], extend="max", label="measured rate (lines: closed form)")
    figure.colorbar(errors, ax=axes[1], label="|measured − closed form|")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

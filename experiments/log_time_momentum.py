"""Does log-time momentum, 1 − β = δ/(δ + t), change the exponent of the loss where constant momentum does not?

Finding: Not by itself: at the same effective learning rate the loss falls as t^−0.91 with log-time momentum, t^−0.92
with SGD and t^−0.92 with momentum 0.99 (α = 1, β = 0.4). The γ₃ of that log-time momentum falls as 1/t. DANA's falls
slower or not at all, and the exponent is another: 1.34 (1.27 to 1.39; predicted 1.35) with γ₃ ~ t^(−1/(2α)),
DANA-decaying, and 1.52 (1.27 to 1.67; predicted 1.80) with γ₃ = γ₂/d, DANA-constant. Exponents are fitted over the
decade before the power law ends, and their ranges over 0.5 to 2 decades. SGD, log-time momentum, DANA-decaying and
DANA-constant have 1.14 (1.13 to 1.14), 1.14 (1.14 to 1.14), 1.91 (1.88 to 1.93) and 2.19 (2.04 to 2.23) at α = 1.5, β =
0.7 and 1.51 (1.51 to 1.51), 1.51 (1.50 to 1.51), 2.27 (2.16 to 2.40) and 2.66 (2.27 to 2.85) at α = 1, β = 1.5. The
predictions miss by up to 1.8 %, 1.6 %, 1.0 % and 15.6 %. Iterations until DANA-constant is half-way to its exponent:
10d, 10d and 12d. With γ₃ = γ₂ at any d the loss is tenfold after 16, 5 and 18 iterations; without noise this rule has
the exponents 1.82, 2.28 and 3.96. On 300 random mixtures of 1,200 features the four have 0.61, 0.64, 0.81 and 0.92, and
on 300 plain features 0.95, 0.95, 1.21 and 1.25 (α = 1, β = 0.4).

The model is least squares on independent Gaussian features of variances j^(−2α) with target coefficients j^(−β), from
batches of one example. `iterate` is the exact recurrence of the second moments of errors and momentum, so that nothing
here is random but the projection. All methods are y ← (1 − Δ)y + g; p ← p − γ₂g − γ₃y. DANA is that of
arXiv:2505.16098, here only for α > 1/2. `predict` says where the predicted exponents come from.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study import Study, rounded, run

from momentum_jax._base.machine import cores
from momentum_jax._base.progress import show_progress
from momentum_jax.analysis import Interval
from momentum_jax.report import STYLES

SGD, CONSTANT, LOG_TIME = "SGD", "momentum 0.99", "log-time"
UNDAMPED, QUIET, FIXED, DECAYING = "log-time, γ₃ fixed", "the same, no noise", "DANA-constant", "DANA-decaying"
METHODS = (SGD, CONSTANT, LOG_TIME, UNDAMPED, QUIET, FIXED, DECAYING)
# Those that the finding gives for every problem.
COMPARED = (SGD, LOG_TIME, DECAYING, FIXED)
# Exponents are fitted over so many decades, of which the first gives the value and all give the range.
DECADES = (1.0, 0.5, 1.5, 2.0)
# Until the feature with the smallest variance has lost a tenth of its squared error, the loss is a power law.
LEFT = 0.9
# The colour of what is predicted.
PREDICTED = "#7A3E9D"
# Exponents that differ by less are alike.
ALIKE = 0.05


class Problem(NamedTuple):
    """A power law: its two exponents, the number of features, the iterations, and whether features are projected."""

    alpha: float
    beta: float
    d: int
    iterations: int
    projected: bool = False


FULL = (
    Problem(1.0, 0.4, 3000, 400_000),
    Problem(1.5, 0.7, 1000, 600_000),
    Problem(1.0, 1.5, 3000, 400_000),
    Problem(1.0, 0.4, 300, 40_000),
    Problem(1.0, 0.4, 300, 40_000, projected=True),
)
FAST = tuple(problem._replace(d=problem.d // 10, iterations=2000) for problem in FULL)


class Features(NamedTuple):
    """Uncorrelated features in groups of equal ones.

    Fields:
      variance: λ of each group, falling.
      target: the square of the coefficient that the target has on each feature.
      size: the number of features in each group.
      floor: the variance of the target that is on none of the features.
    """

    variance: Float[np.ndarray, " groups"]
    target: Float[np.ndarray, " groups"]
    size: Float[np.ndarray, " groups"]
    floor: float = 0.0


class Method(NamedTuple):
    """Δ(t) = Δ₀/(1 + ρt), γ₂ and γ₃(t) = γ₃/(1 + ρ₃t)^κ of methods that start from y = 0 at t = 0.

    The share of noise is the inverse of the batch size. All fields are numbers or columns of them.
    """

    gamma2: Any
    gamma3: Any = 0.0
    kappa: Any = 0.0
    rho3: Any = 0.0
    delta0: Any = 1.0
    rho: Any = 0.0
    noise: Any = 1.0


class Moments(NamedTuple):
    """E[e²], E[ey] and E[y²] of the error e and the momentum y of a feature of each group."""

    ee: Float[Array, "methods groups"]
    ey: Float[Array, "methods groups"]
    yy: Float[Array, "methods groups"]


class Measured(NamedTuple):
    """The loss of each method at some iterations, and the iteration where its power law ends."""

    loss: Float[np.ndarray, "methods times"]
    times: Int[np.ndarray, " times"]
    ends: Int[np.ndarray, " methods"]


def study(arguments: argparse.Namespace) -> Study:
    problems = FAST if arguments.fast else FULL
    measured = {}
    # A program is a loop on one core; those of several problems run beside each other.
    with show_progress() as progress, ThreadPoolExecutor(cores()) as pool:
        for done, (problem, of) in enumerate(zip(problems, pool.map(measure, problems), strict=True), start=1):
            measured[problem] = of
            progress("power laws", done, len(problems), whole=done / len(problems))
    numbers = {"problems": [summarize(problem, of) for problem, of in measured.items()]}
    return Study(draw(measured), find(numbers), numbers)


def measure(problem: Problem) -> Measured:
    features = projected(problem) if problem.projected else power_law(problem.alpha, problem.beta, problem.d)
    stacked = Method(*(np.array(column)[:, None] for column in zip(*methods(problem, features).values(), strict=True)))
    times = times_of(problem)
    # The setting is one of this thread.
    with jax.enable_x64(True):
        loss, left = map(np.asarray, losses(features, stacked, times))
    falls = left < LEFT
    last = np.where(falls.any(axis=1), falls.argmax(axis=1) - 1, len(times) - 1)
    return Measured(loss, times, times[last])


def times_of(problem: Problem) -> Int[np.ndarray, " times"]:
    return np.unique(np.geomspace(1, problem.iterations, round(20 * np.log10(problem.iterations))).astype(int))


def power_law(alpha: float, beta: float, d: int, alone: int = 24, octave: int = 6) -> Features:
    """The features j^(−2α) with the coefficients j^(−β): the first alone, then in groups, of which an octave has some.

    The features of a group share its variance and its part of the starting loss equally.
    """
    j, octaves = np.arange(1, d + 1, dtype=float), np.log2(max(d / alone, 1))
    tail = np.unique(np.geomspace(alone, d, 1 + round(octave * octaves)).astype(int))[:-1]
    starts = np.concatenate([np.arange(min(alone, d)), tail[tail < d]])
    count = np.diff(starts, append=d).astype(float)
    variance, loss = (np.add.reduceat(j**-power, starts) / count for power in (2 * alpha, 2 * alpha + 2 * beta))
    return Features(variance, loss / variance, count)


def projected(problem: Problem) -> Features:
    """The principal components of d random mixtures of 4d features j^(−2α), with the target's coefficients on them."""
    v = 4 * problem.d
    j = np.arange(1, v + 1, dtype=float)
    weights = np.random.default_rng(0).normal(size=(v, problem.d)) / np.sqrt(problem.d)
    mixtures, target = j[:, None] ** -problem.alpha * weights, j ** -(problem.alpha + problem.beta)
    u, scale, _ = np.linalg.svd(mixtures, full_matrices=False)
    on = target @ u
    return Features(scale**2, (on / scale) ** 2, np.ones(problem.d), float(np.sum((target - u @ on) ** 2)))


def methods(problem: Problem, features: Features) -> dict[str, Method]:
    """All methods with the same γ, which is SGD's rate and the effective rate of constant and of log-time momentum."""
    gamma = 0.5 / np.sum(features.size * features.variance)
    rho = 1 / (4 + (problem.alpha + problem.beta) / problem.alpha)
    return {
        SGD: Method(gamma),
        CONSTANT: Method(0.0, 0.01 * gamma, delta0=0.01),
        # γ₃ = γΔ.
        LOG_TIME: Method(0.0, gamma, kappa=1.0, rho3=rho, rho=rho),
        UNDAMPED: Method(gamma, gamma, rho=rho),
        QUIET: Method(gamma, gamma, rho=rho, noise=0.0),
        FIXED: Method(gamma, gamma / problem.d, rho=rho),
        # With a larger γ₃ the noise is amplified for a while at α = 1.5.
        DECAYING: Method(gamma, 0.3 * gamma, kappa=1 / (2 * problem.alpha), rho3=1.0, rho=rho),
    }


def iterate(t: Array, m: Moments, features: Features, method: Method) -> Moments:
    """The moments after iteration t.

    Of Gaussian examples E[g] = λe and E[g²] = λ²e² + (λ²e² + λ(Σ λe² + floor))/B.
    """
    lam, keep = features.variance[None], 1 - method.delta0 / (1 + method.rho * t)
    gamma3 = method.gamma3 * (1 + method.rho3 * t) ** -method.kappa
    # e ← e − step·g − slide·y.
    step, slide = method.gamma2 + gamma3, gamma3 * keep
    residual = m.ee @ (features.size * features.variance) + features.floor
    gg = lam * (lam * m.ee * (1 + method.noise) + method.noise * residual[:, None])
    ge, gy = lam * m.ee, lam * m.ey
    return Moments(
        m.ee + step**2 * gg + slide**2 * m.yy - 2 * step * ge - 2 * slide * m.ey + 2 * step * slide * gy,
        keep * (m.ey - step * gy - slide * m.yy) + ge - step * gg - slide * gy,
        keep**2 * m.yy + 2 * keep * gy + gg,
    )


@jax.jit
def losses(features: Features, method: Method, times: Array) -> tuple[Array, Array]:
    """The loss above the floor, Σ λ E[e²], and the last feature's share of its squared error, of methods and times."""
    zeros = jnp.zeros((len(method.gamma2), len(features.target)))

    def until(m: Moments, span: tuple[Array, Array]) -> tuple[Moments, tuple[Array, Array]]:
        m = jax.lax.fori_loop(*span, lambda t, m: iterate(t.astype(float), m, features, method), m)
        return m, (m.ee @ (features.size * features.variance), m.ee[:, -1] / features.target[-1])

    spans = jnp.concatenate([jnp.zeros(1, times.dtype), times[:-1]]), times
    _, (loss, left) = jax.lax.scan(until, Moments(zeros + features.target[None], zeros, zeros), spans)
    return loss.T, left.T


def exponent(times: Int[np.ndarray, " times"], loss: Float[np.ndarray, " times"], end: int) -> Interval:
    """Of the power law that fits the loss best over the decade before `end`, with its range over other windows."""
    fits = []
    for decades in DECADES:
        within = (times >= end / 10**decades) & (times <= end)
        slope, _ = np.polyfit(np.log(times[within]), np.log(loss[within]), 1)
        fits.append(-float(slope))
    return Interval(fits[0], min(fits), max(fits), np.nan)


def predict(problem: Problem) -> dict[str, float]:
    """The exponents of the loss: the smaller of the target's and of that of SGD's own noise in τ, times τ's own in t.

    The time τ = γ₂t + (∫√γ₃ dt)² is ~ t for SGD, ~ t² for constant γ₃ and ~ t^(2 − 1/(2α)) for DANA-decaying.
    """
    alpha, beta, *_ = problem
    signal, noise = (2 * alpha + 2 * beta - 1) / (2 * alpha), 2 - 1 / (2 * alpha)
    slower = min(signal, noise)
    alike = dict.fromkeys((SGD, CONSTANT, LOG_TIME), slower)
    return alike | {QUIET: 2 * signal, FIXED: 2 * slower, DECAYING: (2 - 1 / (2 * alpha)) * slower}


def halfway(problem: Problem, measured: Measured) -> float | None:
    """When DANA-constant's exponent is for good past the middle of SGD's and its own, in d iterations, if ever."""
    at, predicted = METHODS.index(FIXED), predict(problem)
    slopes = slopes_of(measured.times, measured.loss[at])
    within = measured.times <= measured.ends[at]
    before = np.flatnonzero(within & (slopes < (predicted[SGD] + predicted[FIXED]) / 2))[-1]
    return float(measured.times[before] / problem.d) if within[before + 1 :].any() else None


def slopes_of(times: Int[np.ndarray, " times"], loss: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
    """−d log loss / d log t."""
    return np.asarray(-np.gradient(np.log(loss), np.log(times)))


def summarize(problem: Problem, measured: Measured) -> dict[str, Any]:
    """What the finding says of a problem: iterations until a loss is tenfold, else the exponent and its prediction."""
    found: dict[str, Any] = {}
    for name, loss, end in zip(METHODS, measured.loss, measured.ends, strict=True):
        grown = ~(loss < 10 * measured.loss[0, 0])
        if grown.any():
            found[name] = {"tenfold after": int(measured.times[grown.argmax()])}
        else:
            fitted = rounded(exponent(measured.times, loss, end), 3)
            found[name] = {"exponent": fitted, "end": int(end), "predicted": round(predict(problem)[name], 3)}
    return {**problem._asdict(), "DANA-constant half-way after d times": halfway(problem, measured), "methods": found}


def find(numbers: Mapping[str, Any]) -> str:
    """The finding, from the numbers of `summarize`."""
    *problems, plain, mixed = numbers["problems"]
    first, *others = problems

    def fitted(of: Mapping[str, Any], name: str) -> Sequence[float]:
        exponents: Sequence[float] = of["methods"][name]["exponent"]
        return exponents

    def short(of: Mapping[str, Any], name: str) -> str:
        return f"{fitted(of, name)[0]:.2f}"

    alike = all(abs(fitted(of, LOG_TIME)[0] - fitted(of, SGD)[0]) < ALIKE for of in problems)
    steeper = all(fitted(of, name)[1] > fitted(of, SGD)[2] for of in problems for name in (FIXED, DECAYING))
    answer = {(True, True): "Not by itself", (True, False): "No"}.get((alike, steeper), "Yes")
    fixed, decaying = (
        f"{ranged(fitted(first, name))[:-1]}; predicted {first['methods'][name]['predicted']:.2f})"
        for name in (FIXED, DECAYING)
    )
    more = listed(f"{listed(ranged(fitted(of, name)) for name in COMPARED)} at {place(of)}" for of in others)
    misses = (
        max(abs(fitted(of, name)[0] / of["methods"][name]["predicted"] - 1) for of in problems) for name in COMPARED
    )
    times = (of["DANA-constant half-way after d times"] for of in problems)
    after = listed("more" if d is None else f"{d:.0f}d" for d in times)
    tenfold = listed(f"{of['methods'][UNDAMPED].get('tenfold after', 'no')}" for of in problems)
    on_mixed, on_plain = (listed(short(of, name) for name in COMPARED) for of in (mixed, plain))
    return (
        f"{answer}: at the same effective learning rate the loss falls as t^−{short(first, LOG_TIME)} with log-time "
        f"momentum, t^−{short(first, SGD)} with SGD and t^−{short(first, CONSTANT)} with momentum 0.99 "
        f"({place(first)}). The γ₃ of that log-time momentum falls as 1/t. DANA's falls slower or not at all, and the "
        f"exponent is another: {decaying} with γ₃ ~ t^(−1/(2α)), DANA-decaying, and {fixed} with γ₃ = γ₂/d, "
        f"DANA-constant. Exponents are fitted over the decade before the power law ends, and their ranges over 0.5 to "
        f"2 decades. SGD, log-time momentum, DANA-decaying and DANA-constant have {more}. The predictions miss "
        f"by up to {listed(f'{100 * miss:.1f} %' for miss in misses)}. Iterations until DANA-constant is half-way to "
        f"its exponent: {after}. With γ₃ = γ₂ at any d the loss is tenfold after {tenfold} iterations; without noise "
        f"this rule has the exponents {listed(short(of, QUIET) for of in problems)}. On {mixed['d']:,} random mixtures "
        f"of {4 * mixed['d']:,} features the four have {on_mixed}, and on {plain['d']:,} plain features {on_plain} "
        f"({place(mixed)})."
    )


def place(problem: Mapping[str, Any]) -> str:
    return f"α = {problem['alpha']:g}, β = {problem['beta']:g}"


def ranged(fitted: Sequence[float]) -> str:
    value, low, high = fitted
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def listed(texts: Iterable[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def draw(measured: Mapping[Problem, Measured]) -> Figure:
    figure = Figure(figsize=(7.6, 7), layout="constrained")
    (falling, slopes), below = figure.subplots(2, 2, height_ratios=[1, 1])
    below[1].remove()
    below[0].set_subplotspec(below[0].get_gridspec()[1, :])
    # DANA-constant needs the most features and iterations; here it has them.
    problem = max(measured, key=lambda one: one.alpha)
    draw_losses(falling, slopes, problem, measured[problem])
    draw_exponents(below[0], measured)
    figure.legend(*falling.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def draw_losses(falling: Axes, slopes: Axes, problem: Problem, measured: Measured) -> None:
    """The loss of each method until its power law ends, and the slope of its logarithm."""
    times = measured.times
    for name, style, loss, end in zip(METHODS, STYLES, measured.loss, measured.ends, strict=True):
        shown = (times <= end) & (loss < 10 * measured.loss[0, 0])
        lines: dict[str, Any] = {
            "color": style.color,
            "linestyle": style.linestyle,
            "marker": style.marker,
            "markersize": 5,
        }
        falling.plot(times[shown], loss[shown], **lines, markevery=[-1], label=name)
        if not shown.all() and name == UNDAMPED:
            at = times[shown][-1], loss[shown][-1]
            falling.annotate("diverges", at, xytext=(7, -3), textcoords="offset points", color=style.color)
        else:
            slope = slopes_of(times[shown], loss[shown])
            slopes.plot(times[shown], slope, **lines, markevery=[-1], linewidth=1 if name == CONSTANT else 1.5)
    for level in set(predict(problem).values()):
        slopes.axhline(level, color=PREDICTED, linewidth=1, linestyle=":", zorder=0)
    falling.set(xscale="log", yscale="log", xlabel="iteration", ylabel="loss")
    falling.set_title(f"α = {problem.alpha:g}, β = {problem.beta:g}, d = {problem.d:,}", fontsize=10)
    slopes.set(xscale="log", xlabel="iteration", xlim=(100, None), ylim=(0, 1.25 * predict(problem)[FIXED]))
    slopes.set_title("its exponent, −d log loss / d log t\n(dotted: predicted)", fontsize=10)


def draw_exponents(axes: Axes, measured: Mapping[Problem, Measured]) -> None:
    """The exponents of all methods on all problems without projection, beside the predicted ones."""
    problems = [problem for problem in measured if not problem.projected][:3]
    for i, (problem, marker, color) in enumerate(zip(problems, "osD", ("black", "0.35", "0.6"), strict=True)):
        found = summarize(problem, measured[problem])["methods"]
        for at, name in enumerate(METHODS):
            x = at + 0.22 * (i - 1)
            if "exponent" in found[name]:
                value, low, high = found[name]["exponent"]
                axes.plot([x - 0.1, x + 0.1], [found[name]["predicted"]] * 2, color=PREDICTED, linewidth=2)
                bars: dict[str, Any] = {
                    "color": color,
                    "marker": marker,
                    "markersize": 5,
                    "capsize": 2,
                    "linestyle": "none",
                }
                label = f"α = {problem.alpha:g}, β = {problem.beta:g}" if name == SGD else None
                axes.errorbar([x], [value], [[value - low], [high - value]], **bars, label=label)
            elif i == 1:
                axes.annotate("diverges", (x, 1), ha="center", rotation=90, fontsize=9)
    axes.plot([], [], color=PREDICTED, linewidth=2, label="predicted")
    names = [name.replace(", ", ",\n").replace("-c", "-\nc").replace("-d", "-\nd") for name in METHODS]
    axes.set_xticks(range(len(METHODS)), names, fontsize=8.5)
    axes.set_ylabel("exponent of the loss")
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

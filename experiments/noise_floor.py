"""Does momentum average the noise of gradients away, at the same effective learning rate? Does its closed form hold?

Finding: It depends on the step: momentum 0.9 leaves 99.5 % of the variance at αλ = 0.001 and 51.4 % of the variance at
αλ = 0.1. Var w of the heavy ball, over that of gradient descent at α/(1 − β), is 0.9952 (0.9948 to 0.9956; in closed
form 0.9953) at αλ = 0.001. So "momentum averages the noise away" is false there. At αλ = 0.1 the ratio is 0.5138
(0.5129 to 0.5148; in closed form 0.5135), and the sentence is half true. For Nesterov the ratios are 0.9881 (0.9877 to
0.9885; in closed form 0.9882) and 0.3218 (0.3214 to 0.3223; in closed form 0.3218). At the same learning rate, αλ =
0.1, the heavy ball has 9.77 times the variance of gradient descent (9.75 to 9.79). The closed forms hold: of 126
moments Var w, Var v and Cov(w, v) over 5,120 chains of 4,000 iterations, 120 lie in their 95 % intervals and 126 in
intervals that cover all at once with 95 %. None is farther off than 0.91 %, a covariance in units of √(Var w · Var v).
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure
from study import Study, rounded, run

import momentum_jax as mj
from momentum_jax._base.progress import show_progress
from momentum_jax.analysis import Interval, mean_interval, simultaneous_level, theory
from momentum_jax.analysis.noise import (
    Noise,
    heavy_ball_noise,
    heavy_ball_noise_ratio,
    nesterov_noise,
    nesterov_noise_ratio,
)
from momentum_jax.report import STYLES
from momentum_jax.tasks.landscapes import make_landscape

CURVATURE, SIGMA = 2.0, 3.0
# β and γλ of the settings in the finding: one with αλ ≪ 1 − β, one without.
SMALL, LARGE = (0.9, 0.01), (0.9, 1.0)


class Method(NamedTuple):
    """An optimizer and its closed forms."""

    optimizer: Callable[..., Any]
    rate: Callable[..., Array]
    noise: Callable[..., Noise]
    ratio: Callable[..., Array]


class Measured(NamedTuple):
    """Var w, Var v and Cov(w, v) of the chains of one setting, and the ratio of Var w to that of gradient descent."""

    a: float
    moments: Float[np.ndarray, "3 chains"]
    closed: Float[np.ndarray, "3"]
    ratio: Interval
    closed_ratio: float


# By method, momentum and γλ = αλ/(1 − β); gradient descent is the heavy ball with momentum 0.
BySetting = dict[tuple[str, float, float], Measured]

METHODS = {
    "heavy ball": Method(mj.momentum, theory.heavy_ball_rate, heavy_ball_noise, heavy_ball_noise_ratio),
    "Nesterov": Method(mj.nesterov, theory.nesterov_rate, nesterov_noise, nesterov_noise_ratio),
}


def study(arguments: argparse.Namespace) -> Study:
    momenta: tuple[float, ...] = (0.5, 0.9, 0.99)
    effective: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 1.8)
    kept, chains, batches = 4000, 64, 80
    if arguments.fast:
        momenta, effective, kept, chains, batches = (0.9,), (0.01, 0.1, 1.0), 50, 8, 1
    settings = np.array([(beta, gamma) for beta in (0.0, *momenta) for gamma in effective])
    with jax.enable_x64(True):
        measured, dropped = simulate(settings, kept, chains, batches)
        figure = draw(measured)
    numbers = summarize(measured, dropped, kept)
    return Study(figure, find(numbers), numbers)


def simulate(settings: Float[np.ndarray, "settings 2"], kept: int, chains: int, batches: int) -> tuple[BySetting, int]:
    """All settings of both methods, and the number of iterations that are dropped.

    The chains start at rest in the minimum, not from the distribution that is measured. So many iterations are dropped
    that at the slowest of the rates e^-10 of the start is left. All settings meet the same noise: ratios are paired.
    """
    measured = {}
    beta, gamma = settings.T
    a = gamma * (1 - beta)
    forms = {name: jax.jit(closed_forms, static_argnums=0)(method, a, beta) for name, method in METHODS.items()}
    dropped = math.ceil(10 / (1 - max(rates.max() for rates, *_ in forms.values())))
    keys = jax.random.split(jax.random.key(0), batches)
    for name, method in METHODS.items():
        program, parts = chain_moments(method.optimizer, name == "Nesterov", chains, dropped, kept), []
        with show_progress() as progress:
            for batch, key in enumerate(keys, start=1):
                parts.append(np.asarray(program(a / CURVATURE, beta, key)))
                progress(f"{name}, batches of {chains} chains", batch, batches, whole=batch / batches)
        moments = np.concatenate(parts, axis=-1)
        _, closed, closed_ratio = (np.asarray(form) for form in forms[name])
        for i, (momentum, effective) in enumerate(settings.tolist()):
            if momentum or name == "heavy ball":
                descent = moments[(beta == 0) & (gamma == effective)][0, 0]
                interval = ratio_interval(moments[i, 0], descent)
                measured[name, momentum, effective] = Measured(a[i], moments[i], closed[i], interval, closed_ratio[i])
    return measured, dropped


def closed_forms(method: Method, a: Array, beta: Array) -> tuple[Array, Array, Array]:
    noise = method.noise(a / CURVATURE, beta, CURVATURE, SIGMA**2)
    return method.rate(a, beta), jnp.stack(noise, axis=-1), method.ratio(a, beta)


def chain_moments(
    optimizer: Callable[..., Any], nesterov: bool, chains: int, dropped: int, kept: int
) -> Callable[..., Array]:
    """From α and β of the settings and a key to each chain's mean w², v² and w·v, as one program.

    Returns:
      [settings, 3, chains]; the means of w and v themselves are known to be 0.
    """
    bowl, start = make_landscape("quadratic", curvatures=(CURVATURE,)), np.zeros([chains, 1])

    def moments(alpha: Array, beta: Array, key: Key[Array, ""]) -> Float[Array, "3 chains"]:
        path = mj.trajectory(optimizer(alpha, beta), bowl, start, dropped + kept, noise=SIGMA, key=key)
        w = path.points[:, :, 0].T
        # A step is (1 + n)·v − n·v of the iteration before, with n = β of Nesterov and 0 of the heavy ball.
        n = beta if nesterov else jnp.zeros_like(beta)

        def velocity(v: Array, step: Array) -> tuple[Array, Array]:
            v = (step + n * v) / (1 + n)
            return v, v

        _, v = jax.lax.scan(velocity, jnp.zeros(chains), jnp.diff(w, axis=0))
        w, v = w[1 + dropped :], v[dropped:]
        return jnp.stack([jnp.mean(product, axis=0) for product in (w * w, v * v, w * v)])

    return jax.jit(jax.vmap(moments, in_axes=(0, 0, None)))


def ratio_interval(a: Float[np.ndarray, " chains"], b: Float[np.ndarray, " chains"]) -> Interval:
    """Of the ratio of two means over the same chains: a/b to first order is linear in each chain's two numbers."""
    ratio = a.mean() / b.mean()
    return mean_interval(ratio + (a - ratio * b) / b.mean())


def summarize(measured: BySetting, dropped: int, kept: int) -> dict[str, Any]:
    """The numbers that the finding is made of."""
    estimates = [pair for of in measured.values() for pair in zip(of.moments, of.closed, strict=True)]
    alone, together = (
        sum(covers(mean_interval(chains, level), closed) for chains, closed in estimates)
        for level in (0.95, simultaneous_level(0.95, len(estimates)))
    )
    large = measured["heavy ball", *LARGE]
    # At the same α: gradient descent's γ is this α.
    same = ratio_interval(large.moments[0], measured["heavy ball", 0.0, round(large.a, 6)].moments[0])
    return {
        "chains": len(estimates[0][0]),
        "iterations dropped": dropped,
        "iterations kept": kept,
        "closed forms within 95 %": alone,
        "within intervals that cover all at once": together,
        "of": len(estimates),
        "farthest off": max(
            np.abs((of.moments.mean(axis=-1) - of.closed) / scales(of.closed)).max() for of in measured.values()
        ),
        "same α": rounded(same, 6),
        "ratios": [
            {
                "method": name,
                "β": beta,
                "αλ": round(of.a, 6),
                "measured": rounded(of.ratio, 6),
                "closed": of.closed_ratio,
            }
            for (name, beta, _), of in measured.items()
            if beta
        ],
    }


def find(numbers: Mapping[str, Any]) -> str:
    """The finding, from the numbers of `summarize`."""
    ratios = {(entry["method"], entry["β"], entry["αλ"]): entry for entry in numbers["ratios"]}
    (beta, _), small, large = SMALL, *(round((1 - beta) * effective, 6) for beta, effective in (SMALL, LARGE))
    ball, nesterov = ([ratios[method, beta, a] for a in (small, large)] for method in METHODS)
    answers = [verdict(entry["measured"]) for entry in ball]
    left = [f"{100 * entry['measured'][0]:.3g} % of the variance at αλ = {entry['αλ']:g}" for entry in ball]
    same, low, high = numbers["same α"]
    hold = numbers["within intervals that cover all at once"] == numbers["of"]
    return (
        f"{'It depends on the step' if len(set(answers)) > 1 else 'It is the same at all steps'}: momentum {beta:g} "
        f"leaves {' and '.join(left)}. Var w of the heavy ball, over that of gradient descent at α/(1 − β), is "
        f'{ratio(ball[0])} at αλ = {small:.3g}. So "momentum averages the noise away" is {answers[0]} there. At αλ = '
        f"{large:.3g} the ratio is {ratio(ball[1])}, and the sentence is {answers[1]}. For Nesterov the ratios are "
        f"{' and '.join(map(ratio, nesterov))}. At the same learning rate, αλ = {large:.3g}, the heavy ball has "
        f"{same:.2f} times the variance of gradient descent ({low:.2f} to {high:.2f}). "
        f"{'The closed forms hold' if hold else 'Not all closed forms hold'}: of {numbers['of']} moments Var w, Var v "
        f"and Cov(w, v) over {numbers['chains']:,} chains of {numbers['iterations kept']:,} iterations, "
        f"{numbers['closed forms within 95 %']} lie in their 95 % intervals and "
        f"{numbers['within intervals that cover all at once']} in intervals that cover all at once with 95 %. None is "
        f"farther off than {100 * numbers['farthest off']:.2g} %, a covariance in units of √(Var w · Var v)."
    )


def scales(closed: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """The unit of a variance is itself, that of a covariance the geometric mean of its variances."""
    return np.array([*closed[:2], math.sqrt(closed[0] * closed[1])])


def verdict(measured: Sequence[float]) -> str:
    """Whether "averages the noise away" is true, by a ratio of variances and its interval.

    "true": less than a tenth of the variance is left. "false": more than nine tenths. "half true": in between.
    """
    _, low, high = measured
    answers = {"false": low > 0.9, "true": high < 0.1, "half true": 0.1 < low < high < 0.9}
    return next((answer for answer, holds in answers.items() if holds), "undecided")


def ratio(entry: Mapping[str, Any]) -> str:
    value, low, high = entry["measured"]
    return f"{value:.4f} ({low:.4f} to {high:.4f}; in closed form {entry['closed']:.4f})"


def covers(interval: Interval, value: float) -> bool:
    return bool(interval.low <= value <= interval.high)


def draw(measured: BySetting) -> Figure:
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[3, 1])
    momenta = sorted({beta for _, beta, _ in measured} - {0.0})
    for (name, method), (above, below) in zip(METHODS.items(), axes.T, strict=True):
        curve = jax.jit(method.ratio)
        for beta, style in zip(momenta, STYLES, strict=False):
            a = np.geomspace(0.005, 2, 200) * (1 - beta)
            above.plot(a, curve(a, np.full_like(a, beta)), color=style.color, lw=1)
            own = [of for (method_name, momentum, _), of in measured.items() if (method_name, momentum) == (name, beta)]
            a, closed = np.array([(of.a, of.closed_ratio) for of in own]).T
            value, low, high = np.array([of.ratio[:3] for of in own]).T
            bars = {"color": style.color, "marker": style.marker, "ls": "none", "ms": 4, "capsize": 3}
            above.errorbar(a, value, [value - low, high - value], label=f"β = {beta:g}", **bars)
            below.errorbar(a, 100 * (value / closed - 1), 100 * np.array([value - low, high - value]) / closed, **bars)
        above.set_title(name, fontsize=10)
        below.axhline(0, color="0.5", lw=1)
        below.set(xscale="log", xlabel="αλ")
    axes[0, 0].set_ylabel("Var w over that of gradient\ndescent at α/(1 − β)")
    axes[1, 0].set_ylabel("off the closed\nform (%)")
    axes[0, 1].legend(fontsize=8, title="lines: closed form", title_fontsize=8)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

"""Does momentum scale to larger batches than SGD on the noisy quadratic model, as published?

Finding: Yes: the critical batch size of tuned momentum is 49,838, 40.9 times SGD's 1,219; momentum 0.9 has 23,571. Of
four statements of the paper 3 hold here. That small batches gain nothing from momentum does not hold: with batches of 4
SGD needs 1,507,687 iterations, 1.00 times as many as momentum 0.9 and 1.15 times as many as momentum with 1 − β =
7e-06. That momentum scales perfectly up to larger batches holds: with batches of 2,097,152 SGD needs 6,723, momentum
0.9 363 and momentum with 1 − β = 0.05 167. That the best effective learning rate grows linearly with the batch size
while the scaling is perfect holds: its exponent is 0.98 for SGD and 0.99 for tuned momentum. That momentum raises the
loss that noise leaves by about 1/(1 − β) at the same learning rate holds: β = 0.9 raises it 9.99 times. At the critical
batch size the target takes 2 times as many examples as with the smallest batches.

The model is that of Zhang et al., arXiv:1907.04164: 10,000 directions with the curvatures h = 1/i, gradient noise of
variance h/B, a start from N(0, I), constant learning rates, and the iterations until the expected loss ½ Σ h E[w²] is
0.01. The authors' code tunes SGD with these settings and batches of 4 to 2²¹. It groups the curvatures in 100 bins,
each with the lowest of its bin, and counts one iteration less. Its grids have 100 rates from 10⁻⁵ to 3.2 for SGD, and
100 rates from 10⁻⁸ to 10 with 20 momenta from 0 to 0.99999. Here there are 200 rates up to the limit of stability for
each of 37 momenta up to 0.999999. The paper draws the iterations as curves; its statements are tested here, not its
curves.

Nothing here is random: `steps_to_target` has the second moments in closed form.
"""

import argparse
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from log_time_momentum import Features, power_law
from matplotlib.figure import Figure
from study import Study, run

from momentum_jax._base.machine import cores
from momentum_jax._base.progress import show_progress
from momentum_jax.analysis.noise import heavy_ball_noise
from momentum_jax.analysis.theory import heavy_ball_matrix, heavy_ball_stability_limit
from momentum_jax.report import STYLES

TARGET = 0.01
# Iterations are counted up to 2 to this power.
BITS = 25
SGD, FIXED, TUNED = "SGD", "momentum 0.9", "tuned momentum"
# The effective learning rates that are tried, and the highest learning rate as a part of the limit of stability.
LOWEST, HIGHEST, BELOW = 2e-3, 500.0, 0.999
# A batch size is critical where it takes so many times as many examples to the target as the smallest batches do.
CRITICAL = 2.0
# Up to so many times as many examples the scaling is called perfect, and the growth of the best rate is measured.
PERFECT = 1.25
# The paper's statements hold if steps, exponents and floors are within these of what it states.
SAME_STEPS, LINEAR, SAME_FLOOR = 0.02, 0.05, 0.05


class Design(NamedTuple):
    """The directions of the model, the batch sizes as powers of 2, and how many rates and momenta are tried.

    The momenta are 0 and those up to 0.999999 with 1 − β evenly spaced on a logarithmic scale, so many a decade.
    """

    directions: int
    powers: Sequence[int]
    rates: int
    momenta_per_decade: int

    @property
    def batches(self) -> Float[np.ndarray, " batches"]:
        return 2.0 ** np.array(self.powers)

    @property
    def momenta(self) -> Float[np.ndarray, " momenta"]:
        return 1 - np.geomspace(1, 1e-6, 6 * self.momenta_per_decade + 1)


FULL = Design(directions=10_000, powers=range(2, 22), rates=200, momenta_per_decade=6)
FAST = Design(directions=100, powers=range(2, 12, 3), rates=20, momenta_per_decade=1)


class Best(NamedTuple):
    """The fewest iterations to the target with a batch size, and the hyperparameters that need them."""

    batch: int
    steps: int
    learning_rate: float
    momentum: float

    @property
    def effective_rate(self) -> float:
        return self.learning_rate / (1 - self.momentum)


def study(arguments: argparse.Namespace) -> Study:
    design = FAST if arguments.fast else FULL
    curves = measure(design)
    numbers = {
        "design": {**design._asdict(), "powers": list(design.powers)},
        "curves": {name: [best._asdict() for best in curve] for name, curve in curves.items()},
        "critical": {name: round(critical(curve)) for name, curve in curves.items()},
        "exponent": {name: round(growth(curve), 3) for name, curve in curves.items()},
        "floor": round(floor_ratio(curves[SGD][0].learning_rate, 0.9, design.directions), 3),
    }
    return Study(draw(curves, numbers), find(numbers), numbers)


def measure(design: Design) -> dict[str, list[Best]]:
    """The best of each method for all batch sizes.

    The search groups directions of similar curvature. The iterations of the best are those of all directions.
    """
    momenta, batches = design.momenta, design.batches
    grouped, alone = (power_law(0.5, 0.0, design.directions, alone=n) for n in (24, design.directions))
    rates = [rates_of(momentum, design.rates) for momentum in momenta]
    tried = []
    # A program is mostly on one core; those of several momenta run beside each other.
    with show_progress() as progress, ThreadPoolExecutor(cores()) as pool:
        found = pool.map(functools.partial(counted, batches=batches, features=grouped), rates, momenta)
        for done, steps in enumerate(found, start=1):
            tried.append(steps)
            progress("momenta", done, len(momenta), whole=done / len(momenta))
    steps = np.array(tried)

    def best(batch: int, allowed: np.ndarray) -> Best:
        momentum, rate = np.unravel_index(
            np.where(allowed[:, None], steps[:, batch], np.inf).argmin(), steps[:, 0].shape
        )
        chosen = rates[momentum][rate], momenta[momentum]
        (exact,) = counted(chosen[0][None], chosen[1], batches=batches[batch][None], features=alone).ravel()
        return Best(int(batches[batch]), int(exact), float(chosen[0]), float(chosen[1]))

    methods = {SGD: momenta == 0, FIXED: np.isclose(momenta, 0.9), TUNED: momenta >= 0}
    return {name: [best(batch, allowed) for batch in range(len(batches))] for name, allowed in methods.items()}


def rates_of(momentum: float, count: int) -> Float[np.ndarray, " rates"]:
    """The learning rates that are tried; the largest curvature is 1."""
    limit = BELOW * float(heavy_ball_stability_limit(momentum))
    return np.geomspace(LOWEST * (1 - momentum), min(HIGHEST * (1 - momentum), limit), count)


def counted(
    rates: Float[np.ndarray, " rates"], momentum: float, *, batches: Float[np.ndarray, " batches"], features: Features
) -> Float[np.ndarray, "batches rates"]:
    """`steps_to_target` in float64."""
    # The setting is one of this thread.
    with jax.enable_x64(True):
        return np.asarray(steps_to_target(rates, momentum, batches, features))


@jax.jit
def steps_to_target(
    rates: Float[Array, " rates"], momentum: float, batches: Float[Array, " batches"], features: Features
) -> Float[Array, "batches rates"]:
    r"""The iterations of the heavy ball until its expected loss is at most the target, or 2²⁵ if it never is.

    With the matrix A of an iteration on (w, v), and the stationary moments S of noise of variance h, in k iterations

    .. math::
      E[w^2] = (A^k)_{11}^2 + \frac{1}{B} \big(S - A^k S (A^k)^T\big)_{11}

    Powers of 2 of A, from the highest down, are multiplied into A^k while the loss is above the target. This finds the
    first such iteration if the loss does not come back above the target. If it oscillates about it, with batches above
    8,000, the search finds one of the crossings, up to 4 % after the first; so does the authors' bisection.

    Args:
      rates: α.
      momentum: β.
      batches: B.
      features: the curvatures as variances, and how often each occurs.
    """
    alpha, h = rates[:, None], jnp.asarray(features.variance)[None]
    once = heavy_ball_matrix(alpha * h, momentum)
    noise = heavy_ball_noise(alpha, momentum, h, h)
    moments = jnp.array([[noise.var_w, noise.cov_wv], [noise.cov_wv, noise.var_v]])
    _, powers = jax.lax.scan(lambda power, _: (power @ power, power), once, length=BITS)

    def loss(power: Float[Array, "rates groups 2 2"], batch: Float[Array, ""]) -> Float[Array, " rates"]:
        first = power[..., 0, :]
        forgotten = jnp.einsum("rgi,ijrg,rgj->rg", first, moments, first)
        squares = first[..., 0] ** 2 + (noise.var_w - forgotten) / batch
        summed: Array = 0.5 * squares @ (features.size * features.variance)
        return summed

    def steps_of(batch: Float[Array, ""]) -> Float[Array, " rates"]:
        def descend(carry: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            power, steps = carry
            factor, iterations = step
            further = factor @ power
            # Where a run diverges the loss is infinite or NaN.
            above = ~(loss(further, batch) <= TARGET)
            return (
                jnp.where(above[:, None, None, None], further, power),
                jnp.where(above, steps + iterations, steps),
            ), None

        start = jnp.broadcast_to(jnp.eye(2), once.shape), jnp.zeros(len(rates))
        (_, steps), _ = jax.lax.scan(descend, start, (powers, 2.0 ** jnp.arange(BITS, dtype=float)), reverse=True)
        return steps + 1

    return jax.vmap(steps_of)(batches)


def examples_of(curve: Sequence[Best]) -> Float[np.ndarray, " batches"]:
    """The examples to the target, as multiples of those with the smallest batches."""
    examples = np.array([best.batch * best.steps for best in curve], float)
    return np.asarray(examples / examples[0])


def critical(curve: Sequence[Best]) -> float:
    """The critical batch size, between those tried on logarithmic scales; at most the largest of them."""
    examples = np.maximum.accumulate(examples_of(curve))
    return float(np.exp(np.interp(np.log(CRITICAL), np.log(examples), np.log([best.batch for best in curve]))))


def growth(curve: Sequence[Best]) -> float:
    """The exponent of the batch size with which the best effective learning rate grows while the scaling is perfect."""
    perfect = [best for best, examples in zip(curve, examples_of(curve), strict=True) if examples <= PERFECT]
    rates, batches = np.log([[best.effective_rate, best.batch] for best in perfect]).T
    return float(np.polyfit(batches, rates, 1)[0])


def floor_ratio(learning_rate: float, momentum: float, directions: int) -> float:
    """The loss that noise leaves with momentum, over that without, at the same learning rate."""
    h = 1 / np.arange(1, directions + 1)
    with jax.enable_x64(True):
        with_momentum, without = (
            float(h @ heavy_ball_noise(learning_rate, beta, h, h).var_w) for beta in (momentum, 0.0)
        )
    return with_momentum / without


def find(numbers: Mapping[str, Any]) -> str:
    """The finding, from the numbers of `study`."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = numbers["curves"]
    sgd, fixed, tuned = (curves[name] for name in (SGD, FIXED, TUNED))
    sizes, exponents, floor = numbers["critical"], numbers["exponent"], numbers["floor"]
    by_fixed, by_tuned = (sgd[0]["steps"] / of[0]["steps"] for of in (fixed, tuned))
    grows = [exponents[name] for name in (SGD, TUNED)]
    further = sizes[TUNED] > sizes[SGD]
    holds = [
        all(abs(ratio - 1) <= SAME_STEPS for ratio in (by_fixed, by_tuned)),
        further,
        all(abs(exponent - 1) <= LINEAR for exponent in grows),
        abs(floor / 10 - 1) <= SAME_FLOOR,
    ]
    said = ["holds" if held else "does not hold" for held in holds]
    return (
        f"{'Yes' if further else 'No'}: the critical batch size of tuned momentum is {sizes[TUNED]:,}, "
        f"{sizes[TUNED] / sizes[SGD]:.1f} times SGD's {sizes[SGD]:,}; momentum 0.9 has {sizes[FIXED]:,}. Of four "
        f"statements of the paper {sum(holds)} hold here. That small batches gain nothing from momentum {said[0]}: "
        f"with batches of {sgd[0]['batch']:,} SGD needs {sgd[0]['steps']:,} iterations, {by_fixed:.2f} times as many "
        f"as momentum 0.9 and {by_tuned:.2f} times as many as momentum with 1 − β = {1 - tuned[0]['momentum']:.1g}. "
        f"That momentum scales perfectly up to larger batches {said[1]}: with batches of {sgd[-1]['batch']:,} SGD "
        f"needs {sgd[-1]['steps']:,}, momentum 0.9 {fixed[-1]['steps']:,} and momentum with 1 − β = "
        f"{1 - tuned[-1]['momentum']:.1g} {tuned[-1]['steps']:,}. That the best effective learning rate grows linearly "
        f"with the batch size while the scaling is perfect {said[2]}: its exponent is {grows[0]:.2f} for SGD and "
        f"{grows[1]:.2f} for tuned momentum. That momentum raises the loss that noise leaves by about 1/(1 − β) at the "
        f"same learning rate {said[3]}: β = 0.9 raises it {floor:.2f} times. At the critical batch size the target "
        f"takes {CRITICAL:g} times as many examples as with the smallest batches."
    )


def draw(curves: Mapping[str, Sequence[Best]], numbers: Mapping[str, Any]) -> Figure:
    """The iterations to the target and the best effective learning rate, by batch size."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, curve), style in zip(curves.items(), STYLES, strict=False):
        batches = np.array([best.batch for best in curve])
        lines: dict[str, Any] = {"color": style.color, "linestyle": style.linestyle}
        left.plot(batches, [best.steps for best in curve], **lines, label=name)
        right.plot(batches, [best.effective_rate for best in curve], **lines)
        at = numbers["critical"][name]
        steps = np.exp(np.interp(np.log(at), np.log(batches), np.log([best.steps for best in curve])))
        left.plot([at], [steps], "o", color=style.color, markersize=6)
    first = curves[SGD][0]
    left.plot(batches, first.steps * first.batch / batches, ":", color="0.5", zorder=0, label="perfect scaling")
    right.plot(batches, first.effective_rate * batches / first.batch, ":", color="0.5", zorder=0)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="batch size")
    left.set_ylim(0.5 * min(best.steps for curve in curves.values() for best in curve), None)
    right.set_ylim(None, 3 * max(best.effective_rate for curve in curves.values() for best in curve))
    left.set_title(f"iterations to a loss of {TARGET:g}\n(dot: critical batch size)", fontsize=10)
    right.set_title("best effective learning rate α/(1 − β)\n(dotted: linear in the batch size)", fontsize=10)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()

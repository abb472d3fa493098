"""The training curves of a document, thinned to the numbers that a page can hold."""

import base64
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from momentum_jax.results.result import Result
from momentum_jax.results.stacked import OnDemand

# Limits on the size of a page: numbers in all curves of arms together, and points of one of them.
MOST_NUMBERS, MOST_POINTS, FEWEST_POINTS = 50_000, 500, 50
# The same for the curves of all trials, which are drawn faintly behind these.
MOST_TRIAL_NUMBERS, MOST_TRIAL_POINTS, FEWEST_TRIAL_POINTS = 120_000, 100, 20


def curves_part(
    losses: Mapping[tuple[str, str], Float[np.ndarray, "seeds recorded"]],
    iterations: Int[np.ndarray, " recorded"],
    unit: str,
) -> dict[str, Any]:
    """The loss of each run before its updates, and a note that says how the curves were thinned.

    Curves with too many points are replaced by means over blocks of iterations. If that is not enough, only the first
    runs of each optimizer are kept.

    Args:
      losses: by group (the title of the protocol) and label, those of finished runs.
      iterations: those that the histories hold.
      unit: of the losses; "" if it is not known.
    """
    seeds = max(map(len, losses.values()))
    # The iterations of a curve take as much space as one run.
    points = _points(len(iterations), MOST_NUMBERS // ((seeds + 1) * len(losses)), FEWEST_POINTS, MOST_POINTS)
    most_runs = max(1, MOST_NUMBERS // (points * len(losses)))
    starts = _starts(len(iterations), points)
    curves = [
        {
            "label": label,
            "group": group,
            "iterations": iterations[starts].tolist(),
            "values": _encoded(_means(own[:most_runs], starts), "<f4"),
            "unit": unit,
        }
        for (group, label), own in losses.items()
    ]
    note = "The loss on each batch before its update: the median over runs, and the band from their 10th to their 90th "
    note += "percentile."
    if len(starts) < len(iterations):
        note += f" Each point is the mean of {starts[1]} recorded iterations."
    if most_runs < seeds:
        note += f" Of {seeds} runs of each optimizer the first {most_runs} are drawn."
    return {"curves": curves, "curves_note": note}


class TrialCurves(NamedTuple):
    """What one pass over the histories of a sweep gives.

    Attributes:
      iterations: the middle of each block of iterations.
      means: by label, float32 [trials, seeds, points], the mean loss in each block; +∞ where a loss is not finite.
      whole: by label, float [seeds, recorded], the losses of the trial that was asked for; NaN where runs are missing.
    """

    iterations: Int[np.ndarray, " points"]
    means: dict[str, Float[np.ndarray, "trials seeds points"]]
    whole: dict[str, Float[np.ndarray, "seeds recorded"]]


def read_trial_curves(result: Result, positions: Mapping[str, int]) -> TrialCurves:
    """Reads the histories of a sweep once, run by run, and keeps only their means over blocks of iterations.

    Args:
      result: of a sweep.
      positions: by label, the trial whose losses are kept whole.
    """
    count = sum(int((~missing).any(axis=1).sum()) for missing in result.missing.values())
    recorded = len(result.iterations)
    points = _points(recorded, MOST_TRIAL_NUMBERS // max(count, 1), FEWEST_TRIAL_POINTS, MOST_TRIAL_POINTS)
    starts = _starts(recorded, points)
    means = {label: np.empty((*own.shape, len(starts)), np.float32) for label, own in result.missing.items()}
    seeds = len(result.config.seed_tuple)
    whole = {label: np.full((seeds, recorded), np.nan) for label in positions}
    for label, (trial, seed), losses in _each_history(result):
        means[label][trial, seed] = _means(losses[None], starts)
        if positions.get(label) == trial:
            whole[label][seed] = losses
    return TrialCurves(result.iterations[(starts + np.append(starts[1:], recorded) - 1) // 2], means, whole)


def _each_history(result: Result) -> Iterator[tuple[str, tuple[int, int], Float[np.ndarray, " recorded"]]]:
    if isinstance(result.losses_before, OnDemand):
        yield from result.losses_before.each()
        return
    for label, missing in result.missing.items():
        for trial, seed in np.argwhere(~missing).tolist():
            yield label, (trial, seed), result.losses_before[label][trial, seed]


def trial_curves_part(result: Result, curves: TrialCurves, group: str) -> dict[str, Any]:
    """The curves of all trials of a sweep, each the median over its finished runs, in half precision.

    If they are too many, they are evenly spaced trials of each optimizer.

    Args:
      result: of a sweep.
      curves: of its runs.
      group: of the curves of `curves_part` behind which these are drawn.
    """
    there = {label: np.flatnonzero((~missing).any(axis=1)) for label, missing in result.missing.items()}
    # One trial has no others to be drawn behind.
    there = {label: positions for label, positions in there.items() if len(positions) > 1}
    count = sum(map(len, there.values()))
    every = max(1, math.ceil(count * len(curves.iterations) / MOST_TRIAL_NUMBERS))
    drawn = []
    for label, positions in there.items():
        finished = ~result.missing[label]
        medians = [np.median(curves.means[label][i, finished[i]], axis=0) for i in positions[::every]]
        drawn.append({"label": label, "group": group, "values": _encoded(np.stack(medians), jnp.bfloat16)})
    which = "all" if every == 1 else f"one in {every} of the"
    note = f"Faint lines are {which} {count} trials, each the median of its runs."
    return {
        "trial_curves": drawn,
        "trial_curves_iterations": curves.iterations.tolist(),
        "trial_curves_note": note if drawn else "",
    }


def _points(recorded: int, affordable: int, fewest: int, most: int) -> int:
    return min(recorded, max(min(affordable, most), fewest))


def _starts(recorded: int, points: int) -> Int[np.ndarray, " points"]:
    """The first positions of at most so many blocks of equal length; the last block may be shorter."""
    return np.arange(0, recorded, math.ceil(recorded / points))


def _means(losses: Float[np.ndarray, "runs recorded"], starts: Int[np.ndarray, " points"]) -> np.ndarray:
    """The means over blocks of iterations; +∞ where a loss is not finite."""
    sizes = np.diff([*starts, losses.shape[1]])
    with np.errstate(over="ignore", invalid="ignore"):
        means = np.add.reduceat(losses.astype(np.float64), starts, axis=1) / sizes
        # A loss in float64 may be too large for float32.
        means = means.astype(np.float32)
    return np.where(np.isfinite(means), means, np.float32(np.inf))


def _encoded(values: np.ndarray, dtype: Any) -> dict[str, Any]:
    """Numbers in binary, little-endian: float32, or bfloat16, which is the upper half of a float32."""
    numbers = values.astype(dtype)
    return {
        "shape": list(values.shape),
        "bytes": numbers.dtype.itemsize,
        "base64": base64.b64encode(numbers.tobytes()).decode(),
    }

"""The training curves of a document, thinned to the numbers that a page can hold."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from momentum_jax.comparison.arms import Arm

# Limits on the size of a page: numbers in all curves together, and points of one curve.
MOST_NUMBERS, MOST_POINTS, FEWEST_POINTS = 100_000, 500, 50


def curves_part(arms: Mapping[tuple[str, str], Arm], iterations: Int[np.ndarray, " recorded"]) -> dict[str, Any]:
    """The loss of each run before its updates, and a note that says how the curves were thinned.

    Curves with too many points are replaced by means over blocks of iterations. If that is not enough, only the first
    runs of each arm are kept.

    Args:
      arms: by group (the title of the protocol) and label.
      iterations: those that the histories hold.
    """
    seeds = max(len(arm.seeds) for arm in arms.values())
    wanted = len(iterations) if len(iterations) <= MOST_POINTS else MOST_POINTS
    points = max(min(wanted, MOST_NUMBERS // max(seeds * len(arms), 1)), min(wanted, FEWEST_POINTS))
    most_runs = max(1, MOST_NUMBERS // (points * len(arms)))
    # The first iterations of blocks of equal length; the last block may be shorter.
    starts = np.arange(0, len(iterations), math.ceil(len(iterations) / points))
    curves = []
    for (group, label), arm in arms.items():
        sizes = np.diff([*starts, len(iterations)])
        with np.errstate(over="ignore", invalid="ignore"):
            means = np.add.reduceat(arm.losses_before[:most_runs].astype(np.float64), starts, axis=1) / sizes
        curves.append(
            {
                "label": label,
                "group": group,
                "iterations": iterations[starts].tolist(),
                "values": {
                    "shape": list(means.shape),
                    "base64": base64.b64encode(means.astype("<f4").tobytes()).decode(),
                },
                "unit": "nats",
            }
        )
    note = "The loss on each batch before its update: the median over runs, and the band from their 10th to their 90th "
    note += "percentile."
    if len(starts) < len(iterations):
        note += f" Each point is the mean of {int(np.diff(starts[:2])[0])} recorded iterations."
    if most_runs < seeds:
        note += f" Of {seeds} runs of each optimizer the first {most_runs} are drawn."
    return {"curves": curves, "curves_note": note}

"""What a sweep or a tuning shows of its trials: heatmaps, sensitivity to the learning rate, value of the budget."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from momentum_jax.analysis import expected_best, median_of_trials, tolerated_range
from momentum_jax.report.document.numbers import json_number
from momentum_jax.results.result import Result
from momentum_jax.results.tables import text_of, varying_hyperparameters

# A heatmap has these axes if they vary.
_AXES = ("learning_rate", "momentum")
_TOLERATED = 1.1


def trials_part(result: Result, losses: Mapping[str, Float[np.ndarray, "trials seeds"]], what: str) -> dict[str, Any]:
    """Heatmaps, sensitivity to the learning rate and the expected best of a number of trials, per optimizer.

    Args:
      result: of a sweep.
      losses: by label; less is better.
      what: the name of that loss, with its unit.
    """
    assert result.trials is not None
    title = what[0].upper() + what[1:]
    heatmaps, sensitivity, budget, sensitivity_note = [], [], [], ""
    for label, trials in result.trials.items():
        medians = median_of_trials(losses[label], result.failed[label], result.missing[label])
        finished = np.asarray((~result.missing[label]).any(axis=1))
        if not finished.any():
            continue
        varying = {
            name: values
            for name, values in varying_hyperparameters(trials).items()
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        }
        axes = [*(name for name in _AXES if name in varying), *(name for name in varying if name not in _AXES)]
        if len(axes) >= 2:
            coordinates = {name: [float(value) for value in varying[name]] for name in axes[:2]}
            heatmaps.append(_heatmap(label, coordinates, medians, finished, result.failed[label].sum(axis=1)))
        if "learning_rate" in varying:
            curve = _sensitivity(label, varying["learning_rate"], losses[label], medians, finished, len(varying) - 1)
            sensitivity.append(curve)
            sensitivity_note += _tolerated(curve) if curve["joined"] else ""
        budget.append(_budget(label, medians[finished]))
    return {
        "heatmaps": heatmaps,
        "heatmaps_title": title,
        "sensitivity": sensitivity,
        "sensitivity_title": f"{title} against the learning rate",
        "sensitivity_note": sensitivity_note,
        "budget": budget,
        "budget_title": f"Expected best {what} of a number of trials",
        "budget_note": "The mean over all choices of that many trials. It is exact for a random search; for a grid or "
        "a Sobol sequence it is that of a random subsample. The line begins where every choice has a trial that did "
        "not fail.",
    }


def _heatmap(
    label: str,
    coordinates: Mapping[str, Sequence[float]],
    medians: Float[np.ndarray, " trials"],
    finished: Bool[np.ndarray, " trials"],
    failed: Int[np.ndarray, " trials"],
) -> dict[str, Any]:
    """A matrix if the trials fill a grid, otherwise points. Of trials at one point the best is shown."""
    (x_name, x), (y_name, y) = coordinates.items()
    best: dict[tuple[float, float], int] = {}
    for i in np.argsort(medians, kind="stable").tolist():
        if finished[i]:
            best.setdefault((x[i], y[i]), i)
    xs, ys = sorted(set(x)), sorted(set(y))
    first = next(iter(best))
    heatmap: dict[str, Any] = {
        "label": label,
        "x": {"name": x_name, "values": xs, "log": _is_log(x_name, xs)},
        "y": {"name": y_name, "values": ys, "log": _is_log(y_name, ys)},
        "effective": (x_name, y_name) == _AXES,
        "best": list(first),
    }
    if 2 * len(set(zip(x, y, strict=True))) <= len(xs) * len(ys):
        chosen = best.values()
        return heatmap | {
            "points": {
                "x": [x[i] for i in chosen],
                "y": [y[i] for i in chosen],
                "z": [json_number(medians[i]) for i in chosen],
                "failed": [int(failed[i]) for i in chosen],
            }
        }
    grid = [[best.get((column, row)) for column in xs] for row in ys]
    return heatmap | {
        "z": [[None if i is None else json_number(medians[i]) for i in row] for row in grid],
        "failed": [[0 if i is None else int(failed[i]) for i in row] for row in grid],
    }


def _is_log(name: str, values: Sequence[float]) -> bool:
    return name != "momentum" and min(values) > 0 and max(values) / min(values) > 10


def _sensitivity(
    label: str,
    rates: Sequence[float],
    losses: Float[np.ndarray, "trials seeds"],
    medians: Float[np.ndarray, " trials"],
    finished: Bool[np.ndarray, " trials"],
    others: int,
) -> dict[str, Any]:
    """For each learning rate the best of its trials, with the range over the seeds.

    Args:
      label: of the optimizer.
      rates: the learning rate of each trial.
      losses: of each run.
      medians: of each trial.
      finished: which trials have finished runs.
      others: how many hyperparameters vary besides the learning rate.
    """
    best: dict[float, int] = {}
    for i in np.flatnonzero(finished).tolist():
        rate = float(rates[i])
        if rate not in best or medians[i] < medians[best[rate]]:
            best[rate] = i
    chosen = [best[rate] for rate in sorted(best)]
    return {
        "label": label,
        "rates": sorted(best),
        "losses": [json_number(medians[i]) for i in chosen],
        # Trials that all have rates of their own differ in more than the rate: a line would join unlike trials.
        "joined": others == 0 or len(best) < int(finished.sum()),
        "low": [json_number(np.nanmin(losses[i])) if np.isfinite(medians[i]) else None for i in chosen],
        "high": [json_number(np.nanmax(losses[i])) if np.isfinite(medians[i]) else None for i in chosen],
    }


def _tolerated(curve: Mapping[str, Any]) -> str:
    """A sentence on how far the learning rate can be from its best; empty if that cannot be said."""
    losses = np.asarray([math.inf if loss == "inf" else loss for loss in curve["losses"]])
    if min(curve["rates"]) <= 0 or min(losses) < 0:
        # Neither a percentage of a negative loss nor decades from 0 mean anything.
        return ""
    low, high = tolerated_range(np.asarray(curve["rates"]), losses, _TOLERATED)
    if math.isnan(low):
        return ""
    return (
        f"{curve['label']}: within {100 * (_TOLERATED - 1):.0f} % of its best from {text_of(low)} to {text_of(high)}, "
        f"{math.log10(high / low):.1f} decades. "
    )


def _budget(label: str, medians: Float[np.ndarray, " trials"]) -> dict[str, Any]:
    budgets = np.arange(1, len(medians) + 1)
    best = expected_best(medians, budgets)
    return {
        "label": label,
        "trials": budgets.tolist(),
        "best": [json_number(b) if np.isfinite(b) else None for b in best],
    }

"""What a sweep or a tuning shows of its trials: heatmaps, parallel coordinates, sensitivity, value of the budget."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from momentum_jax._base.display import clip
from momentum_jax.analysis import expected_best, median_of_trials, tolerated_range
from momentum_jax.comparison.wording import SpaceTexts, open_ends
from momentum_jax.report.document.numbers import evenly, json_number, short_number
from momentum_jax.report.document.parallel import parallel_of
from momentum_jax.report.drawing import is_log
from momentum_jax.results.result import Result
from momentum_jax.results.tables import LEADING, in_words, numeric_of, text_of, varying_hyperparameters
from momentum_jax.space import Trial

# Limits on the size of a page: points of all optimizers in one figure, of one optimizer, and the fewest of one.
MOST_POINTS, MOST_OF_ONE, FEWEST_OF_ONE = 1200, 600, 40
# The sentences under a figure speak of so many optimizers, with names of so many columns; its table has all.
_SPOKEN_OF, _LONGEST_NAME = 4, 40
_TOLERATED = 1.1


def trials_part(
    result: Result,
    losses: Mapping[str, Float[np.ndarray, "trials seeds"]],
    what: str,
    space: SpaceTexts | None = None,
) -> dict[str, Any]:
    """Heatmaps, parallel coordinates, sensitivity to the learning rate and the expected best of a number of trials.

    Args:
      result: of a sweep.
      losses: by label; less is better.
      what: the name of that loss, with its unit.
      space: what was searched, or None if it is not known.
    """
    assert result.trials is not None
    title = what[0].upper() + what[1:]
    most = max(min(MOST_POINTS // len(result.trials), MOST_OF_ONE), FEWEST_OF_ONE)
    heatmaps, parallel, sensitivity, budget = [], [], [], []
    for label, trials in result.trials.items():
        medians = median_of_trials(losses[label], result.failed[label], result.missing[label])
        finished = np.asarray((~result.missing[label]).any(axis=1))
        if not finished.any():
            continue
        failed = result.failed[label].sum(axis=1)
        varying = varying_hyperparameters(trials)
        numeric = numeric_of(varying)
        if len(numeric) >= 2:
            coordinates = dict(itertools.islice(numeric.items(), 2))
            own = None if space is None else space[label]
            heatmaps.append(_heatmap(label, coordinates, medians, finished, failed, trials, own, most))
        if len(varying) >= 2:
            parallel.append(parallel_of(label, varying, medians, finished, failed, most))
        if "learning_rate" in numeric:
            rates, others = numeric["learning_rate"], len(varying) - 1
            sensitivity.append(_sensitivity(label, rates, losses[label], medians, finished, others, most // 4))
        if finished.sum() > 1:
            budget.append(_budget(label, medians[finished], most // 4))
    return {
        "heatmaps": heatmaps,
        "heatmaps_title": title,
        "parallel": parallel,
        "parallel_title": title,
        "sensitivity": sensitivity,
        "sensitivity_title": f"{title} against the learning rate",
        "sensitivity_note": _sensitivity_note(sensitivity),
        "budget": budget,
        "budget_title": f"Expected best {what} of a number of trials",
        "budget_note": "The mean over all choices of that many trials. It is exact for a random search; for a grid or "
        "a Sobol sequence it is that of a random subsample.",
    }


def _heatmap(
    label: str,
    coordinates: Mapping[str, Sequence[float]],
    medians: Float[np.ndarray, " trials"],
    finished: Bool[np.ndarray, " trials"],
    failed: Int[np.ndarray, " trials"],
    trials: Sequence[Trial],
    space: Mapping[str, str] | None,
    most: int,
) -> dict[str, Any]:
    """A matrix if the trials fill a grid, otherwise points. Of trials at one point the best is shown."""
    (x_name, x), (y_name, y) = coordinates.items()
    best: dict[tuple[float, float], int] = {}
    for i in np.argsort(medians, kind="stable").tolist():
        if finished[i]:
            best.setdefault((x[i], y[i]), i)
    xs, ys = sorted(set(x)), sorted(set(y))
    first = next(iter(best.values()))
    ends = open_ends(trials, first, space) if np.isfinite(medians[first]) else {}
    heatmap: dict[str, Any] = {
        "label": label,
        "effective": (x_name, y_name) == LEADING,
        "best": [x[first], y[first]] if np.isfinite(medians[first]) else None,
        # The axes on which the best trial lies at an end beyond which there is something to try.
        "edges": [{"name": in_words(name), "end": ends[name][0]} for name in coordinates if name in ends],
    }
    axes = {
        "x": {"name": in_words(x_name), "log": is_log(x_name, xs)},
        "y": {"name": in_words(y_name), "log": is_log(y_name, ys)},
    }
    if 2 * len(set(zip(x, y, strict=True))) <= len(xs) * len(ys):
        chosen = [list(best.values())[i] for i in evenly(len(best), most)]
        return (
            heatmap
            | axes
            | {
                "points": {
                    "x": [short_number(x[i]) for i in chosen],
                    "y": [short_number(y[i]) for i in chosen],
                    "z": [short_number(medians[i]) for i in chosen],
                    "failed": [int(failed[i]) for i in chosen],
                },
                "left_out": len(best) - len(chosen),
            }
        )
    grid = [[best.get((column, row)) for column in xs] for row in ys]
    axes["x"]["values"], axes["y"]["values"] = xs, ys
    return (
        heatmap
        | axes
        | {
            "z": [[None if i is None else json_number(medians[i]) for i in row] for row in grid],
            "failed": [[0 if i is None else int(failed[i]) for i in row] for row in grid],
        }
    )


def _sensitivity(
    label: str,
    rates: Sequence[float],
    losses: Float[np.ndarray, "trials seeds"],
    medians: Float[np.ndarray, " trials"],
    finished: Bool[np.ndarray, " trials"],
    others: int,
    most: int,
) -> dict[str, Any]:
    """For each learning rate the best of its trials, with the range over the seeds.

    Args:
      label: of the optimizer.
      rates: the learning rate of each trial.
      losses: of each run.
      medians: of each trial.
      finished: which trials have finished runs.
      others: how many hyperparameters vary besides the learning rate.
      most: how many rates are shown; of more, the best in each of so many intervals.
    """
    best: dict[float, int] = {}
    for i in np.flatnonzero(finished).tolist():
        if rates[i] not in best or medians[i] < medians[best[rates[i]]]:
            best[rates[i]] = i
    tried = sorted(best)
    intervals = np.array_split(np.asarray(tried), min(len(tried), max(most, 2)))
    shown = [min(interval.tolist(), key=lambda rate: medians[best[rate]]) for interval in intervals]
    chosen = [best[rate] for rate in shown]
    # Trials that all have rates of their own differ in more than the rate: a line would join unlike trials.
    joined = others == 0 or len(best) < int(finished.sum())
    return {
        "label": label,
        "rates": shown,
        "losses": [json_number(medians[i]) for i in chosen],
        "joined": joined,
        "low": [json_number(np.nanmin(losses[i])) if np.isfinite(medians[i]) else None for i in chosen],
        "high": [json_number(np.nanmax(losses[i])) if np.isfinite(medians[i]) else None for i in chosen],
        "left_out": len(tried) - len(shown),
        "sentence": _tolerated(label, tried, [medians[best[rate]] for rate in tried]) if joined else "",
    }


def _tolerated(label: str, rates: Sequence[float], losses: Sequence[float]) -> str:
    """A sentence on how far the learning rate can be from its best; empty if that cannot be said."""
    if len(rates) < 2 or min(rates) <= 0 or min(losses) < 0:
        # Neither a percentage of a negative loss nor a factor from 0 means anything.
        return ""
    low, high = tolerated_range(np.asarray(rates), np.asarray(losses), _TOLERATED)
    if math.isnan(low):
        return ""
    name, within = clip(label, _LONGEST_NAME), f"within {100 * (_TOLERATED - 1):.0f} % of its best"
    if low == high:
        return f"{name}: only {text_of(low)} of those tried comes {within}."
    edges = [end for end, rate in (("lowest", rates[0]), ("highest", rates[-1])) if rate in (low, high)]
    open_end = f" (the {' and the '.join(edges)} that was tried, so the range may be wider)" if edges else ""
    factor = f"{high / low:.2g}" if high / low < 10 else f"{high / low:.0f}"
    return f"{name}: {within} from {text_of(low)} to {text_of(high)}, a factor of {factor}{open_end}."


def _sensitivity_note(curves: Sequence[Mapping[str, Any]]) -> str:
    spoken = [curve["sentence"] for curve in curves if curve["sentence"]][:_SPOKEN_OF]
    if any(curve["left_out"] for curve in curves):
        spoken.append("Of neighbouring learning rates the best is shown, since there are too many to show all.")
    return " ".join(spoken)


def _budget(label: str, medians: Float[np.ndarray, " trials"], most: int) -> dict[str, Any]:
    count = len(medians)
    budgets = np.arange(1, count + 1)
    if count > most:
        budgets = np.unique(np.geomspace(1, count, most).round().astype(np.int64))
    return {
        "label": label,
        "trials": budgets.tolist(),
        "best": [json_number(best) for best in expected_best(medians, budgets)],
    }

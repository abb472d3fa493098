"""The trials of one optimizer as lines over parallel axes, one for each hyperparameter that varies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from momentum_jax._base.errors import is_number
from momentum_jax.report.document.numbers import evenly, short_number
from momentum_jax.report.drawing import is_log
from momentum_jax.results.tables import in_words, text_of


def parallel_of(
    label: str,
    varying: Mapping[str, Sequence[Any]],
    medians: Float[np.ndarray, " trials"],
    finished: Bool[np.ndarray, " trials"],
    failed: Int[np.ndarray, " trials"],
    most: int,
) -> dict[str, Any]:
    """The axes, and the loss of each finished trial, from the best to the worst.

    An axis of numbers has the value of each trial, or None where a trial has no such hyperparameter. Another one has
    `texts`, its categories, and for each trial the position of its category.

    Args:
      label: of the optimizer.
      varying: by name, the value of each trial.
      medians: the loss of each trial.
      finished: which trials have finished runs.
      failed: how many runs of each trial failed.
      most: how many trials are shown. Of more, these are evenly spaced by rank of their loss.
    """
    order = [i for i in np.argsort(medians, kind="stable").tolist() if finished[i]]
    shown = [order[position] for position in evenly(len(order), most)]
    return {
        "label": label,
        "axes": [_axis(name, [values[i] for i in shown]) for name, values in varying.items()],
        "losses": [short_number(medians[i]) for i in shown],
        "failed": [int(failed[i]) for i in shown],
        "left_out": len(order) - len(shown),
    }


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    if there and all(map(is_number, there)):
        numbers = [float("nan") if value is None else float(value) for value in values]
        log = is_log(name, [float(value) for value in there])
        return {"name": in_words(name), "log": log, "values": [short_number(value) for value in numbers]}
    texts = list(dict.fromkeys(map(_text, sorted(values, key=lambda value: (str(type(value)), str(value))))))
    places = {text: place for place, text in enumerate(texts)}
    return {"name": in_words(name), "texts": texts, "values": [places[_text(value)] for value in values]}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else text_of(value)

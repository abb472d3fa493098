"""A result as an `xarray.Dataset`: its arrays with named axes, and the hyperparameters of each trial beside them."""

import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers.description import value_text
from momentum_jax.results.tables import flat_hyperparameters, trials_by_label

if TYPE_CHECKING:
    from momentum_jax.results.result import Result

_AXES = ("trial", "seed")
# Larger integers are not exact as float64.
_MOST_EXACT = 2**53


def labelled_arrays(result: "Result") -> Any:
    """What `Result.to_xarray` returns.

    Raises:
      InputError: as `Result.to_xarray`.
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise InputError("to_xarray needs xarray, which is not installed: pip install xarray") from error
    result.check_histories("to_xarray")
    trials = trials_by_label(result.config, result.trials)
    rows = [(label, trial) for label, own in trials.items() for trial in own]
    coordinates: dict[str, Any] = {
        "trial": ("trial", np.arange(len(rows))),
        "seed": ("seed", np.asarray(result.config.seed_tuple)),
        "iteration": ("iteration", result.iterations),
        "evaluation": ("evaluation", result.evaluation_iterations),
        "optimizer": ("trial", np.asarray([label for label, _ in rows])),
        "batch_size": ("trial", np.asarray([trial.batch_size for _, trial in rows])),
    }
    variables: dict[str, Any] = {
        "losses_before": _variable(result, "losses_before", result.losses_before, "iteration"),
        "failed": _variable(result, "failed", result.failed),
        "diverged_at": _variable(result, "diverged_at", result.diverged_at),
    }
    for name in ("losses_after", "missing"):
        by_label = getattr(result, name)
        variables |= {name: _variable(result, name, by_label, "iteration")} if by_label else {}
    taken = {*coordinates, *variables}
    hyperparameters = [flat_hyperparameters(trial.optimizer.hyperparameters) for _, trial in rows]
    for name in dict.fromkeys(name for own in hyperparameters for name in own):
        values = [own.get(name) for own in hyperparameters]
        coordinates[_free(name, "hyperparameter", taken)] = ("trial", _column(values))
    for name, by_label in result.evaluations.items():
        variables[_free(name, "evaluation", taken)] = _variable(result, name, by_label, "evaluation")
    for name, metric in result.metrics.items():
        variables[_free(name, "metric", taken)] = _variable(result, name, metric, "iteration", taken)
    return xarray.Dataset(variables, coordinates)


def _variable(
    result: "Result", name: str, by_label: Mapping[str, Any], axis: str = "", taken: set[str] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """The arrays of all labels as one of all trials, with the names of its axes."""
    # In the order of the rows: `jax.tree.map` sorts the labels.
    own = [by_label[label] for label in trials_by_label(result.config, result.trials)]
    arrays = [np.asarray(values if result.trials is not None else values[None]) for values in own]
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1:
        raise InputError(
            f"to_xarray: metric {name!r} has arrays of different shapes, {sorted(shapes)}; leave it out with "
            "dataclasses.replace(result, metrics={…})"
        )
    # Files that xarray writes have no bfloat16.
    arrays = [array.astype(np.float32) if array.dtype == jnp.bfloat16 else array for array in arrays]
    axes = (*_AXES, axis)[: arrays[0].ndim]
    more = [_free(f"{name}_{i}", "axis", taken or set()) for i in range(arrays[0].ndim - len(axes))]
    return (*axes, *more), np.concatenate(arrays)


def _free(name: str, kind: str, taken: set[str]) -> str:
    """The name, behind its kind if it is taken; from then on it is taken."""
    while name in taken:
        name = f"{kind}.{name}"
    taken.add(name)
    return name


def _column(values: Sequence[Any]) -> np.ndarray:
    """Values of a hyperparameter: numbers, NaN where there is none; or texts, empty where there is none."""
    given = [value for value in values if value is not None]
    are_numbers = all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in given)
    if given and are_numbers and all(isinstance(value, float) or abs(value) <= _MOST_EXACT for value in given):
        return np.asarray([np.nan if value is None else float(value) for value in values])
    texts = (value if isinstance(value, str | None) else value_text(value) for value in values)
    return np.asarray([text or "" for text in texts])

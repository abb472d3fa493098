"""Tables of runs with one row each, as `pyarrow.Table`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from momentum_jax._base.errors import is_number
from momentum_jax.config import Config
from momentum_jax.optimizers.description import Schedule
from momentum_jax.space import BATCH_SIZE, Trial

ITERATIONS = "iterations"
FINALS = ("final_train_loss", "test_loss", "test_accuracy", "failed", "diverged_at")
# A figure of two hyperparameters has these as its axes if they vary.
LEADING = ("learning_rate", "momentum")
_WORDS = {
    "final_train_loss": "final training loss",
    "test_loss": "final test loss",
    "test_accuracy": "final test accuracy",
    "diverged_at": "diverged at iteration",
    "eps": "epsilon",
}
# Columns of stored runs beside those whose types `_arrow_type` knows.
_STORED = ("digest", ITERATIONS, "losses", "losses_before", "params", "error")


def describe(trials: Mapping[str, Sequence[Trial]], seeds: Sequence[int], *, batch_size: bool) -> Any:
    """Returns the table of what the runs are: by label, then trial, then seed.

    Its columns are optimizer (the label), each hyperparameter under its name (those of a schedule as name.parameter),
    the batch size if asked for, and seed.
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for label, of_label in trials.items():
        for trial in of_label:
            size = {BATCH_SIZE: trial.batch_size} if batch_size else {}
            rows.append({"optimizer": label, **flat_hyperparameters(trial.optimizer.hyperparameters), **size})
    names = list(dict.fromkeys(name for row in rows for name in row if name != BATCH_SIZE))
    names += [BATCH_SIZE] if batch_size else []
    of_trials = pa.table({name: _column([row.get(name) for row in rows], _arrow_type(name)) for name in names})
    repeated = of_trials.take(pa.array(np.repeat(np.arange(len(rows)), len(seeds))))
    return repeated.append_column("seed", pa.array(np.tile(np.asarray(seeds, np.int64), len(rows))))


def trials_by_label(config: Config, trials: Mapping[str, Sequence[Trial]] | None) -> Mapping[str, Sequence[Trial]]:
    """The trials of a sweep, or without any those of a training: the optimizers as configured."""
    if trials is not None:
        return trials
    return {label: (Trial(optimizer, config.batch_size),) for label, optimizer in config.optimizers.items()}


def varying_hyperparameters(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """Returns the hyperparameters that differ between the trials of an optimizer: by name, the value of each trial."""
    rows = [{**flat_hyperparameters(trial.optimizer.hyperparameters), BATCH_SIZE: trial.batch_size} for trial in trials]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {name: values for name, values in columns.items() if len(set(map(repr, values))) > 1}


def numeric_of(varying: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
    """The hyperparameters that are numbers, learning rate and momentum first: by name, the value of each trial.

    >>> numeric_of({"dampening": [0, 0.5], "nesterov": [True, False], "momentum": [0.9, 0.5]})
    {'momentum': [0.9, 0.5], 'dampening': [0.0, 0.5]}
    """
    numbers = {name: list(map(float, values)) for name, values in varying.items() if all(map(is_number, values))}
    return {name: numbers[name] for name in sorted(numbers, key=lambda name: (*LEADING, name).index(name))}


def in_words(name: str) -> str:
    """The name of a column or hyperparameter in words, as titles and axes have it.

    >>> in_words("learning_rate"), in_words("learning_rate.decay_steps"), in_words("final_train_loss")
    ('learning rate', 'learning rate: decay steps', 'final training loss')
    """
    return _WORDS.get(name) or name.removeprefix("hyperparameter.").replace(".", ": ").replace("_", " ")


def with_unit(title: str, unit: str) -> str:
    """The title with the unit in brackets, if there is one.

    >>> with_unit("loss", "nats"), with_unit("loss", "")
    ('loss (nats)', 'loss')
    """
    return f"{title} ({unit})" if unit else title


def text_of(value: Any) -> str:
    """Formats a hyperparameter's value, a float with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def with_finals(described: Any, finals: Mapping[str, Sequence[Any]]) -> Any:
    """Adds the columns of `FINALS` to a table; those that the task does not evaluate are null."""
    import pyarrow as pa

    for name in FINALS:
        values = pa.array(finals.get(name) or [None] * len(described), _arrow_type(name))
        described = described.append_column(name, values)
    return described


def _arrow_type(name: str) -> Any:
    """The type of a column that has one whatever its values; None for others."""
    import pyarrow as pa

    return {
        "optimizer": pa.string(),
        "seed": pa.int64(),
        BATCH_SIZE: pa.int64(),
        "final_train_loss": pa.float64(),
        "test_loss": pa.float64(),
        "test_accuracy": pa.float64(),
        "failed": pa.bool_(),
        "diverged_at": pa.int64(),
    }.get(name)


def _column(values: list[Any], kind: Any) -> Any:
    """A column of hyperparameters; as text where optimizers give them different types."""
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])


def flat_hyperparameters(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters by the names of their columns: a schedule as name.schedule and one name.parameter each."""
    flat: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        if isinstance(value, Schedule):
            flat |= {name + ".schedule": value.name}
            flat |= {f"{name}.{parameter}": entry for parameter, entry in value.items}
        else:
            taken = name in _STORED or _arrow_type(name) is not None
            flat[f"hyperparameter.{name}" if taken else name] = value
    return flat

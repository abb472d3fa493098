"""Checks on what was read from a folder: the config is one of this program, and the records are of its runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from momentum_jax._base.reading import reason
from momentum_jax._base.trees import form_of
from momentum_jax.config import Config
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.record import Record


def config_of(values: Any) -> Config:
    """The config of JSON values that `Config.to_json` returned.

    Raises:
      ValueError: it cannot have returned them.
    """
    try:
        config = Config.from_json(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(reason(error)) from error
    difference = first_difference(values, config.to_json())
    if difference is not None:
        raise ValueError(difference)
    return config


def check_records(records: Mapping[Any, Sequence[Record]], recorded: int, evaluations: int) -> None:
    """Checks that the arrays of records fit together.

    Args:
      records: by label.
      recorded: how many iterations each history has.
      evaluations: how many entries each evaluation has.

    Raises:
      ValueError: a history or an evaluation has another length, or the records of a label are not alike.
    """
    names = {(tuple(record.metrics), tuple(record.evaluations)) for own in records.values() for record in own}
    if len(names) > 1:
        raise ValueError("the runs do not have the same metrics and evaluations")
    for label, own in records.items():
        if len({repr(form_of(_arrays(record))) for record in own}) > 1:
            raise ValueError(f"the runs of {label!r} have arrays of different shapes or dtypes")
        for record in own[:1]:
            histories = [record.losses, record.losses_before, *record.metrics.values()]
            if any(history.shape[:1] != (recorded,) for history in histories):
                raise ValueError(f"the histories of {label!r} do not have {recorded} entries")
            if any(values.shape != (evaluations,) for values in record.evaluations.values()):
                raise ValueError(f"the evaluations of {label!r} do not have {evaluations} entries")
            losses = (record.losses, record.losses_before)
            if any(array.ndim != 1 or not jax.numpy.issubdtype(array.dtype, np.inexact) for array in losses):
                raise ValueError(f"the losses of {label!r} are not numbers, one for each recorded iteration")


def _arrays(record: Record) -> list[Any]:
    return [record.losses, record.losses_before, record.metrics, record.evaluations, record.params]

"""Checks on what was read from a folder: the config is one of this program, and the records are of its runs."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from momentum_jax._base.reading import reason
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


def check_forms(forms: Mapping[Any, Record], recorded: int, evaluations: int) -> None:
    """Checks that the arrays of records fit together.

    Args:
      forms: by label, what its records are like: shapes and dtypes.
      recorded: how many iterations each history has.
      evaluations: how many entries each evaluation has.

    Raises:
      ValueError: a history or an evaluation has another length, or the labels have other metrics or evaluations.
    """
    if len({(tuple(form.metrics), tuple(form.evaluations)) for form in forms.values()}) > 1:
        raise ValueError("the runs do not have the same metrics and evaluations")
    for label, form in forms.items():
        losses = [array for array in (form.losses, form.losses_before) if array is not None]
        histories = [*losses, *form.metrics.values()]
        if any(history.shape[:1] != (recorded,) for history in histories):
            raise ValueError(f"the histories of {label!r} do not have {recorded} entries")
        if any(values.shape != (evaluations,) for values in form.evaluations.values()):
            raise ValueError(f"the evaluations of {label!r} do not have {evaluations} entries")
        if any(array.ndim != 1 or not jax.numpy.issubdtype(array.dtype, np.inexact) for array in losses):
            raise ValueError(f"the losses of {label!r} are not numbers, one for each recorded iteration")

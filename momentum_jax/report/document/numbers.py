"""Numbers as JSON has them."""

import math
from typing import Any

import numpy as np


def json_number(value: float | np.floating[Any]) -> float | str | None:
    """A number in JSON types: +∞ is "inf", −∞ is "-inf" and NaN is None.

    >>> [json_number(value) for value in (0.5, math.inf, math.nan)]
    [0.5, 'inf', None]
    """
    value = float(value)
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value

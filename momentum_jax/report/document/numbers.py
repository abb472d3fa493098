"""Numbers as JSON has them, and fewer of them where a page cannot hold all."""

import math
from typing import Any

import numpy as np
from jaxtyping import Int


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


def short_number(value: float | np.floating[Any]) -> float | str | None:
    """A number in JSON types with six digits, for points of which a page has thousands."""
    return json_number(float(f"{value:.6g}"))


def evenly(count: int, most: int) -> Int[np.ndarray, " positions"]:
    """At most so many of the positions 0, 1, …, count − 1, evenly spaced, with the first and the last.

    >>> evenly(9, 5).tolist(), evenly(3, 5).tolist()
    ([0, 2, 4, 6, 8], [0, 1, 2])
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))

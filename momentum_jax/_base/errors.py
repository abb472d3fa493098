"""Errors about wrong input. Their messages name the field, the value, what is allowed and the nearest spelling."""

import difflib
import math
import sys
from collections.abc import Iterable

# A longer list of allowed names is left out of the message.
_MOST_LISTED = 20
_LONGEST_SHOWN = 100


class InputError(ValueError):
    """Raised for input that cannot be used. The message says what is allowed instead."""


class PrintError(Exception):
    """Raised where standard output cannot be written, for another reason than that its reader has gone."""


def summary(error: Exception) -> str:
    """The kind of an error that somebody else's code raised, and the first line of its message.

    >>> summary(KeyError("velocity"))
    "KeyError: 'velocity'"
    """
    first, *_ = [*str(error).splitlines(), ""]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def shown(value: object) -> str:
    """A value as one line of bounded length.

    >>> shown([[1, 2], [3, 4]])
    '[[1, 2], [3, 4]]'
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def unknown(what: str, value: object, allowed: Iterable[str]) -> InputError:
    """The error for a name that does not exist. It suggests the nearest spelling where one is close.

    >>> str(unknown("dataset", "minst", ["mnist", "cifar"]))
    "dataset: unknown 'minst'; did you mean 'mnist'? Allowed: cifar, mnist"
    """
    names = sorted(allowed)
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(value).lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else "."
    listed = f" Allowed: {', '.join(names) or 'none'}" if len(names) <= _MOST_LISTED else ""
    return InputError(f"{what}: unknown {value!r}{hint}{listed}")


def check_integer(what: str, value: object, low: int, high: int | None = None) -> None:
    """Raises `InputError` unless `value` is an integer with low ≤ value ≤ high. A bool is no integer here."""
    value = _plain(value)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not (is_integer and low <= value and (high is None or value <= high)):  # type: ignore[operator]
        upper = "" if high is None else f" and at most {high}"
        raise InputError(f"{what} must be an integer of at least {low}{upper}, not {value!r}")


def check_real(what: str, value: object, low: float, high: float, *, below_high: bool = False) -> None:
    """Raises `InputError` unless `value` is a finite number with low ≤ value ≤ high, or < high if `below_high`."""
    value = _plain(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    inside = is_number and low <= value <= sys.float_info.max  # type: ignore[operator]
    if not (inside and (value < high if below_high else value <= high)):  # type: ignore[operator]
        bound = "" if low == -math.inf else f" and at least {low:g}"
        allowed = f"finite{bound}" if high == math.inf else f"in [{low:g}, {high:g}{')' if below_high else ']'}"
        raise InputError(f"{what} must be {allowed}, not {value!r}")


def _plain(value: object) -> object:
    """A scalar of NumPy or JAX as a Python number; other values as they are."""
    is_scalar = hasattr(value, "item") and getattr(value, "ndim", None) == 0
    return value.item() if is_scalar else value  # type: ignore[attr-defined]

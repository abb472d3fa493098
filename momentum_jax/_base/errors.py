"""Errors about wrong input. Their messages name the field, the value, what is allowed and the nearest spelling."""

import contextlib
import difflib
import math
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

# A longer list of allowed names is left out of the message.
_MOST_LISTED = 20
_MOST_SHOWN = 100
_DEEPEST = 32


class InputError(ValueError):
    """Raised for input that cannot be used. The message says what is allowed instead."""


def summary(error: BaseException) -> str:
    """The kind of an error that somebody else's code raised, and the first line of its message.

    >>> summary(KeyError("velocity"))
    "KeyError: 'velocity'"
    """
    first, *_ = [*str(error).splitlines(), ""]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Whatever somebody else's code raises in the block becomes an `InputError`, with their error as its cause."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {summary(error)}") from error


def unknown(what: str, value: object, allowed: Iterable[str]) -> InputError:
    """The error for a name that does not exist. It suggests the nearest spelling where one is close.

    >>> str(unknown("dataset", "minst", ["mnist", "cifar"]))
    "dataset: unknown 'minst'; did you mean 'mnist'? Allowed: cifar, mnist"
    """
    names = sorted(allowed)
    by_lower = {name.lower(): name for name in names}
    given = value if isinstance(value, str) else shown(value)
    near = difflib.get_close_matches(given.lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else "."
    listed = f" Allowed: {', '.join(names) or 'none'}" if len(names) <= _MOST_LISTED else ""
    return InputError(f"{what}: unknown {shown(value)}{hint}{listed}")


def check_choice(what: str, value: object, allowed: Iterable[str]) -> None:
    """Raises `InputError` unless `value` is one of the allowed names."""
    if not (isinstance(value, str) and value in allowed):
        raise unknown(what, value, allowed)


def shown(value: object) -> str:
    """A value as messages show it: its repr in one line, and no more than begins a long one.

    >>> shown([[1, 2], [3, 4]])
    '[[1, 2], [3, 4]]'
    """
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):
        return f"{type(value).__name__} too large to be shown"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def is_number(value: Any) -> bool:
    """Whether a value is a number of Python. A bool is none here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text. It cannot hold halves of surrogate pairs, such as come from undecodable bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def check_path(what: str, value: object) -> None:
    """Raises `InputError` unless `value` can be the path of a file or folder."""
    if not (isinstance(value, str | os.PathLike) and os.fspath(value) and "\0" not in str(value)):
        raise InputError(f'{what} must be a path, such as "runs/first", not {shown(value)}')


def check_integer(what: str, value: Any, low: int, high: int | None = None) -> None:
    """Raises `InputError` unless `value` is an integer with low ≤ value ≤ high. A bool is no integer here."""
    value = plain_scalar(value)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not (is_integer and low <= value and (high is None or value <= high)):
        upper = "" if high is None else f" and at most {high}"
        raise InputError(f"{what} must be an integer of at least {low}{upper}, not {shown(value)}")


def check_real(what: str, value: Any, low: float, high: float, *, below_high: bool = False) -> None:
    """Raises `InputError` unless `value` is a finite number with low ≤ value ≤ high, or < high if `below_high`."""
    value = plain_scalar(value)
    inside = is_number(value) and low <= value <= sys.float_info.max
    if not (inside and (value < high if below_high else value <= high)):
        bound = "" if low == -math.inf else f" and at least {low:g}"
        allowed = f"finite{bound}" if high == math.inf else f"in [{low:g}, {high:g}{')' if below_high else ']'}"
        raise InputError(f"{what} must be {allowed}, not {shown(value)}")


def check_key(key: Any) -> None:
    """Raises `InputError` unless `key` is one key of JAX's random numbers, of either kind."""
    import jax

    try:
        jax.eval_shape(lambda: jax.random.fold_in(key, 0))
    except (TypeError, ValueError):
        raise InputError(f"key must be one such as jax.random.key(0), not {shown(key)}") from None


def plain_scalar(value: Any) -> Any:
    """A scalar of NumPy or JAX as a Python number; other values as they are."""
    with contextlib.suppress(NotImplementedError):
        # A random key of JAX is a scalar without a value.
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
            return value.item()
    return value


def plain(value: Any, depth: int = 0) -> Any:
    """The value with NumPy scalars as Python numbers and lists as tuples, so that it hashes and is JSON.

    Raises:
      InputError: lists in lists in lists, more than a file could hold.
    """
    if depth > _DEEPEST:
        raise InputError(f"a value is nested more than {_DEEPEST} deep")
    if isinstance(value, list | tuple):
        return tuple(plain(entry, depth + 1) for entry in value)
    return plain_scalar(value)

"""What the methods share: hyperparameters that are floats, traced scalars or schedules, and what each may be."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from momentum_jax.errors import InputError, check_real, unknown

Scalar: TypeAlias = float | Float[Array, ""] | Float[np.ndarray, ""]
ScalarOrSchedule: TypeAlias = Scalar | Callable[[Int[Array, ""]], Float[Array, ""]]


class Range(NamedTuple):
    """low ≤ value ≤ high, or < high where `below_high`."""

    low: float
    high: float
    below_high: bool = False

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}{')' if self.below_high or self.high == math.inf else ']'}"


RANGES = {
    "learning_rate": Range(0, math.inf),
    "momentum": Range(0, 1, below_high=True),
    "dampening": Range(0, 1),
    "weight_decay": Range(0, math.inf),
    "nu": Range(0, 1),
    "betas": Range(0, 1, below_high=True),
    "q": Range(0, 1),
}
CHOICES = {
    "convention": ("inside", "outside", "corrected"),
    "scheme": ("gradient", "function"),
}


def check_hyperparameter(name: str, value: ScalarOrSchedule) -> None:
    """Checks a concrete number against `RANGES`; a traced scalar or a schedule has no value yet and passes.

    Raises:
      InputError: not a finite number in the range.
    """
    if callable(value) or isinstance(value, jax.core.Tracer):
        return
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if value.ndim:
            raise InputError(f"{name} must be a scalar, not an array of shape {value.shape}")
        value = value.item()
    allowed = RANGES[name]
    check_real(name, value, allowed.low, allowed.high, below_high=allowed.below_high)


def check_choice(name: str, value: object) -> None:
    """Raises `InputError` unless `value` is one of `CHOICES[name]`."""
    if not (isinstance(value, str) and value in CHOICES[name]):
        raise unknown(name, value, CHOICES[name])


def check_accumulator_dtype(dtype: Any) -> None:
    """Raises `InputError` unless `dtype` is None or names a real floating-point type that JAX has switched on."""
    if dtype is None:
        return
    try:
        named = jnp.dtype(dtype)
    except TypeError:
        named = None
    if named is None or not jnp.issubdtype(named, jnp.floating):
        raise InputError(f"accumulator_dtype must be None or a floating-point dtype such as 'float32', not {dtype!r}")
    if jax.dtypes.canonicalize_dtype(named) != named:
        raise InputError(f"accumulator_dtype {named.name!r} needs jax_enable_x64")


def is_zero(value: ScalarOrSchedule) -> bool:
    """Whether it is the number 0 itself, so that what it multiplies can be left out of the program."""
    return isinstance(value, int | float) and value == 0


def at_count(value: ScalarOrSchedule, count: Int[Array, ""]) -> Scalar:
    return value(count) if callable(value) else value

"""Hyperparameters of all methods: their ranges, how they are checked, and their value at an iteration."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from momentum_jax._base.errors import InputError, check_real

Scalar: TypeAlias = float | Float[Array, ""] | Float[np.ndarray, ""]
ScalarOrSchedule: TypeAlias = Scalar | Callable[[Int[Array, ""]], Float[Array, ""]]


class Range(NamedTuple):
    """The interval low ≤ value ≤ high, or low ≤ value < high if `below_high`."""

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
    "weights": Range(0, math.inf),
    "q": Range(0, 1),
    "xi": Range(0, math.inf),
    "smoothing": Range(0, 1, below_high=True),
    "pct_start": Range(0, 1),
    "gamma3": Range(0, math.inf),
    "delta": Range(0, math.inf),
    "kappa3": Range(0, math.inf),
}
ABOVE_0 = Range(1e-30, math.inf)
"""Of a number by which is divided; float32 holds its end."""
ROUNDING = 1e-12
"""How far a ν that was computed may be from what it is: a few roundings of 1e-16, magnified by 1/(1 − m)."""
_KEEP = "with optax.inject_hyperparams give hyperparam_dtype=jnp.float32"
CHOICES = {
    "convention": ("inside", "outside", "corrected"),
    "scheme": ("gradient", "function"),
}


def check_hyperparameter(
    name: str, value: ScalarOrSchedule, what: str | None = None, *, allowed: Range | None = None
) -> None:
    """Checks a number against its range.

    Of a traced scalar only the shape and dtype are checked, of a schedule nothing: their values are not known yet. A
    warning says where a traced dtype is so coarse that a value below the end of its range may be rounded to it.

    Args:
      name: the hyperparameter.
      value: the value to check.
      what: what messages call it, by default `name`.
      allowed: the range, by default `RANGES[name]`.

    Raises:
      InputError: the value is not a scalar, not real, not finite or out of range.
    """
    what = what or name
    if callable(value):
        return
    dtype = None
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        _check_scalar(what, value)
        dtype = value.dtype
    allowed = allowed or RANGES[name]
    coarse = dtype in (jnp.bfloat16, jnp.float16)
    if isinstance(value, jax.core.Tracer):
        if coarse and allowed.below_high:
            warnings.warn(
                f"{what} is a traced {dtype}, which cannot be checked and rounds what is near 1 to 1: {_KEEP}",
                stacklevel=3,
            )
        return
    try:
        check_real(what, value, allowed.low, allowed.high, below_high=allowed.below_high)
    except InputError as error:
        if not coarse or not equal(value, 1):
            raise
        raise InputError(f"{error}, to which {dtype} rounds what is near it: {_KEEP}") from None


def _check_scalar(what: str, value: Any) -> None:
    if value.ndim:
        raise InputError(f"{what} must be a scalar, not an array of shape {value.shape}")
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise InputError(f"{what} must be a real number, not {value.dtype}")


def check_accumulator_dtype(dtype: Any) -> None:
    """Raises `InputError` unless `dtype` is None or a floating-point dtype that JAX's settings allow."""
    if dtype is None:
        return
    if isinstance(dtype, np.ndarray | jax.Array):
        raise InputError(
            f"accumulator_dtype must be None or a dtype, not an array of shape {dtype.shape}: optax.inject_hyperparams "
            "makes one of a dtype that its static_args do not name"
        )
    try:
        named = jnp.dtype(dtype)
    except TypeError:
        named = None
    if named is None or not jnp.issubdtype(named, jnp.floating):
        raise InputError(f"accumulator_dtype must be None or a floating-point dtype such as 'float32', not {dtype!r}")
    if jax.dtypes.canonicalize_dtype(named) != named:
        raise InputError(f"accumulator_dtype {named.name!r} needs jax_enable_x64")


def equal(value: ScalarOrSchedule, other: ScalarOrSchedule) -> bool:
    """Whether two values are known to be equal. Of a schedule and of a traced scalar nothing is known."""
    if any(callable(x) or isinstance(x, jax.core.Tracer) for x in (value, other)):
        return False
    # Inside a trace JAX would also trace the comparison of concrete arrays. NumPy compares them.
    value, other = (np.asarray(x) if isinstance(x, jax.Array) else x for x in (value, other))
    return bool(value == other)


def is_close(value: ScalarOrSchedule, other: ScalarOrSchedule) -> bool:
    """Whether two values are known to be equal up to `ROUNDING`."""
    if value is other:
        return True
    if any(callable(x) or isinstance(x, jax.core.Tracer) for x in (value, other)):
        return False
    return abs(float(np.asarray(value)) - float(np.asarray(other))) <= ROUNDING


def is_zero(value: ScalarOrSchedule) -> bool:
    """Whether the value is known to be 0, so that its term can be left out of the program."""
    return equal(value, 0)


def at_count(value: ScalarOrSchedule, count: Int[Array, ""]) -> Scalar:
    """The value at iteration `count`, in the default float dtype unless it is a Python number.

    In a dtype of its own, 1 − m would be rounded to bfloat16, and −η of an unsigned integer would wrap around.

    Raises:
      InputError: a schedule returned something that is not a scalar.
    """
    now = value(count) if callable(value) else value
    if jnp.ndim(now):
        raise InputError(f"a schedule must give a scalar, not an array of shape {jnp.shape(now)}")
    return now if isinstance(now, int | float) else jnp.asarray(now, float)

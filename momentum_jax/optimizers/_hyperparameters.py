"""What the methods share: hyperparameters that are floats, traced scalars or schedules, and their ranges."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from momentum_jax.errors import InputError, check_real

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


def at_count(value: ScalarOrSchedule, count: Int[Array, ""]) -> Scalar:
    return value(count) if callable(value) else value


def compute_dtype(leaf: Array) -> Any:
    """The dtype a leaf is updated in: its own, but at least float32, so that 0.9 stays 0.9 beside bfloat16."""
    is_small = jnp.issubdtype(leaf.dtype, jnp.floating) and jnp.finfo(leaf.dtype).bits < 32
    return jnp.float32 if is_small else leaf.dtype

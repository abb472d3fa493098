"""The formulas behind `Schedule`: functions of the iteration whose floats may be traced."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from momentum_jax.optimizers._hyperparameters import Scalar

Count = Int[Array, ""]


def constant(value: Scalar) -> optax.Schedule:
    """η(t) = value."""
    return lambda count: jnp.asarray(value, dtype=float)


def warmup_cosine(
    peak_value: Scalar, warmup_steps: int, decay_steps: int, init_value: Scalar, end_value: Scalar
) -> optax.Schedule:
    """η(t) = end + (peak − end)·(1 + cos πu)/2 after the warm-up, u = (t − warmup)/(decay − warmup) ≤ 1.

    Before, η(t) = init + (peak − init)·t/warmup. Source: Loshchilov and Hutter 2017 (1608.03983), equation 5,
    without restarts; the arguments are those of `optax.warmup_cosine_decay_schedule`.
    """
    return _warmup(
        lambda u: end_value + (peak_value - end_value) * 0.5 * (1 + jnp.cos(jnp.pi * u)),
        peak_value,
        warmup_steps,
        decay_steps,
        init_value,
    )


def warmup_linear(
    peak_value: Scalar, warmup_steps: int, decay_steps: int, init_value: Scalar, end_value: Scalar
) -> optax.Schedule:
    """η(t) = peak + (end − peak)·u after the warm-up, with u and the warm-up of `warmup_cosine`."""
    return _warmup(
        lambda u: peak_value + (end_value - peak_value) * u,
        peak_value,
        warmup_steps,
        decay_steps,
        init_value,
    )


def step_decay(init_value: Scalar, transition_steps: int, decay_rate: Scalar) -> optax.Schedule:
    """η(t) = init·rate^⌊t / transition_steps⌋."""
    return lambda count: (
        init_value * jnp.asarray(decay_rate, dtype=float) ** jnp.astype(count // transition_steps, float)
    )


def _warmup(
    decay: Callable[[Float[Array, ""]], Any],
    peak_value: Scalar,
    warmup_steps: int,
    decay_steps: int,
    init_value: Scalar,
) -> optax.Schedule:
    def schedule(count: Count) -> Float[Array, ""]:
        t = jnp.astype(count, float)
        rising = init_value + (peak_value - init_value) * t / max(warmup_steps, 1)
        u = jnp.clip((t - warmup_steps) / (decay_steps - warmup_steps), 0.0, 1.0)
        value: Array = jnp.where(count < warmup_steps, rising, decay(u))
        return value

    return schedule


FORMULAS: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "warmup_cosine": warmup_cosine,
    "warmup_linear": warmup_linear,
    "step_decay": step_decay,
}

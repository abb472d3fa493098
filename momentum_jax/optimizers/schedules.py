"""Schedules of the learning rate and of the momentum: functions of the iteration whose float arguments may be traced.

A `Schedule` in a config names one of `FORMULAS`. Give a schedule to any method that takes one:

>>> import momentum_jax as mj
>>> optimizer = mj.nesterov(0.01, mj.optimizers.demon(0.9, 2000))
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from momentum_jax._base.errors import check_integer
from momentum_jax.optimizers._hyperparameters import Scalar, check_hyperparameter

Count = Int[Array, ""]


def constant(value: Scalar) -> optax.Schedule:
    """A constant: η(t) = value."""
    return lambda count: jnp.asarray(value, dtype=float)


def warmup_cosine(
    peak_value: Scalar, warmup_steps: int, decay_steps: int, init_value: Scalar = 0.0, end_value: Scalar = 0.0
) -> optax.Schedule:
    """Linear warm-up, then cosine decay.

    - t < warmup: η(t) = init + (peak − init)·t/warmup;
    - then: η(t) = end + (peak − end)·(1 + cos πu)/2 with u = min((t − warmup)/(decay − warmup), 1).

    The arguments are those of `optax.warmup_cosine_decay_schedule`.

    References:
      Loshchilov and Hutter 2017 (1608.03983), equation 5, without restarts.
    """
    return _warmup(
        lambda u: end_value + (peak_value - end_value) * 0.5 * (1 + jnp.cos(jnp.pi * u)),
        peak_value,
        warmup_steps,
        decay_steps,
        init_value,
    )


def warmup_linear(
    peak_value: Scalar, warmup_steps: int, decay_steps: int, init_value: Scalar = 0.0, end_value: Scalar = 0.0
) -> optax.Schedule:
    """Linear warm-up, then linear decay: η(t) = peak + (end − peak)·u, with u as in `warmup_cosine`."""
    return _warmup(
        lambda u: peak_value + (end_value - peak_value) * u,
        peak_value,
        warmup_steps,
        decay_steps,
        init_value,
    )


def step_decay(init_value: Scalar, transition_steps: int, decay_rate: Scalar) -> optax.Schedule:
    """Step decay: η(t) = init·rate^⌊t / transition_steps⌋."""
    return lambda count: (
        init_value * jnp.asarray(decay_rate, dtype=float) ** jnp.astype(count // transition_steps, float)
    )


def demon(init_value: Scalar, decay_steps: int) -> optax.Schedule:
    r"""Decaying momentum (Demon).

    .. math::
      m_t = m_0 \frac{1 - t/T}{(1 - m_0) + m_0 (1 - t/T)}

    The total weight of a gradient in all later steps, m/(1 − m), falls linearly from its first value to 0.

    Args:
      init_value: m_0 in [0, 1), a float or a traced scalar.
      decay_steps: T ≥ 1. From iteration T on, m is 0.

    Returns:
      The momentum m_t as a function of the iteration t.

    Raises:
      InputError: an argument is out of its range.

    References:
      Chen, Wolfe, Li and Kyrillidis, `Demon: improved neural network training with momentum decay
      <https://arxiv.org/abs/1910.04952>`_, 2019, algorithm 1.

    >>> print(*(round(float(demon(0.9, 100)(t)), 4) for t in (0, 50, 90, 100)))
    0.9 0.8182 0.4737 0.0
    """
    check_hyperparameter("momentum", init_value)
    check_integer("decay_steps", decay_steps, 1)

    def schedule(count: Count) -> Float[Array, ""]:
        m = jnp.asarray(init_value, float)
        # Subtract before dividing: this is exactly 0 at the end, however XLA rounds the division.
        left = jnp.maximum(decay_steps - jnp.astype(jnp.asarray(count), float), 0) / decay_steps
        value: Array = m * left / ((1 - m) + m * left)
        return value

    return schedule


def sutskever(max_value: Scalar = 0.99, transition_steps: int = 250) -> optax.Schedule:
    r"""The growing momentum of Sutskever et al., after Nesterov's theory for convex functions.

    .. math::
      m_t = \min\left(1 - 2^{-1 - \log_2(\lfloor t / 250 \rfloor + 1)}, m_{max}\right)

    This is 1 − 1/(2(⌊t/250⌋ + 1)): 0.5, 0.75, 0.833 … At iterations where m changes, `nesterov` and the paper differ:

    .. math::
      p_{t+1} &= p_t + m_t v_{t+1} - \eta_t g_t & \text{(nesterov)} \\
      p_{t+1} &= p_t + m_{t+1} v_{t+1} - \eta_t g_t & \text{(the paper)}

    Args:
      max_value: m_max in [0, 1), a float or a traced scalar. The paper tries 0.9, 0.99, 0.995 and 0.999.
      transition_steps: the number of iterations between two increases, 250 in the paper.

    Returns:
      The momentum m_t as a function of the iteration t.

    Raises:
      InputError: an argument is out of its range.

    References:
      Sutskever, Martens, Dahl and Hinton, `On the importance of initialization and momentum in deep learning
      <https://proceedings.mlr.press/v28/sutskever13.html>`_, 2013, equation 5.

    >>> print(*(round(float(sutskever(0.9)(t)), 4) for t in (0, 249, 250, 500, 10_000)))
    0.5 0.5 0.75 0.8333 0.9
    """
    check_hyperparameter("momentum", max_value)
    check_integer("transition_steps", transition_steps, 1)

    def schedule(count: Count) -> Float[Array, ""]:
        stage = jnp.astype(jnp.asarray(count) // transition_steps, float)
        return jnp.minimum(1 - 0.5 / (stage + 1), jnp.asarray(max_value, float))

    return schedule


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
    "demon": demon,
    "sutskever": sutskever,
}

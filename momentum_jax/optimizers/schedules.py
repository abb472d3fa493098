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
from momentum_jax.optimizers._hyperparameters import ABOVE_0, Scalar, check_hyperparameter

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
        lambda peak, end, u: end + (peak - end) * 0.5 * (1 + jnp.cos(jnp.pi * u)),
        (init_value, peak_value, end_value),
        warmup_steps,
        decay_steps,
    )


def warmup_linear(
    peak_value: Scalar, warmup_steps: int, decay_steps: int, init_value: Scalar = 0.0, end_value: Scalar = 0.0
) -> optax.Schedule:
    """Linear warm-up, then linear decay: η(t) = peak + (end − peak)·u, with u as in `warmup_cosine`."""
    return _warmup(
        lambda peak, end, u: peak + (end - peak) * u, (init_value, peak_value, end_value), warmup_steps, decay_steps
    )


def step_decay(init_value: Scalar, transition_steps: int, decay_rate: Scalar) -> optax.Schedule:
    """Step decay: η(t) = init·rate^⌊t / transition_steps⌋."""
    return lambda count: (
        jnp.asarray(init_value, float) * jnp.asarray(decay_rate, float) ** jnp.astype(count // transition_steps, float)
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


def one_cycle(
    transition_steps: int, base_value: Scalar = 0.85, max_value: Scalar = 0.95, pct_start: Scalar = 0.3
) -> optax.Schedule:
    r"""One cycle of the momentum, in opposition to that of the learning rate.

    .. math::
      m_t = m_{base} + (m_{max} - m_{base}) \frac{1 + \cos \varphi_t}{2}

    φ goes from 0 to π in the first s·T iterations and to 2π at iteration T, where it stays: the momentum falls from
    its maximum to its base while `optax.cosine_onecycle_schedule` of the same T and s, a whole s·T, lets the rate rise
    to its peak, and grows again while the rate falls.

    Args:
      transition_steps: T ≥ 1, the number of iterations of the cycle.
      base_value: m_base in [0, 1), where the rate is at its peak, a float or a traced scalar.
      max_value: m_max in [0, 1), at both ends, likewise.
      pct_start: s in [0, 1], the share of the iterations in which the rate rises, likewise.

    Returns:
      The momentum m_t as a function of the iteration t.

    Raises:
      InputError: an argument is out of its range.

    References:
      Smith, `A disciplined approach to neural network hyper-parameters: part 1
      <https://arxiv.org/abs/1803.09820>`_, 2018, which cycles along lines. The defaults are those of PyTorch's
      `OneCycleLR`.

    >>> print(*(round(float(one_cycle(100)(t)), 4) for t in (0, 15, 30, 65, 100, 200)))
    0.95 0.9 0.85 0.9 0.95 0.95
    """
    check_hyperparameter("momentum", base_value, "base_value")
    check_hyperparameter("momentum", max_value, "max_value")
    check_hyperparameter("pct_start", pct_start)
    check_integer("transition_steps", transition_steps, 1)

    def schedule(count: Count) -> Float[Array, ""]:
        t = jnp.clip(jnp.astype(jnp.asarray(count), float), 0, transition_steps)
        peak = jnp.asarray(pct_start, float) * transition_steps
        rest = transition_steps - peak
        # Of an empty part of the cycle there is no share.
        rising = t / jnp.where(peak > 0, peak, 1)
        falling = 1 + (t - peak) / jnp.where(rest > 0, rest, 1)
        high = (1 + jnp.cos(jnp.pi * jnp.where(t < peak, rising, falling))) / 2
        base = jnp.asarray(base_value, float)
        value: Array = base + (jnp.asarray(max_value, float) - base) * high
        return value

    return schedule


def log_time(delta: Scalar) -> optax.Schedule:
    r"""Log-time momentum: the average is one of the last t/δ iterations or so, whatever t is.

    .. math::
      m_t = 1 - \frac{\delta}{\delta + t} = \frac{t}{\delta + t}

    Args:
      delta: δ > 0, a float or a traced scalar.

    Returns:
      The momentum m_t as a function of the iteration t.

    Raises:
      InputError: δ is out of its range.

    References:
      Ferbach et al., `Dimension-adapted momentum outscales SGD <https://arxiv.org/abs/2505.16098>`_, 2025.

    >>> print(*(round(float(log_time(8.0)(t)), 4) for t in (0, 8, 72, 792)))
    0.0 0.5 0.9 0.99
    """
    check_hyperparameter("delta", delta, allowed=ABOVE_0)

    def schedule(count: Count) -> Float[Array, ""]:
        t = jnp.astype(jnp.asarray(count), float)
        value: Array = t / (jnp.asarray(delta, float) + t)
        return value

    return schedule


def _warmup(
    decay: Callable[[Float[Array, ""], Float[Array, ""], Float[Array, ""]], Any],
    values: tuple[Scalar, Scalar, Scalar],
    warmup_steps: int,
    decay_steps: int,
) -> optax.Schedule:
    """The line from the first value to the second, then the decay of the second, the third and the share u."""

    def schedule(count: Count) -> Float[Array, ""]:
        init, peak, end = (jnp.asarray(value, float) for value in values)
        t = jnp.astype(count, float)
        rising = init + (peak - init) * t / max(warmup_steps, 1)
        u = jnp.clip((t - warmup_steps) / (decay_steps - warmup_steps), 0.0, 1.0)
        value: Array = jnp.where(count < warmup_steps, rising, decay(peak, end, u))
        return value

    return schedule


FORMULAS: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "warmup_cosine": warmup_cosine,
    "warmup_linear": warmup_linear,
    "step_decay": step_decay,
    "demon": demon,
    "sutskever": sutskever,
    "one_cycle": one_cycle,
    "log_time": log_time,
}

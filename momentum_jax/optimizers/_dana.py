"""DANA: a momentum that grows with the iteration, as schedules of QHM."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers._hyperparameters import Scalar, ScalarOrSchedule, at_count, check_hyperparameter
from momentum_jax.optimizers._qhm import qhm
from momentum_jax.optimizers.schedules import log_time


def dana(
    learning_rate: ScalarOrSchedule, gamma3: ScalarOrSchedule, delta: Scalar = 8.0, kappa3: Scalar = 0.0
) -> optax.GradientTransformationExtraArgs:
    r"""Dimension-adapted Nesterov acceleration (DANA), constant or decaying, in the paper's γ₁ = 1.

    .. math::
      y_{t+1} = \Bigl(1 - \frac{\delta}{\delta + t}\Bigr) y_t + g_t, \qquad
      p_{t+1} = p_t - \gamma_2 g_t - \gamma_3 (1 + t)^{-\kappa_3} y_{t+1}, \qquad y_0 = 0

    It is QHM under schedules, since y is the average a of QHM times a number:

    .. math::
      s_t = \frac{\delta + t}{\delta + 1}, \qquad y_{t+1} = s_{t+1} a_{t+1}, \qquad
      m_t = \frac{t}{\delta + 1 + t}, \qquad
      \eta_t \nu_t = \gamma_3 (1 + t)^{-\kappa_3} s_{t+1}, \qquad \eta_t = \gamma_2 + \eta_t \nu_t

    DANA-constant is κ₃ = 0, with γ₃ of the order of γ₂ over the number of parameters. DANA-decaying is κ₃ = 1/(2α)
    where the curvatures of the data fall as j^(−2α), with γ₃ of the order of γ₂.

    Args:
      learning_rate: γ₂ ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      gamma3: γ₃ ≥ 0, likewise.
      delta: δ ≥ 0, a float or a scalar array: after t iterations some t/δ of them are averaged.
      kappa3: κ₃ ≥ 0, likewise.

    Returns:
      `qhm` with these schedules, and its state.

    Raises:
      InputError: an argument is out of its range, or δ or κ₃ is a schedule.

    References:
      Ferbach, Everett, Gidel, Paquette and Paquette, `Dimension-adapted momentum outscales SGD
      <https://arxiv.org/abs/2505.16098>`_, 2025.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = dana(0.5, gamma3=0.25, delta=1.0)
      >>> params = jnp.array(0.0)
      >>> state = optimizer.init(params)
      >>> for _ in range(2):
      ...     updates, state = optimizer.update(jnp.array(1.0), state)
      ...     print(updates)  # −0.5 − 0.25·1, then −0.5 − 0.25·(0.5·1 + 1)
      -0.75
      -0.875
    """
    check_hyperparameter("learning_rate", learning_rate)
    for name, value in (("gamma3", gamma3), ("delta", delta), ("kappa3", kappa3)):
        if callable(value) and name != "gamma3":
            raise InputError(f"{name} must be a number: dana is no QHM under a schedule of it")
        check_hyperparameter(name, value)

    def of_average(count: Int[Array, ""]) -> Float[Array, ""]:
        """η·ν, the factor of QHM's average."""
        t = jnp.astype(jnp.asarray(count), float)
        decay = (1 + t) ** -jnp.asarray(kappa3, float)
        later = jnp.asarray(delta, float) + 1
        return jnp.asarray(at_count(gamma3, count) * decay * (later + t) / later)

    def rate(count: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(at_count(learning_rate, count) + of_average(count))

    def nu(count: Int[Array, ""]) -> Float[Array, ""]:
        eta = rate(count)
        return of_average(count) / jnp.where(eta > 0, eta, 1)

    return qhm(rate, log_time(1.0 + delta), nu)

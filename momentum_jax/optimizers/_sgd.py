"""Gradient descent."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax.optimizers._core import Core, outside, transformation
from momentum_jax.optimizers._hyperparameters import ScalarOrSchedule, check_hyperparameter
from momentum_jax.optimizers._weight_decay import with_weight_decay


class SGDState(NamedTuple):
    """State of `sgd`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """Updates made so far, for schedules."""


def sgd(
    learning_rate: ScalarOrSchedule,
    *,
    weight_decay: ScalarOrSchedule | None = None,
    mask: PyTree[bool] | Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Gradient descent, on mini-batches stochastic gradient descent.

    .. math::
      p_{t+1} = p_t - \eta_t (g_t + \omega_t p_t)

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      weight_decay: ω ≥ 0, likewise, or None for 0. Without a velocity, coupled and decoupled are the same.
      mask: which parameters decay: a prefix of their tree with booleans, or a function that makes one of them.

    Returns:
      A transformation whose updates have the dtype of the gradients.

    Raises:
      InputError: a concrete hyperparameter out of its range; from `init` and `update`, trees that do not match and
        leaves that are not real floating-point, by path.

    References:
      Robbins and Monro, `A Stochastic Approximation Method
      <https://doi.org/10.1214/aoms/1177729586>`_, 1951.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = sgd(0.5)
      >>> params = {"w": jnp.array([1.0, 2.0])}
      >>> grads = {"w": jnp.array([2.0, 4.0])}
      >>> updates, state = optimizer.update(grads, optimizer.init(params))
      >>> optax.apply_updates(params, updates)["w"].tolist()
      [0.0, 0.0]
    """
    check_hyperparameter("learning_rate", learning_rate)
    core = outside(
        Core(
            SGDState,
            init=lambda params: SGDState(count=jnp.zeros([], jnp.int32)),
            update=lambda grads, state, params: (grads, state),
            accumulators=lambda state: (),
        ),
        learning_rate,
    )
    return transformation(with_weight_decay(core, learning_rate, weight_decay, False, mask))

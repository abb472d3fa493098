"""Gradient descent."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax.optimizers._core import Core, outside, transformation
from momentum_jax.optimizers._hyperparameters import ScalarOrSchedule, check_hyperparameter
from momentum_jax.optimizers._weight_decay import with_weight_decay


class SGDState(NamedTuple):
    """The state of `sgd`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far; schedules are functions of it."""


def sgd(
    learning_rate: ScalarOrSchedule,
    *,
    weight_decay: ScalarOrSchedule | None = None,
    mask: PyTree[bool] | Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""(Stochastic) gradient descent.

    .. math::
      p_{t+1} = p_t - \eta_t (g_t + \omega_t p_t)

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      weight_decay: ω ≥ 0, likewise, or None for 0. Without a velocity, coupled and decoupled decay are the same.
      mask: which parameters decay: booleans in a prefix of their tree, or a function from parameters to one.

    Returns:
      An Optax transformation. Its updates have the dtypes of the gradients. `update` needs `params` if weights decay.

    Raises:
      InputError: a hyperparameter is out of its range; from `init` and `update`, trees do not match or a leaf is not
        real floating-point. The message names the path of the leaf.

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

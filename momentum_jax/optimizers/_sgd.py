"""Gradient descent."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax.optimizers._hyperparameters import (
    ScalarOrSchedule,
    at_count,
    check_hyperparameter,
    compute_dtype,
)


class SGDState(NamedTuple):
    """State of `sgd`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """Updates made so far, for schedules."""


def sgd(learning_rate: ScalarOrSchedule) -> optax.GradientTransformation:
    r"""Gradient descent, on mini-batches stochastic gradient descent.

    .. math::
      p_{t+1} = p_t - \eta_t g_t

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.

    Returns:
      A transformation whose updates have the dtype of the gradients.

    Raises:
      InputError: a concrete learning rate that is negative or not finite.

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

    def init(params: PyTree[Array]) -> SGDState:
        del params
        return SGDState(count=jnp.zeros([], jnp.int32))

    def update(updates: PyTree[Array], state: SGDState, params: Any = None) -> tuple[PyTree[Array], SGDState]:
        del params
        eta = at_count(learning_rate, state.count)

        def step(g: Array) -> Array:
            dtype = compute_dtype(g)
            return (-jnp.asarray(eta, dtype) * g.astype(dtype)).astype(g.dtype)

        return jax.tree.map(step, updates), SGDState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)

"""Classical momentum, the heavy ball."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax.optimizers._hyperparameters import (
    Scalar,
    ScalarOrSchedule,
    at_count,
    check_hyperparameter,
    compute_dtype,
)


class MomentumState(NamedTuple):
    """State of `momentum` and `nesterov`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """Updates made so far, for schedules."""
    velocity: PyTree[Array]
    """v, with the structure, shapes and dtypes of the parameters; it includes the learning rate."""


def init_momentum(params: PyTree[Array]) -> MomentumState:
    return MomentumState(count=jnp.zeros([], jnp.int32), velocity=jax.tree.map(jnp.zeros_like, params))


def accelerate(
    velocity: PyTree[Array],
    grads: PyTree[Array],
    learning_rate: Scalar,
    momentum: Scalar,
) -> PyTree[Array]:
    """m·v − η·g for every leaf, in the dtypes of v."""

    def leaf(v: Array, g: Array) -> Array:
        dtype = compute_dtype(v)
        m, eta = jnp.asarray(momentum, dtype), jnp.asarray(learning_rate, dtype)
        return (m * v.astype(dtype) - eta * g.astype(dtype)).astype(v.dtype)

    return jax.tree.map(leaf, velocity, grads)


def check_momentum(learning_rate: ScalarOrSchedule, momentum: ScalarOrSchedule) -> None:
    check_hyperparameter("learning_rate", learning_rate)
    check_hyperparameter("momentum", momentum)


def momentum(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
) -> optax.GradientTransformation:
    r"""Momentum as the tutorial writes it: the heavy ball, with the learning rate inside the velocity.

    .. math::
      v_{t+1} = m_t v_t - \eta_t g_t, \qquad p_{t+1} = p_t + v_{t+1}, \qquad v_0 = 0

    At a constant learning rate the iterates are those of `optax.sgd(learning_rate, momentum)` and of PyTorch's
    `SGD`, which keep it outside (b ← m·b + g, p ← p − η·b). Under a schedule the two differ: here a step down of
    the rate slows what is already in flight only as fast as m forgets it.

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      momentum: m in [0, 1), likewise.

    Returns:
      A transformation whose state, and so its updates, have the dtypes of the parameters.

    Raises:
      InputError: a concrete hyperparameter that is out of its range.

    References:
      Polyak, `Some methods of speeding up the convergence of iteration methods
      <https://doi.org/10.1016/0041-5553(64)90137-5>`_, 1964; Rumelhart et al., `Learning representations by
      back-propagating errors <https://doi.org/10.1038/323533a0>`_, 1986.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = momentum(0.5, 0.5)
      >>> params, grads = jnp.array(1.0), jnp.array(1.0)
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(grads, state)
      ...     params = optax.apply_updates(params, updates)
      ...     print(params)
      0.5
      -0.25
      -1.125
    """
    check_momentum(learning_rate, momentum)

    def update(updates: PyTree[Array], state: MomentumState, params: Any = None) -> tuple[PyTree[Array], MomentumState]:
        del params
        eta, m = at_count(learning_rate, state.count), at_count(momentum, state.count)
        velocity = accelerate(state.velocity, updates, eta, m)
        return velocity, MomentumState(count=optax.safe_increment(state.count), velocity=velocity)

    return optax.GradientTransformation(init_momentum, update)

"""Nesterov's accelerated gradient."""

from typing import Any

import optax
from jaxtyping import Array, PyTree

from momentum_jax.optimizers._hyperparameters import ScalarOrSchedule, at_count
from momentum_jax.optimizers._momentum import (
    MomentumState,
    accelerate,
    check_momentum,
    init_momentum,
)


def nesterov(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
) -> optax.GradientTransformation:
    r"""Nesterov momentum in the form of Optax, PyTorch and Keras.

    .. math::
      v_{t+1} = m_t v_t - \eta_t g_t, \qquad p_{t+1} = p_t + m_t v_{t+1} - \eta_t g_t, \qquad v_0 = 0

    While m is constant, p is the look-ahead point. At a constant learning rate the iterates are those of
    `optax.sgd(learning_rate, momentum, nesterov=True)`, PyTorch's and Keras's.

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      momentum: m in [0, 1), likewise.

    Returns:
      A transformation whose state, and so its updates, have the dtypes of the parameters.

    Raises:
      InputError: a concrete hyperparameter that is out of its range.

    References:
      Nesterov, `A method for solving the convex programming problem with convergence rate O(1/k²)
      <https://www.mathnet.ru/eng/dan46009>`_, 1983; Sutskever et al., `On the importance of initialization and
      momentum in deep learning <https://proceedings.mlr.press/v28/sutskever13.html>`_, 2013; Bengio et al.
      `1212.0901 <https://arxiv.org/abs/1212.0901>`_, equation 7, for this form.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = nesterov(0.5, 0.5)
      >>> params = jnp.array(1.0)
      >>> updates, state = optimizer.update(jnp.array(1.0), optimizer.init(params))
      >>> print(optax.apply_updates(params, updates))
      0.25
    """
    check_momentum(learning_rate, momentum)

    def update(updates: PyTree[Array], state: MomentumState, params: Any = None) -> tuple[PyTree[Array], MomentumState]:
        del params
        eta, m = at_count(learning_rate, state.count), at_count(momentum, state.count)
        velocity = accelerate(state.velocity, updates, eta, m)
        steps = accelerate(velocity, updates, eta, m)
        return steps, MomentumState(count=optax.safe_increment(state.count), velocity=velocity)

    return optax.GradientTransformation(init_momentum, update)

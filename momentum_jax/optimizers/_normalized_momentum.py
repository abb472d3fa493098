"""Normalized momentum."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers._core import Core, transformation, zeros_like
from momentum_jax.optimizers._hyperparameters import (
    ScalarOrSchedule,
    at_count,
    check_accumulator_dtype,
    check_hyperparameter,
)
from momentum_jax.optimizers._trees import direction, linear
from momentum_jax.optimizers._weight_decay import with_weight_decay


class NormalizedMomentumState(NamedTuple):
    """The state of `normalized_momentum`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far; schedules are functions of it."""
    average: PyTree[Array]
    """a, the average of the gradients. It has the structure and shapes of the parameters."""


class TransportedMomentumState(NamedTuple):
    """The state of `normalized_momentum` with `transported=True`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far; schedules are functions of it."""
    average: PyTree[Array]
    """a, the average of the gradients. It has the structure and shapes of the parameters."""
    lookahead: PyTree[Array]
    """w − x. The parameters are w, where the gradient is taken; the parameters minus this are x."""


def normalized_momentum(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
    *,
    transported: bool = False,
    weight_decay: ScalarOrSchedule | None = None,
    decoupled_weight_decay: bool = False,
    mask: PyTree[bool] | Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Normalized momentum: a step of length η along the moving average of the gradients.

    .. math::
      a_1 = g_0, \qquad a_{t+1} = m_t a_t + (1 - m_t) g_t, \qquad
      p_{t+1} = p_t - \eta_t \frac{a_{t+1}}{\lVert a_{t+1} \rVert}

    The norm is that of all parameters together. Where a is 0 there is no step.

    With `transported=True` (NIGT, normalized SGD with implicit gradient transport) gradients are taken at the points
    w, ahead of x by so much that their average a is the gradient at x, exactly where the loss is quadratic:
    a_{t+1} = ∇f(x_t). The parameters are w:

    .. math::
      x_{t+1} = x_t - \eta_t \frac{a_{t+1}}{\lVert a_{t+1} \rVert}, \qquad
      w_{t+1} = x_{t+1} + \frac{m_{t+1}}{1 - m_{t+1}} (x_{t+1} - x_t), \qquad w_0 = x_0

    x are then the parameters minus `lookahead` of the state. Apply the updates unchanged, or the parameters are no
    longer w. `optax.inject_hyperparams` hands on the present value of a scheduled momentum only, which is then taken
    for m_{t+1}. The norm needs all parameters on each device of a `shard_map`.

    Args:
      learning_rate: η ≥ 0, the length of a step in units of the parameters: a float, a scalar array (traced or not) or
        an `optax.Schedule`.
      momentum: m in [0, 1) (β in the paper), likewise.
      transported: whether gradients are transported.
      weight_decay: ω ≥ 0, likewise, or None for 0. It is coupled by default: g ← g + ω·p before everything else.
      decoupled_weight_decay: add −η·ω·p to the update instead; neither the norm nor `lookahead` contain the decay.
      mask: which parameters decay: booleans in a prefix of their tree, or a function from parameters to one.
      accumulator_dtype: the dtype of the average and the look-ahead; None for that of the parameters.

    Returns:
      An Optax transformation. Its updates have the dtypes of the gradients. `update` needs `params` if weights decay.

    Raises:
      InputError: a hyperparameter is out of its range; from `init` and `update`, trees do not match or a leaf is not
        real floating-point. The message names the path of the leaf.

    References:
      Cutkosky and Mehta, `Momentum improves normalized SGD <https://arxiv.org/abs/2002.03305>`_, 2020, algorithms 1
      and 2.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = jnp.array([1.0, 1.0])
      >>> optimizer = normalized_momentum(0.5)
      >>> print(optimizer.update(jnp.array([3.0, 4.0]), optimizer.init(params))[0])
      [-0.3 -0.4]
      >>> optimizer = normalized_momentum(0.5, momentum=0.5, transported=True)
      >>> print(optimizer.update(jnp.array([3.0, 4.0]), optimizer.init(params))[0])  # the step and the look-ahead
      [-0.6 -0.8]
    """
    check_hyperparameter("learning_rate", learning_rate)
    check_hyperparameter("momentum", momentum)
    if not isinstance(transported, bool):
        raise InputError(f"transported must be True or False, not {transported!r}")
    check_accumulator_dtype(accumulator_dtype)

    def init(params: PyTree[Array]) -> Any:
        count, average = jnp.zeros([], jnp.int32), zeros_like(params, accumulator_dtype)
        if transported:
            return TransportedMomentumState(count, average, zeros_like(params, accumulator_dtype))
        return NormalizedMomentumState(count, average)

    def update(grads: PyTree[Array], state: Any, params: Any) -> tuple[PyTree[Array], Any]:
        del params
        m = at_count(momentum, state.count)
        kept = jnp.where(state.count == 0, 0, m)
        average = linear((kept, state.average), (1 - kept, grads))
        step = linear((-at_count(learning_rate, state.count), direction(average)))
        if not transported:
            return step, state._replace(average=average)
        # The gradient there is averaged with the momentum of the next step.
        m_next = at_count(momentum, optax.safe_increment(state.count))
        lookahead = linear((m_next / (1 - m_next), step))
        updates = linear((1, step), (1, lookahead), (-1, state.lookahead))
        return updates, state._replace(average=average, lookahead=lookahead)

    core = (
        Core(TransportedMomentumState, init, update, lambda state: (state.average, state.lookahead))
        if transported
        else Core(NormalizedMomentumState, init, update, lambda state: (state.average,))
    )
    core = with_weight_decay(core, learning_rate, weight_decay, decoupled_weight_decay, mask)
    return transformation(core, accumulator_dtype)

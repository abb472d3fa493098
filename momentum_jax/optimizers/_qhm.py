"""Quasi-hyperbolic momentum."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax.optimizers._core import Core, outside, transformation, zeros_like
from momentum_jax.optimizers._hyperparameters import (
    ScalarOrSchedule,
    at_count,
    check_accumulator_dtype,
    check_hyperparameter,
)
from momentum_jax.optimizers._trees import linear
from momentum_jax.optimizers._weight_decay import with_weight_decay


class QHMState(NamedTuple):
    """The state of `qhm`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far; schedules are functions of it."""
    average: PyTree[Array]
    """a, the average of the gradients. It has the structure and shapes of the parameters."""


def _core(momentum: ScalarOrSchedule, nu: ScalarOrSchedule, accumulator_dtype: Any) -> Core:
    check_hyperparameter("momentum", momentum)
    check_hyperparameter("nu", nu)
    check_accumulator_dtype(accumulator_dtype)

    def init(params: PyTree[Array]) -> QHMState:
        return QHMState(count=jnp.zeros([], jnp.int32), average=zeros_like(params, accumulator_dtype))

    def update(grads: PyTree[Array], state: QHMState, params: Any) -> tuple[PyTree[Array], QHMState]:
        del params
        m, nu_now = at_count(momentum, state.count), at_count(nu, state.count)
        average = linear((m, state.average), (1 - m, grads))
        return linear((1 - nu_now, grads), (nu_now, average)), state._replace(average=average)

    return Core(QHMState, init, update, lambda state: (state.average,))


def qhm(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.999,
    nu: ScalarOrSchedule = 0.7,
    *,
    weight_decay: ScalarOrSchedule | None = None,
    decoupled_weight_decay: bool = False,
    mask: PyTree[bool] | Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Quasi-hyperbolic momentum (QHM): a weighted mean of the gradient and its moving average.

    .. math::
      a_{t+1} = m_t a_t + (1 - m_t) g_t, \qquad
      p_{t+1} = p_t - \eta_t [(1 - \nu_t) g_t + \nu_t a_{t+1}], \qquad a_0 = 0

    Three values of ν give other methods:

    - ν = 0: `sgd` at the learning rate η;
    - ν = 1: `momentum` at the learning rate η·(1 − m);
    - ν = m: `nesterov` at the learning rate η·(1 − m).

    The average does not include the learning rate and is not debiased, as in the paper.

    Args:
      learning_rate: η ≥ 0 (α in the paper), a float, a scalar array (traced or not) or an `optax.Schedule`.
      momentum: m in [0, 1) (β in the paper), likewise.
      nu: ν in [0, 1], likewise.
      weight_decay: ω ≥ 0, likewise, or None for 0. It is coupled by default: g ← g + ω·p before everything else.
      decoupled_weight_decay: add −η·ω·p to the update instead; the average does not contain the decay.
      mask: which parameters decay: booleans in a prefix of their tree, or a function from parameters to one.
      accumulator_dtype: the dtype of the average; None for that of the parameters.

    Returns:
      An Optax transformation. Its updates have the dtypes of the gradients. `update` needs `params` if weights decay.

    Raises:
      InputError: a hyperparameter is out of its range; from `init` and `update`, trees do not match or a leaf is not
        real floating-point. The message names the path of the leaf.

    References:
      Ma and Yarats, `Quasi-hyperbolic momentum and Adam for deep learning <https://arxiv.org/abs/1810.06801>`_,
      2019.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = qhm(1.0, momentum=0.5, nu=0.5)
      >>> params = jnp.array(1.0)
      >>> updates, state = optimizer.update(jnp.array(1.0), optimizer.init(params))
      >>> print(updates)  # half of the gradient 1 and half of the average 0.5
      -0.75
    """
    check_hyperparameter("learning_rate", learning_rate)
    core = outside(_core(momentum, nu, accumulator_dtype), learning_rate)
    core = with_weight_decay(core, learning_rate, weight_decay, decoupled_weight_decay, mask)
    return transformation(core, accumulator_dtype)


def scale_by_qhm(
    momentum: ScalarOrSchedule = 0.999, nu: ScalarOrSchedule = 0.7, *, accumulator_dtype: Any = None
) -> optax.GradientTransformationExtraArgs:
    r"""The rule of `qhm` without the learning rate, for `optax.chain`.

    .. math::
      a_{t+1} = m_t a_t + (1 - m_t) g_t, \qquad u_t = (1 - \nu_t) g_t + \nu_t a_{t+1}, \qquad a_0 = 0

    Args:
      momentum: m in [0, 1), a float, a scalar array (traced or not) or an `optax.Schedule`.
      nu: ν in [0, 1], likewise.
      accumulator_dtype: the dtype of a; None for that of the parameters.

    Returns:
      An Optax transformation from gradients to u, in the dtypes of the gradients.

    Raises:
      InputError: as `qhm`.

    References:
      As `qhm`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = optax.chain(scale_by_qhm(0.5, 0.5), optax.scale_by_learning_rate(0.1))
      >>> params = jnp.array(1.0)
      >>> updates, state = optimizer.update(jnp.array(1.0), optimizer.init(params))
      >>> print(updates)
      -0.075
    """
    return transformation(_core(momentum, nu, accumulator_dtype), accumulator_dtype)

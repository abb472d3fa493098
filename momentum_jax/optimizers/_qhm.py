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
    """State of `qhm`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """Updates made so far, for schedules."""
    average: PyTree[Array]
    """a, the average of the gradients, with the structure and shapes of the parameters."""


def _core(momentum: ScalarOrSchedule, nu: ScalarOrSchedule, accumulator_dtype: Any) -> Core:
    check_hyperparameter("momentum", momentum)
    check_hyperparameter("nu", nu)
    check_accumulator_dtype(accumulator_dtype)

    def init(params: PyTree[Array]) -> QHMState:
        return QHMState(count=jnp.zeros([], jnp.int32), average=zeros_like(params, accumulator_dtype))

    def update(grads: PyTree[Array], state: QHMState, params: Any) -> tuple[PyTree[Array], QHMState]:
        del params
        m, share = at_count(momentum, state.count), at_count(nu, state.count)
        average = linear((m, state.average), (1 - m, grads))
        return linear((1 - share, grads), (share, average)), state._replace(average=average)

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
    r"""Quasi-hyperbolic momentum: a step between the gradient and its average.

    .. math::
      a_{t+1} = m_t a_t + (1 - m_t) g_t, \qquad
      p_{t+1} = p_t - \eta_t [(1 - \nu_t) g_t + \nu_t a_{t+1}], \qquad a_0 = 0

    At η = η'/(1 − m), ν = 1 is the heavy ball with the rate η', ν = m is Nesterov's, and ν = 0 is gradient descent
    with the rate η. The learning rate is outside the average, and the average is not debiased, as in the paper.

    Args:
      learning_rate: η ≥ 0 (the paper's α), a float, a scalar array (traced or not) or an `optax.Schedule`.
      momentum: m in [0, 1) (β), likewise.
      nu: ν in [0, 1], likewise.
      weight_decay: ω ≥ 0, likewise, or None for 0; coupled, g ← g + ω·p before all else.
      decoupled_weight_decay: instead p ← p − η·ω·p beside the step, the average untouched.
      mask: which parameters decay: a prefix of their tree with booleans, or a function that makes one of them.
      accumulator_dtype: of the average, if not that of the parameters.

    Returns:
      A transformation whose updates have the dtypes of the gradients. Updates need `params` for weight decay only.

    Raises:
      InputError: a concrete hyperparameter that is out of its range; from `init` and `update`, trees that do not
        match and leaves that are not real floating-point, by path.

    References:
      Ma and Yarats, `Quasi-hyperbolic momentum and Adam for deep learning <https://arxiv.org/abs/1810.06801>`_,
      2019.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = qhm(1.0, momentum=0.5, nu=0.5)
      >>> params = jnp.array(1.0)
      >>> updates, state = optimizer.update(jnp.array(1.0), optimizer.init(params))
      >>> print(updates)  # half of the gradient, and half of an average that is half there
      -0.75
    """
    check_hyperparameter("learning_rate", learning_rate)
    core = outside(_core(momentum, nu, accumulator_dtype), learning_rate)
    core = with_weight_decay(core, learning_rate, weight_decay, decoupled_weight_decay, mask)
    return transformation(core, accumulator_dtype)


def scale_by_qhm(
    momentum: ScalarOrSchedule = 0.999, nu: ScalarOrSchedule = 0.7, *, accumulator_dtype: Any = None
) -> optax.GradientTransformationExtraArgs:
    r"""The direction of `qhm` alone, for a chain of one's own.

    .. math::
      a_{t+1} = m_t a_t + (1 - m_t) g_t, \qquad u_t = (1 - \nu_t) g_t + \nu_t a_{t+1}, \qquad a_0 = 0

    Args:
      momentum: m in [0, 1), a float, a scalar array (traced or not) or an `optax.Schedule`.
      nu: ν in [0, 1], likewise.
      accumulator_dtype: of a, if not that of the parameters.

    Returns:
      A transformation from gradients to u, in the dtypes of the gradients.

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

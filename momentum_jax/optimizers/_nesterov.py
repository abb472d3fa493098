"""Nesterov momentum (Nesterov's accelerated gradient)."""

from typing import Any

import optax
from jaxtyping import PyTree

from momentum_jax.optimizers._core import transformation
from momentum_jax.optimizers._hyperparameters import ScalarOrSchedule
from momentum_jax.optimizers._momentum import VelocityConvention, velocity_core, velocity_method


def nesterov(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
    *,
    dampening: ScalarOrSchedule = 0.0,
    convention: VelocityConvention = "inside",
    weight_decay: ScalarOrSchedule | None = None,
    decoupled_weight_decay: bool = False,
    mask: PyTree[bool] | Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Nesterov momentum in the form of Optax, PyTorch and Keras.

    .. math::
      v_{t+1} = m_t v_t - \eta_t g_t, \qquad p_{t+1} = p_t + m_t v_{t+1} - \eta_t g_t, \qquad v_0 = 0

    The parameters p are the points where gradients are taken: in the form of Sutskever et al., the look-ahead points
    θ + m·v. When the momentum changes, that form uses its next value:

    .. math::
      p_{t+1} &= p_t + m_t v_{t+1} - \eta_t g_t & \text{(here, Optax, PyTorch, Keras)} \\
      p_{t+1} &= p_t + m_{t+1} v_{t+1} - \eta_t g_t & \text{(Sutskever et al.)}

    At a constant learning rate the iterates equal those of `optax.sgd(learning_rate, momentum, nesterov=True)`,
    PyTorch and Keras. With `convention="outside"`,

    .. math::
      b_{t+1} = m_t b_t + g_t, \qquad p_{t+1} = p_t - \eta_t (m_t b_{t+1} + g_t), \qquad b_0 = 0,

    they equal those of Optax and PyTorch under any schedule of the learning rate. `momentum` explains "corrected".

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      momentum: m in [0, 1), likewise.
      dampening: d in [0, 1], likewise. It multiplies the gradients in the velocity by 1 − d, but not the first one and
        not where m = 0. The term −η·g of the step is not dampened. PyTorch's function `torch.optim.sgd.sgd` computes
        the same; its class `torch.optim.SGD` refuses dampening with Nesterov momentum.
      convention: "inside", "outside" or "corrected".
      weight_decay: ω ≥ 0, likewise, or None for 0. It is coupled by default: g ← g + ω·p before everything else.
      decoupled_weight_decay: add −η·ω·p to the update instead; the velocity does not contain the decay.
      mask: which parameters decay: booleans in a prefix of their tree, or a function from parameters to one.
      accumulator_dtype: the dtype of the velocity; None for that of the parameters.

    Returns:
      An Optax transformation. Its updates have the dtypes of the gradients. `update` needs `params` if weights decay.

    Raises:
      InputError: as `momentum`.

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
    core = velocity_core(momentum, dampening, accumulator_dtype, nesterov=True)
    return velocity_method(
        learning_rate, core, convention, weight_decay, decoupled_weight_decay, mask, accumulator_dtype
    )


def scale_by_nesterov(
    momentum: ScalarOrSchedule = 0.9, *, dampening: ScalarOrSchedule = 0.0, accumulator_dtype: Any = None
) -> optax.GradientTransformationExtraArgs:
    r"""The rule of `nesterov` without the learning rate, for `optax.chain`.

    .. math::
      b_{t+1} = m_t b_t + (1 - d_t) g_t, \qquad u_t = m_t b_{t+1} + g_t, \qquad b_1 = g_0

    Followed by `optax.scale_by_learning_rate`, it is `nesterov` with `convention="outside"`. Preceded by it, it is
    `nesterov` with `convention="inside"`.

    Args:
      momentum: m in [0, 1), a float, a scalar array (traced or not) or an `optax.Schedule`.
      dampening: d in [0, 1], likewise.
      accumulator_dtype: the dtype of b; None for that of the parameters.

    Returns:
      An Optax transformation from gradients to u, in the dtypes of the gradients.

    Raises:
      InputError: as `momentum`.

    References:
      As `nesterov`.

    Examples:
      >>> import jax.numpy as jnp
      >>> direction = scale_by_nesterov(0.5)
      >>> params = jnp.array(1.0)
      >>> updates, state = direction.update(jnp.array(1.0), direction.init(params))
      >>> print(updates)
      1.5
    """
    core = velocity_core(momentum, dampening, accumulator_dtype, nesterov=True)
    return transformation(core, accumulator_dtype)

"""Nesterov's accelerated gradient."""

from typing import Any

import optax
from jaxtyping import PyTree

from momentum_jax.optimizers._core import transformation
from momentum_jax.optimizers._hyperparameters import ScalarOrSchedule
from momentum_jax.optimizers._momentum import Convention, velocity_core, velocity_method


def nesterov(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
    *,
    dampening: ScalarOrSchedule = 0.0,
    convention: Convention = "inside",
    weight_decay: ScalarOrSchedule | None = None,
    decoupled_weight_decay: bool = False,
    mask: PyTree[bool] | Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Nesterov momentum in the form of Optax, PyTorch and Keras.

    .. math::
      v_{t+1} = m_t v_t - \eta_t g_t, \qquad p_{t+1} = p_t + m_t v_{t+1} - \eta_t g_t, \qquad v_0 = 0

    While m is constant, p is the look-ahead point θ + m·v of an iterate θ that is not kept. When m changes it is not
    quite: in Sutskever's form the step looks ahead with the next m, here as in those libraries with the present one.
    At a constant learning rate the iterates are those of `optax.sgd(learning_rate, momentum, nesterov=True)`,
    PyTorch's and Keras's. With `convention="outside"` (b ← m·b + g; p ← p − η·(m·b + g)) they are those of Optax and
    PyTorch under a schedule too; "corrected" is explained at `momentum`.

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      momentum: m in [0, 1), likewise.
      dampening: d in [0, 1], likewise: gradients enter the velocity, not the step itself, with the factor 1 − d,
        except the first and where m = 0. PyTorch's class refuses what its `torch.optim.sgd` function computes so.
      convention: "inside", "outside" or "corrected".
      weight_decay: ω ≥ 0, likewise, or None for 0; coupled, g ← g + ω·p before all else.
      decoupled_weight_decay: instead p ← p − η·ω·p beside the step, the velocity untouched.
      mask: which parameters decay: a prefix of their tree with booleans, or a function that makes one of them.
      accumulator_dtype: of the velocity, if not that of the parameters.

    Returns:
      A transformation whose updates have the dtypes of the gradients. Updates need `params` for weight decay only.

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
    r"""The direction of `nesterov` alone, for a chain of one's own.

    .. math::
      b_{t+1} = m_t b_t + (1 - d_t) g_t, \qquad u_t = m_t b_{t+1} + g_t, \qquad b_1 = g_0

    `optax.scale_by_learning_rate` after it gives `nesterov` with the convention "outside", before it "inside".

    Args:
      momentum: m in [0, 1), a float, a scalar array (traced or not) or an `optax.Schedule`.
      dampening: d in [0, 1], likewise.
      accumulator_dtype: of b, if not that of the parameters.

    Returns:
      A transformation from gradients to u, in the dtypes of the gradients.

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
